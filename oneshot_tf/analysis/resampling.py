"""Statistics of bootstrap resamples, a bounded piece of them at a time."""

from typing import Any

import numpy as np

_PIECE = 2**18  # pairs drawn at a time: some 20 MB, however many pairs or resamples there are


def interval(values: Any) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of resamples; NaN, which ranks nothing, as 0.

    Args:
        values: of the statistic, one for each resample.
    """
    return tuple(np.quantile(np.nan_to_num(values), [0.025, 0.975]).tolist())


def drawn_pairs(count: int, resamples: int, seed: int):
    """Yields resamples of `count` pairs, with replacement: int64 `[R, count]`, some at a time.

    The pieces are those of one sequence of draws, so their size changes nothing.
    """
    rng = np.random.default_rng(seed)
    most = max(1, _PIECE // count)
    for start in range(0, resamples, most):
        yield rng.integers(count, size=(min(most, resamples - start), count))


def spearman_of_resamples(x: np.ndarray, y: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Spearman's rank correlation of each of `drawn_pairs`: float `[resamples]`.

    Equal values share the mean of their ranks. NaN where all of a resample are equal.

    Args:
        x, y: float `[N]`.
        resamples: how many.
        seed: of the draws.
    """
    groups = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (x, y)]
    found = []
    for piece in drawn_pairs(len(x), resamples, seed):
        for rows in piece:
            times = np.bincount(rows, minlength=len(x)).astype(float)
            one, other = (_twice_ranks(group, times) for group in groups)
            # Not `np.dot`, whose threads cost more than they save.
            covariance = np.einsum("n,n,n", times, one, other)
            scale = np.einsum("n,n,n", times, one, one) * np.einsum("n,n,n", times, other, other)
            found.append(covariance / np.sqrt(scale) if scale else np.nan)
    return np.array(found)


def _twice_ranks(group: np.ndarray, times: np.ndarray):
    """Twice the rank of each value, less twice the mean of all: float `[N]`.

    What is equal has its mean rank. Nothing is sorted. The results are whole numbers, so the
    sums of their products are exact up to 2^53, that is, for some 200,000 draws.

    Args:
        group: number of each value among the distinct ones, by size: int `[N]`.
        times: how often each value is drawn, float `[N]`.
    """
    drawn = np.bincount(group, times)
    return (2.0 * np.cumsum(drawn) - drawn - drawn.sum())[group]
