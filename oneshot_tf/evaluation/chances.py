"""Estimates which candidates of a race are among the best, by empirical Bayes.

A race measures candidates on some images and must guess which will be the best on all images.
How much luck there is among the leaders depends on the distribution of the candidates' true
accuracies. This distribution is estimated from the same data, as weights on a grid of
accuracies, by EM (Kiefer and Wolfowitz's nonparametric maximum likelihood, stopped early). No
shape is assumed: the distribution may be skewed, have several groups or a long tail.
"""

import numpy as np

_EDGE = 1e-4  # accuracies are kept this far from 0 and 1
_ITERATIONS = 200
_WIDE = 8.0  # standard errors from the mark that the fine part of the grid covers
_FINE, _COARSE = 6.0, 2.0  # grid points per standard error, near the mark and elsewhere
_MOST_COARSE = 128
_ROUNDING = 8.0  # candidates within 1/8 standard error of each other form a group
_FEWEST_NEAR = 50
_NODES, _WEIGHT = np.sqrt(3.0), 1.0 / 6.0  # three-point Gauss-Hermite rule


def noise_ratio(hits: np.ndarray, keep: int) -> float:
    """Returns the noise between candidates near the mark, relative to independent images.

    Most images are easy or hard for all candidates. The noise between two candidates is the
    variance of (hit - mean hit of the leaders on that image).

    Args:
        hits: Bool `[A, n]`, whether each running candidate classifies each seen image correctly.
        keep: How many of the best candidates are wanted.

    Returns:
        The mean of this variance over the leaders, divided by the mean of p (1 - p), in (0, 1].
    """
    right = hits.sum(axis=1)
    leaders = np.argsort(-right, kind="stable")[: max(2 * keep, _FEWEST_NEAR)]
    hits, accuracy = hits[leaders], right[leaders] / hits.shape[1]
    shared = hits.mean(axis=0)
    # The variance of hit - shared is the mean square minus the squared mean. The mean square is
    # computed as a product, which avoids a float array of A x n.
    squares = accuracy - 2.0 * (hits @ shared) / hits.shape[1] + np.mean(shared**2)
    own = (squares - (accuracy - shared.mean()) ** 2).mean()
    whole = (accuracy * (1.0 - accuracy)).mean()
    return float(np.clip(own / whole, 0.02, 1.0)) if whole > 0 else 1.0


def chances(rates: np.ndarray, images: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns chances to be among the best on all images, and expected accuracies.

    A share x of m independent images gives an accuracy p the likelihood
    p^(m x) (1 - p)^(m (1 - x)). The mark is the accuracy that `keep` candidates are expected to
    exceed.

    Args:
        rates: Float `[A]`, the share x of images that each candidate classifies correctly.
        images: Float `[A]`, the number m of independent images that each share is worth.
        keep: How many of the best candidates are wanted, at least 1 and less than A.

    Returns:
        The chance of each candidate, float `[A]` with the sum `keep`, and its expected accuracy,
        float `[A]`.
    """
    rates = np.clip(rates, _EDGE, 1.0 - _EDGE)
    groups, place, counts = _together(rates, images)
    x, m = groups
    grid = _grid(rates, images, keep)
    log = m[:, None] * (x[:, None] * np.log(grid) + (1.0 - x)[:, None] * np.log1p(-grid))
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    posterior = likelihood * _prior(likelihood, counts / counts.sum(), grid)
    posterior /= posterior.sum(axis=1, keepdims=True)
    above = np.cumsum(posterior[:, ::-1], axis=1)[:, ::-1]  # chance to be at or above a point
    above = np.concatenate([above, np.zeros([len(x), 1])], axis=1)
    expected = counts @ above
    chance = _at_mark(above, expected, keep)
    # The standard deviation of the number of candidates above the mark, if they are independent.
    deviation = np.sqrt(counts @ (chance * (1.0 - chance)))
    offsets = np.minimum(_NODES * deviation, 0.95 * keep)
    several = [_at_mark(above, expected, keep + offset) for offset in (-offsets, offsets)]
    chance = _WEIGHT * (several[0] + several[1]) + (1.0 - 2.0 * _WEIGHT) * chance
    return chance[place], (posterior @ grid)[place]


def _at_mark(above: np.ndarray, expected: np.ndarray, count: int):
    """Returns chances to exceed the mark that `count` candidates are expected to exceed."""
    count = np.clip(count, expected[-1], expected[0])
    last = min(np.flatnonzero(expected >= count)[-1], len(expected) - 2)
    # The mark lies between this grid point and the next.
    part = (count - expected[last + 1]) / (expected[last] - expected[last + 1])
    return above[:, last + 1] + part * (above[:, last] - above[:, last + 1])


def _together(rates: np.ndarray, images: np.ndarray):
    """Groups candidates that are nearly equal.

    Returns:
        The (x, m) of each group, the index of each candidate's group, and the sizes of groups.
    """
    width = np.sqrt(rates * (1.0 - rates) / images) / _ROUNDING
    width = np.exp2(np.floor(np.log2(width)))
    keys = np.stack([images, width, np.round(rates / width)], axis=1)
    keys, place, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    x = np.bincount(place, rates) / counts
    return (x, keys[:, 0]), place, counts


def _grid(rates: np.ndarray, images: np.ndarray, keep: int) -> np.ndarray:
    """Returns ascending accuracies: a fine grid near the mark, a coarse one elsewhere."""
    mark = np.partition(rates, -keep)[-keep]
    error = np.sqrt(mark * (1.0 - mark) / images.max())
    low = max(rates.min() - error, _EDGE)
    high = min(rates.max() + error, 1.0 - _EDGE)
    count = int(np.clip(_COARSE * (high - low) / error, 2, _MOST_COARSE))
    near = np.arange(mark - _WIDE * error, mark + _WIDE * error, error / _FINE)
    near = near[(near > low) & (near < high)]
    return np.unique(np.concatenate([np.linspace(low, high, count), near]).round(9))


def _prior(likelihood: np.ndarray, share: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns the weights of the G grid points, float `[G]` with sum 1."""
    prior = np.gradient(grid)
    for _ in range(_ITERATIONS):
        prior /= prior.sum()
        prior *= (share / (likelihood @ prior)) @ likelihood
    return prior / prior.sum()
