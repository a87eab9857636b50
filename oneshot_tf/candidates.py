"""candidates.csv, and which of its architectures are trained alone."""

import csv
import dataclasses
import io
import math
import pathlib

import numpy as np

from oneshot_tf.errors import InputError
from oneshot_tf.files import append_line, read_text, write_atomically
from oneshot_tf.printable import command
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace

COLUMNS = ("rank", "candidate_accuracy", "cross_entropy", "num_images", "divergence",
           "parameters", "multiply_adds", "architecture")  # fmt: skip
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
            if getattr(self, name) is not None:
                object.__setattr__(self, name, round(getattr(self, name), 6))

    def check(self) -> None:
        """Raises ValueError for what can't have been measured."""
        measured = self.num_images > 0
        for name in ("candidate_accuracy", "cross_entropy"):
            value = getattr(self, name)
            if (value is not None) != measured or (measured and not 0 <= value < math.inf):
                raise ValueError(f"{name}={value} on {self.num_images} images")
        if measured and self.candidate_accuracy > 1:
            raise ValueError(f"candidate_accuracy={self.candidate_accuracy}")
        if self.divergence is not None and not math.isfinite(self.divergence):
            raise ValueError(f"divergence={self.divergence}")
        if min(self.num_images, self.parameters, self.multiply_adds, self.rank) < 0:
            raise ValueError("a negative number")

    def row(self) -> list[str]:
        """The values of `COLUMNS`."""
        accuracy, entropy, divergence = (
            "" if value is None else f"{value:.6f}"
            for value in (self.candidate_accuracy, self.cross_entropy, self.divergence)
        )
        costs = [str(self.parameters), str(self.multiply_adds), str(self.architecture)]
        return [str(self.rank or ""), accuracy, entropy, str(self.num_images), divergence, *costs]


def ranked(candidates) -> list[Candidate]:
    """Sorted by candidate accuracy; ties by cross-entropy, then by text.

    Those measured on fewer images, which stopped early, come after those measured
    on more; those not measured at all come last, by divergence.
    """

    def key(c):
        if c.candidate_accuracy is None:
            return (0, c.divergence or 0.0, 0.0, str(c.architecture))
        return (-c.num_images, -c.candidate_accuracy, c.cross_entropy, str(c.architecture))

    best = sorted(candidates, key=key)
    return [dataclasses.replace(c, rank=i) for i, c in enumerate(best, start=1)]


class CandidateFile:
    """candidates.csv: lines are appended while a search goes on, sorted by rank when it stops.

    Args:
        path: the file.
        space: which every architecture in it must belong to.
        writes: False in processes that only take part in a search.
    """

    def __init__(self, path, space: CellSpace, writes: bool = True):
        self.path, self.space, self.writes = pathlib.Path(path), space, writes

    def read(self) -> list[Candidate]:
        """The candidates in the file; none if there is no file. Half a last line is dropped.

        Raises:
            InputError: a line that isn't one; the message has its number.
        """
        if not self.path.exists():
            return []
        text = read_text(self.path)
        whole, newline, half = text.rpartition("\n")
        if half:
            print(
                f"{self.path}: half a last line is dropped and will be evaluated again.", flush=True
            )
        rows = csv.reader(io.StringIO(whole + newline))
        header = next(rows, None)
        if header is None:
            return []
        if tuple(header) != COLUMNS:
            raise InputError(
                f"{self.path} has the columns {header}; needed are {', '.join(COLUMNS)}."
            )
        found = {}
        try:
            for row in rows:
                candidate = self._parse(row, rows.line_num)
                if candidate.architecture in found:
                    raise InputError(
                        f"{self.path}, line {rows.line_num}: {candidate.architecture} is there "
                        "twice; remove one of the lines."
                    )
                found[candidate.architecture] = candidate
        except csv.Error as error:
            raise InputError(f"{self.path}, line {rows.line_num}: {error}.") from None
        return list(found.values())

    def _parse(self, row, number) -> Candidate:
        try:
            rank, accuracy, entropy, images, divergence, parameters, multiply_adds, text = row
            candidate = Candidate(
                Architecture.from_text(text), _number(accuracy), _number(entropy), int(images),
                int(parameters), int(multiply_adds), int(rank or 0), _number(divergence),
            )  # fmt: skip
            self.space.check(candidate.architecture)
            candidate.check()
        except ValueError as error:  # InputError is one
            raise InputError(
                f"{self.path}, line {number} is damaged ({error}); remove that line to have the "
                "candidate evaluated again."
            ) from None
        return candidate

    def write(self, candidates) -> None:
        """Writes the whole file anew, atomically.

        Raises:
            ValueError: a candidate has what can't have been measured.
        """
        candidates = list(candidates)
        for candidate in candidates:
            candidate.check()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(c.row() for c in candidates)
        if self.writes:
            write_atomically(self.path, lambda file: file.write(text.getvalue()))

    def append(self, candidate: Candidate) -> None:
        """Adds one line. Raises ValueError as `write`."""
        candidate.check()
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(candidate.row())
        if self.writes:
            append_line(self.path, text.getvalue())


def _number(text: str) -> float | None:
    return float(text) if text else None


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
        chosen += [i for i in order if buckets[i] == bucket][:share]
    chosen += [i for i in order if i not in chosen][: count - len(chosen)]
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
