"""Which candidates of a race are among the best: empirical Bayes, no shape assumed.

A race knows each candidate's accuracy on the images that it has seen, and wants to
know which candidates will be the best on all images. The distribution of the
candidates' true accuracies decides how much luck there is among the leaders, so
it is estimated from the same data, as weights on a grid of accuracies, by EM
(Kiefer and Wolfowitz's nonparametric maximum likelihood, stopped early). It may be
skewed, have several groups or a long tail.
"""

import numpy as np

_EDGE = 1e-4  # accuracies are kept this far from 0 and 1
_ITERATIONS = 200
_WIDE = 8.0  # the fine part of the grid reaches this many standard errors from the mark
_FINE, _COARSE = 6.0, 2.0  # grid points a standard error, near the mark and elsewhere
_MOST_COARSE = 128
_ROUNDING = 8.0  # candidates whose accuracies differ by less than 1/8 standard error go together
_FEWEST_NEAR = 50
_NODES, _WEIGHT = np.sqrt(3.0), 1.0 / 6.0  # Gauss and Hermite's rule of three points


def noise_ratio(hits: np.ndarray, keep: int) -> float:
    """The noise between candidates near the mark, as a share of that of independent images.

    Most images are easy or hard for all candidates. What is left between two candidates
    is the variance of (hit - mean hit of the leaders on that image).

    Args:
        hits: bool `[A, n]`: which of the images seen each running candidate has right.
        keep: how many of the best are wanted.

    Returns:
        The mean of that variance over the leaders, over the mean of p (1 - p); in (0, 1].
    """
    right = hits.sum(axis=1)
    leaders = np.argsort(-right, kind="stable")[: max(2 * keep, _FEWEST_NEAR)]
    hits, accuracy = hits[leaders], right[leaders] / hits.shape[1]
    shared = hits.mean(axis=0)
    # Of hit - shared: the mean of its square less the square of its mean, as a product, to
    # save a float array of A x n.
    squares = accuracy - 2.0 * (hits @ shared) / hits.shape[1] + np.mean(shared**2)
    own = (squares - (accuracy - shared.mean()) ** 2).mean()
    whole = (accuracy * (1.0 - accuracy)).mean()
    return float(np.clip(own / whole, 0.02, 1.0)) if whole > 0 else 1.0


def chances(rates: np.ndarray, images: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Each candidate's chance to be among the best on all images, and its expected accuracy.

    The likelihood of an accuracy p is p^(m x) (1 - p)^(m (1 - x)): that of a share x of m
    independent images. The mark is where the expected number of candidates above it is `keep`.

    Args:
        rates: float `[A]`, each candidate's share x of images right.
        images: float `[A]`, m: of how many independent images each share is worth.
        keep: how many of the best are wanted, at least 1 and less than A.

    Returns:
        float `[A]`, whose sum is `keep`, and float `[A]`.
    """
    rates = np.clip(rates, _EDGE, 1.0 - _EDGE)
    groups, place, counts = _together(rates, images)
    x, m = groups
    grid = _grid(rates, images, keep)
    log = m[:, None] * (x[:, None] * np.log(grid) + (1.0 - x)[:, None] * np.log1p(-grid))
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    posterior = likelihood * _prior(likelihood, counts / counts.sum(), grid)
    posterior /= posterior.sum(axis=1, keepdims=True)
    above = np.cumsum(posterior[:, ::-1], axis=1)[:, ::-1]  # chance to be at a point or above
    above = np.concatenate([above, np.zeros([len(x), 1])], axis=1)
    expected = counts @ above
    chance = _at_mark(above, expected, keep)
    # Of independent candidates, the number above a mark varies so much about its expectation.
    deviation = np.sqrt(counts @ (chance * (1.0 - chance)))
    offsets = np.minimum(_NODES * deviation, 0.95 * keep)
    several = [_at_mark(above, expected, keep + offset) for offset in (-offsets, offsets)]
    chance = _WEIGHT * (several[0] + several[1]) + (1.0 - 2.0 * _WEIGHT) * chance
    return chance[place], (posterior @ grid)[place]


def _at_mark(above: np.ndarray, expected: np.ndarray, count: int):
    """Chances to be above the mark that `count` candidates are expected to be above."""
    count = np.clip(count, expected[-1], expected[0])
    last = min(np.flatnonzero(expected >= count)[-1], len(expected) - 2)
    # The mark is between this grid point and the next.
    part = (count - expected[last + 1]) / (expected[last] - expected[last + 1])
    return above[:, last + 1] + part * (above[:, last] - above[:, last + 1])


def _together(rates: np.ndarray, images: np.ndarray):
    """Candidates that are nearly equal as one: (x, m) of each group, whose each is, how many."""
    width = np.sqrt(rates * (1.0 - rates) / images) / _ROUNDING
    width = np.exp2(np.floor(np.log2(width)))
    keys = np.stack([images, width, np.round(rates / width)], axis=1)
    keys, place, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    x = np.bincount(place, rates) / counts
    return (x, keys[:, 0]), place, counts


def _grid(rates: np.ndarray, images: np.ndarray, keep: int) -> np.ndarray:
    """Accuracies, ascending: dense near the mark, as far apart as need be elsewhere."""
    mark = np.partition(rates, -keep)[-keep]
    error = np.sqrt(mark * (1.0 - mark) / images.max())
    low = max(rates.min() - error, _EDGE)
    high = min(rates.max() + error, 1.0 - _EDGE)
    count = int(np.clip(_COARSE * (high - low) / error, 2, _MOST_COARSE))
    near = np.arange(mark - _WIDE * error, mark + _WIDE * error, error / _FINE)
    near = near[(near > low) & (near < high)]
    return np.unique(np.concatenate([np.linspace(low, high, count), near]).round(9))


def _prior(likelihood: np.ndarray, share: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The weights of grid points: float `[G]` with sum 1."""
    prior = np.gradient(grid)
    for _ in range(_ITERATIONS):
        prior /= prior.sum()
        prior *= (share / (likelihood @ prior)) @ likelihood
    return prior / prior.sum()
