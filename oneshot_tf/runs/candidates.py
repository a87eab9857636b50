"""Candidates of a search, their order, and which of them are trained alone."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import command

_PER_BUCKET = 4


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A line of candidates.csv.

    Args:
        architecture: what was evaluated.
        candidate_accuracy: its accuracy with the shared weights, in [0, 1]; None if not measured.
        cross_entropy: its mean cross-entropy, in nats; None if not measured.
        num_images: how many validation images that was measured on.
        parameters: of the stand-alone net at the one-shot model's filters.
        multiply_adds: of it, for an image.
        divergence: symmetrised KL divergence from the references, in nats; None if not measured.
        rank: 1 is best; 0 while the search goes on.
    """

    architecture: Architecture
    candidate_accuracy: float | None
    cross_entropy: float | None
    num_images: int
    parameters: int
    multiply_adds: int
    rank: int = 0
    divergence: float | None = None

    def __post_init__(self):
        # As the file has them, so that a ranking is the same before and after reading it.
        for name in ("candidate_accuracy", "cross_entropy", "divergence"):
            value = getattr(self, name)
            if value is not None and round(value, 6) != value:
                object.__setattr__(self, name, round(value, 6))

    def row(self) -> list[str]:
        """The values of a line of candidates.csv, but for the run."""
        accuracy, entropy, divergence = (
            "" if value is None else f"{value:.6f}"
            for value in (self.candidate_accuracy, self.cross_entropy, self.divergence)
        )
        costs = [str(self.parameters), str(self.multiply_adds), str(self.architecture)]
        return [str(self.rank or ""), accuracy, entropy, str(self.num_images), divergence, *costs]


def order_key(candidate: Candidate) -> tuple:
    """What candidates are sorted by, the best first.

    By candidate accuracy; ties by cross-entropy, then by text. Those measured on fewer images,
    which stopped early, come after those measured on more; those not measured at all come last,
    by divergence.
    """
    c = candidate
    if c.candidate_accuracy is None:
        return (0, c.divergence or 0.0, 0.0, str(c.architecture))
    return (-c.num_images, -c.candidate_accuracy, c.cross_entropy, str(c.architecture))


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sorted by `order_key`, with their ranks; one whose rank is right is returned as it is."""
    best = sorted(candidates, key=order_key)
    return [c if c.rank == i else dataclasses.replace(c, rank=i) for i, c in enumerate(best, 1)]


def print_top(best, path) -> None:
    """Prints the first ten of ranked candidates of the run directory `path`."""
    print("rank  candidate accuracy  parameters  architecture")
    for c in best[:10]:
        accuracy = "-" if c.candidate_accuracy is None else f"{c.candidate_accuracy:.4f}"
        print(f"{c.rank:4d}  {accuracy:>18}  {c.parameters:10,}  {c.architecture}")
    print(
        f"{len(best):,} candidates are in {path / 'candidates.csv'}. Next: "
        f"{command('retrain', f'--run_dir={path}')}",
        flush=True,
    )


def select(candidates, retrain) -> list[Candidate]:
    """The candidates to train alone, by rank (sections 3.4 and 4.1).

    Args:
        candidates: of the search.
        retrain: `RetrainSettings`: `select`, `count`, `top`, `percentile`, `seed`.

    Raises:
        InputError: there are too few.
    """
    candidates, count = ranked(candidates), retrain.count
    rng = np.random.default_rng(retrain.seed)
    if not candidates:
        raise InputError(
            f"--select={retrain.select} needs candidates, and there are none yet: run python -m "
            "oneshot_tf.search first."
        )
    if retrain.select == "top":
        if retrain.top > len(candidates):
            raise InputError(
                f"--top={retrain.top}, but {len(candidates):,} candidates were evaluated; give "
                "a smaller --top, or search more: python -m oneshot_tf.search --num_candidates=N."
            )
        _check_count(count, retrain.top, f"--top={retrain.top} candidates")
        _check_accuracies(
            retrain, candidates[: retrain.top], candidates, f"the best --top={retrain.top}"
        )
        # One from each of `count` runs of neighbouring ranks.
        strata = np.array_split(np.arange(retrain.top), count)
        return [candidates[int(rng.choice(stratum))] for stratum in strata]
    if retrain.select == "small":
        # By rank, so that candidates which stopped early count with their place.
        last = int(np.ceil(len(candidates) * (1 - retrain.percentile / 100)))
        good = candidates[: max(1, last)]
        _check_count(
            count, len(good), f"{len(good)} candidates from percentile {retrain.percentile}"
        )
        _check_accuracies(
            retrain, good, candidates, f"those from --percentile={retrain.percentile:g}"
        )
        return _by_rank(sorted(good, key=lambda c: (c.parameters, c.rank))[:count])
    _check_count(count, len(candidates), f"{len(candidates)} candidates")
    if retrain.select == "stratified":
        return _by_rank(_stratified(candidates, count, rng))
    chosen = rng.choice(len(candidates), count, replace=False)
    return _by_rank(candidates[i] for i in chosen)


def measured(candidates) -> list[Candidate]:
    """Those measured on all images: others stopped early, and can't be compared with them."""
    whole = max((c.num_images for c in candidates), default=0)
    return [c for c in candidates if c.candidate_accuracy is not None and c.num_images == whole]


