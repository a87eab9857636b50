"""Statistics of bootstrap resamples, computed in pieces of limited size."""

from typing import Any

import numpy as np

_PIECE = 2**18  # pairs drawn at a time: about 20 MB for any number of pairs and resamples


def interval(values: Any) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a statistic.

    A NaN counts as 0, because such a resample shows no ranking.

    Args:
        values: Values of the statistic, one per resample.
    """
    return tuple(np.quantile(np.nan_to_num(values), [0.025, 0.975]).tolist())


def drawn_pairs(count: int, resamples: int, seed: int):
    """Yields resamples of `count` pairs, with replacement, in pieces: int64 `[R, count]`.

    All pieces come from one sequence of draws, so their size does not change the resamples.
    """
    rng = np.random.default_rng(seed)
    most = max(1, _PIECE // count)
    for start in range(0, resamples, most):
        yield rng.integers(count, size=(min(most, resamples - start), count))


def spearman_of_resamples(x: np.ndarray, y: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Returns Spearman's rank correlation of each resample of `drawn_pairs`: float `[resamples]`.

    Equal values share the mean of their ranks. The correlation is NaN if all values of `x` or `y`
    in a resample are equal.

    Args:
        x, y: Paired values, float `[N]`.
        resamples: Number of resamples.
        seed: Random seed of the draws.
    """
    groups = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (x, y)]
    found = []
    for piece in drawn_pairs(len(x), resamples, seed):
        for rows in piece:
            times = np.bincount(rows, minlength=len(x)).astype(float)
            one, other = (_twice_ranks(group, times) for group in groups)
            # `np.dot` is not used, because its threads cost more than they save.
            covariance = np.einsum("n,n,n", times, one, other)
            scale = np.einsum("n,n,n", times, one, one) * np.einsum("n,n,n", times, other, other)
            found.append(covariance / np.sqrt(scale) if scale else np.nan)
    return np.array(found)


def _twice_ranks(group: np.ndarray, times: np.ndarray):
    """Returns twice the rank of each value, minus twice the mean rank: float `[N]`.

    Equal values have their mean rank. No sorting is needed. The results are whole numbers, so the
    sums of their products are exact up to 2^53, that is, for about 200,000 draws.

    Args:
        group: Index of each value among the sorted distinct values: int `[N]`.
        times: Number of times that each value is drawn, float `[N]`.
    """
    drawn = np.bincount(group, times)
    return (2.0 * np.cumsum(drawn) - drawn - drawn.sum())[group]
