"""The candidates of a search, and their order."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.hints import print_with_next
from oneshot_tf.system.printable import command

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A line of candidates.csv.

    Args:
        architecture: The evaluated architecture.
        candidate_accuracy: Its accuracy with the shared weights, in [0, 1]; None if not measured.
        cross_entropy: Its mean cross-entropy in nats; None if not measured.
        num_images: Number of validation images that it was scored on.
        parameters: Number of parameters of the stand-alone model with the one-shot model's
            filters.
        multiply_adds: Multiply-adds of the same stand-alone model for one image.
        rank: The rank, where 1 is the best. 0 while the search goes on.
        divergence: Symmetrised KL divergence from the references, in nats; None if not measured.
        order: Its place among the proposals of the search, from 1; 0 if unknown.
        parent: The order of the candidate that it was made from; 0 if there is none.
        latency_ms, file_bytes: Its latency in milliseconds and the length of its file, if a limit
            or a front needs them; otherwise None. candidates.csv does not have them.
    """

    architecture: Architecture
    candidate_accuracy: float | None
    cross_entropy: float | None
    num_images: int
    parameters: int
    multiply_adds: int
    rank: int = 0
    divergence: float | None = None
    order: int = 0
    parent: int = 0
    latency_ms: float | None = None
    file_bytes: float | None = None

    def __post_init__(self) -> None:
        # Round as the file does, so that a ranking is the same before and after reading it.
        for name in ("candidate_accuracy", "cross_entropy", "divergence"):
            value = getattr(self, name)
            if value is not None and round(value, 6) != value:
                object.__setattr__(self, name, round(value, 6))

    def row(self) -> list[str]:
        """Returns the values of a line of candidates.csv, without the run."""
        accuracy, entropy, divergence = (
            "" if value is None else f"{value:.6f}"
            for value in (self.candidate_accuracy, self.cross_entropy, self.divergence)
        )
        costs = [str(self.parameters), str(self.multiply_adds), str(self.architecture)]
        origin = [str(self.order or ""), str(self.parent or "")]
        measured = [accuracy, entropy, str(self.num_images), divergence]
        return [str(self.rank or ""), *measured, *costs, *origin]


def order_key(candidate: Candidate) -> tuple:
    """Returns the sort key of a candidate, where the best sorts first.

    Candidates are sorted by candidate accuracy, ties by cross-entropy, then by text. Candidates
    that a race stopped early come after those scored on all images. Candidates without an
    accuracy come last, sorted by divergence.
    """
    c = candidate
    if c.candidate_accuracy is None:
        return (0, c.divergence or 0.0, 0.0, str(c.architecture))
    return (-c.num_images, -c.candidate_accuracy, c.cross_entropy or 0.0, str(c.architecture))


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Returns the candidates sorted by `order_key`, with their ranks."""
    best = sorted(candidates, key=order_key)
    return [c if c.rank == i else dataclasses.replace(c, rank=i) for i, c in enumerate(best, 1)]


def measured(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Returns the candidates scored on all images. Others cannot be compared with them."""
    candidates = list(candidates)
    whole = max((c.num_images for c in candidates), default=0)
    return [c for c in candidates if c.candidate_accuracy is not None and c.num_images == whole]


def pareto_front(candidates: Iterable[Candidate], cost: str = "parameters") -> list[Candidate]:
    """Returns the candidates that no other one beats in both accuracy and cost.

    Only candidates scored on all images count. Of equal ones, the better rank counts.

    Args:
        candidates: The candidates of a search.
        cost: "parameters", "multiply_adds", "latency_ms" or "file_bytes". Candidates whose cost
            is unknown do not count.

    Returns:
        The front. Costs and accuracies rise along it.
    """
    front: list[Candidate] = []

    def key(candidate: Candidate) -> tuple:
        return getattr(candidate, cost), -(candidate.candidate_accuracy or 0.0), candidate.rank

    known = [c for c in measured(candidates) if getattr(c, cost) is not None]
    for candidate in sorted(known, key=key):
        accuracy = candidate.candidate_accuracy or 0.0
        if not front or accuracy > (front[-1].candidate_accuracy or 0.0):
            front.append(candidate)
    return front


def print_top(best: Sequence[Candidate], measure: str = "candidate accuracy") -> None:
    """Prints the first ten ranked candidates, and the Pareto fronts by counted costs."""
    print(f"rank  {measure}  parameters  architecture")
    for c in best[:10]:
        accuracy = "-" if c.candidate_accuracy is None else f"{c.candidate_accuracy:.4f}"
        print(f"{c.rank:4d}  {accuracy:>{len(measure)}}  {c.parameters:10,}  {c.architecture}")
    for cost, words in (("parameters", "parameters"), ("multiply_adds", "multiply-adds")):
        front = pareto_front(best, cost)
        print_front(front, words, [f"{getattr(c, cost):,}" for c in front])


def print_next(best: Sequence[Candidate], directory: Any) -> None:
    """Prints where the candidates of a `RunDirectory` are, and the next command."""
    path, searched = directory.path, directory.searched
    flags = [f"--run_dir={path}", *([f"--search={searched.name}"] if searched != path else [])]
    print_with_next(
        f"{len(best):,} candidates are in {searched / 'candidates.csv'}.",
        command("retrain", *flags),
    )


def print_front(front: Sequence[Candidate], words: str, costs: Sequence[str]) -> None:
    """Prints up to five points of a Pareto front: costs, given as texts, and accuracies."""
    if front:
        pairs = spread(list(zip(costs, front)), 5)
        points = "  ".join(f"{cost}: {c.candidate_accuracy:.4f}" for cost, c in pairs)
        print(f"Pareto front of {len(front)} by {words}: {points}", flush=True)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Returns up to `count` items, evenly spread, the first and the last included."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