@dataclasses.dataclass(frozen=True)
class Strata:
    """Buckets of candidate accuracy, all equally wide, from the worst to the best (section 4.1).

    Args:
        edges: of B buckets, ascending: B + 1 accuracies.
        candidates: how many candidates measured on all images are in each: B numbers.
    """

    edges: tuple[float, ...]
    candidates: tuple[int, ...]

    @classmethod
    def of(cls, candidates, count: int) -> "Strata":
        """The buckets for a sample of `count` candidates, four from each.

        Args:
            candidates: of the search; at least one is measured.
            count: size of the sample.
        """
        accuracies = [c.candidate_accuracy for c in measured(candidates)]
        buckets = -(-count // _PER_BUCKET)
        edges = np.linspace(min(accuracies), max(accuracies), buckets + 1)
        strata = cls(tuple(edges.tolist()), (0,) * buckets)
        sizes = np.bincount(strata.buckets(accuracies), minlength=buckets)
        return dataclasses.replace(strata, candidates=tuple(sizes.tolist()))

    def buckets(self, accuracies) -> np.ndarray:
        """The bucket of each accuracy: int `[N]`; the outer ones reach to 0 and to 1."""
        return np.digitize(np.asarray(accuracies, float), self.edges[1:-1])


def _stratified(candidates, count, rng) -> list[Candidate]:
    """Four of each bucket of candidate accuracy (section 4.1); see `Strata`.

    Where `count` isn't a multiple of four, the worse buckets give one less. Where
    buckets hold fewer, the rest comes from any.
    """
    whole = measured(candidates)
    _check_count(count, len(whole), f"{len(whole)} candidates measured on all images")
    strata = Strata.of(candidates, count)
    number = len(strata.candidates)
    buckets = strata.buckets([c.candidate_accuracy for c in whole])
    order = rng.permutation(len(whole))
    chosen = []
    for bucket in range(number):
        share = (count + bucket) // number  # they sum to `count`, and do not fall
        chosen += order[buckets[order] == bucket][:share].tolist()
    chosen += order[~np.isin(order, chosen)][: count - len(chosen)].tolist()
    return [whole[i] for i in chosen]


def _check_accuracies(retrain, pool, candidates, words) -> None:
    """Refuses to choose by accuracy if some candidates have none."""
    without = sum(c.candidate_accuracy is None for c in pool)
    known = sum(c.candidate_accuracy is not None for c in candidates)
    if without and known:
        raise InputError(
            f"--select={retrain.select} of {words}: {without} of these {len(pool)} have no "
            f"candidate accuracy, since the search by divergence measured {known} finalists. "
            f"{'Give --top=' + str(known) if retrain.select == 'top' else 'Raise --percentile'}, "
            "or search again with more --finalists."
        )


def _by_rank(candidates) -> list[Candidate]:
    """Sorted by the rank they have."""
    return sorted(candidates, key=lambda c: c.rank)


def _check_count(count, available, words):
    if count > available:
        raise InputError(f"--count={count} of {words}; give a smaller --count.")
