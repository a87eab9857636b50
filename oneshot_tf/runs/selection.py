"""Selections of candidates to train alone (sections 3.4 and 4.1).

To add a selection, write a function with the signature of `Selection`, and one entry in
SELECTIONS.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from oneshot_tf.runs.candidates import Candidate, measured, pareto_front, ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import RetrainSettings
from oneshot_tf.settings.retrain import COSTS
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import command

_PER_BUCKET = 4
_LIKE = 10  # with --parameters, random candidates come from one in this many

# A selection chooses from ranked candidates.
Selection = Callable[[list[Candidate], RetrainSettings, np.random.Generator], list[Candidate]]


def select(candidates: Iterable[Candidate], retrain: RetrainSettings) -> list[Candidate]:
    """Returns the candidates to train alone, by rank.

    Args:
        candidates: The candidates of the search.
        retrain: The settings. Only `select`, `count`, `top`, `percentile`, `front`,
            `parameters` and `seed` are used.

    Raises:
        InputError: There are too few candidates.
    """
    best = ranked(candidates)
    if not best:
        raise InputError(
            f"--select={retrain.select} needs candidates, but there are none yet. Run python -m "
            "oneshot_tf.search first."
        )
    return SELECTIONS[retrain.select](best, retrain, np.random.default_rng(retrain.seed))


def _top(
    best: list[Candidate], retrain: RetrainSettings, rng: np.random.Generator
) -> list[Candidate]:
    """Splits the best `top` by rank into `count` groups, and chooses one from each."""
    if retrain.top > len(best):
        raise InputError(
            f"--top must be at most the number of candidates, {len(best):,}; got {retrain.top}. "
            "Give a smaller --top, or search more: python -m oneshot_tf.search --num_candidates=N."
        )
    _check_count(retrain.count, retrain.top, f"--top={retrain.top} candidates")
    _check_accuracies(retrain, best[: retrain.top], best, f"the best --top={retrain.top}")
    strata = np.array_split(np.arange(retrain.top), retrain.count)
    return [best[int(rng.choice(stratum))] for stratum in strata]


def _small(
    best: list[Candidate], retrain: RetrainSettings, rng: np.random.Generator
) -> list[Candidate]:
    """Chooses the smallest candidates above a percentile of candidate accuracy."""
    # The percentile is taken by rank, so that candidates that stopped early count too.
    last = int(np.ceil(len(best) * (1 - retrain.percentile / 100)))
    good = best[: max(1, last)]
    words = f"{len(good)} candidates from percentile {retrain.percentile} upwards"
    _check_count(retrain.count, len(good), words)
    _check_accuracies(retrain, good, best, f"those from --percentile={retrain.percentile:g}")
    return _by_rank(sorted(good, key=lambda c: (c.parameters, c.rank))[: retrain.count])


def _random(
    best: list[Candidate], retrain: RetrainSettings, rng: np.random.Generator
) -> list[Candidate]:
    _check_count(retrain.count, len(best), f"{len(best)} candidates")
    if retrain.parameters:  # the tenth of the candidates whose size is nearest
        near = sorted(best, key=lambda c: (abs(c.parameters - retrain.parameters), c.rank))
        best = near[: max(retrain.count, len(best) // _LIKE)]
    chosen = rng.choice(len(best), retrain.count, replace=False)
    return _by_rank(best[i] for i in chosen)


@dataclasses.dataclass(frozen=True)
class Strata:
    """Buckets of candidate accuracy, equally wide, from the worst to the best (section 4.1).

    Args:
        edges: The edges of the B buckets, ascending: B + 1 accuracies.
        candidates: Number of candidates in each bucket, among those scored on all images: B
            numbers.
    """

    edges: tuple[float, ...]
    candidates: tuple[int, ...]

    @classmethod
    def of(cls, candidates: Iterable[Candidate], count: int) -> "Strata":
        """Returns the buckets for a sample of `count` candidates, four from each.

        Args:
            candidates: The candidates of the search. At least one must have an accuracy.
            count: Size of the sample.
        """
        accuracies = [c.candidate_accuracy for c in measured(candidates)]
        buckets = -(-count // _PER_BUCKET)
        edges = np.linspace(min(accuracies), max(accuracies), buckets + 1)  # type: ignore[type-var,arg-type]
        strata = cls(tuple(edges.tolist()), (0,) * buckets)
        sizes = np.bincount(strata.buckets(accuracies), minlength=buckets)
        return dataclasses.replace(strata, candidates=tuple(sizes.tolist()))

    def buckets(self, accuracies: Sequence[float | None]) -> np.ndarray:
        """Returns the bucket of each accuracy: int `[N]`. The outer buckets reach to 0 and 1."""
        return np.digitize(np.asarray(accuracies, float), self.edges[1:-1])


def _stratified(
    best: list[Candidate], retrain: RetrainSettings, rng: np.random.Generator
) -> list[Candidate]:
    """Chooses four from each bucket of candidate accuracy (section 4.1); see `Strata`.

    If `count` is not a multiple of four, the worse buckets give one less. If a bucket holds too
    few, the rest comes from any bucket.
    """
    count = retrain.count
    _check_count(count, len(best), f"{len(best)} candidates")
    whole = measured(best)
    _check_count(count, len(whole), f"{len(whole)} candidates measured on all images")
    strata = Strata.of(best, count)
    number = len(strata.candidates)
    buckets = strata.buckets([c.candidate_accuracy for c in whole])
    order = rng.permutation(len(whole))
    chosen: list[int] = []
    for bucket in range(number):
        share = (count + bucket) // number  # shares add up to `count` and do not fall
        chosen += order[buckets[order] == bucket][:share].tolist()
    chosen += order[~np.isin(order, chosen)][: count - len(chosen)].tolist()
    return _by_rank(whole[i] for i in chosen)


def _pareto(
    best: list[Candidate], retrain: RetrainSettings, rng: np.random.Generator
) -> list[Candidate]:
    """Candidates that no other beats in both accuracy and a cost, evenly spread over them."""
    front = pareto_front(best, COSTS[retrain.front])
    _check_count(retrain.count, len(front), f"{len(front)} candidates on the Pareto front")
    places = np.linspace(0, len(front) - 1, retrain.count).round().astype(int)
    return _by_rank(front[i] for i in places)


def how_to_find_candidates(directory: RunDirectory) -> str:
    """Returns a sentence for a search without candidates: search, or name another search."""
    names = [name for name in directory.searches() if name]
    if names:
        return f"Searches with candidates: {', '.join(names)}. Choose one with --search=NAME."
    return f"Search first: {command('search', f'--run_dir={directory.path}')}."


# `retrain --select=NAME`. "all_on" needs no candidates; `retrain` itself handles it.
SELECTIONS: dict[str, Selection] = {
    "top": _top,
    "small": _small,
    "random": _random,
    "stratified": _stratified,
    "pareto": _pareto,
}


def _check_accuracies(
    retrain: RetrainSettings, pool: list[Candidate], best: list[Candidate], words: str
) -> None:
    """Raises InputError if some candidates have an accuracy and some in the pool have none."""
    without = sum(c.candidate_accuracy is None for c in pool)
    known = sum(c.candidate_accuracy is not None for c in best)
    if without and known:
        raise InputError(
            f"--select={retrain.select} chooses from {words}, but {without} of these {len(pool)} "
            f"have no candidate accuracy. The search by divergence scored only {known} finalists. "
            f"{'Give --top=' + str(known) if retrain.select == 'top' else 'Raise --percentile'}, "
            "or search again with more --finalists."
        )


def _by_rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: c.rank)


def _check_count(count: int, available: int, words: str) -> None:
    if count > available:
        raise InputError(
            f"--count must be at most {available}, because it chooses from {words}; got {count}."
        )
