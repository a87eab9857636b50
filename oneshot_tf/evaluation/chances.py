"""Estimates which candidates of a race are among the best, by empirical Bayes.

A race measures candidates on some images and must guess which will be the best on all images.
How much luck there is among the leaders depends on the distribution of the candidates' true
accuracies. This distribution is estimated from the same data, as weights on a grid of
accuracies, by EM (Kiefer and Wolfowitz's nonparametric maximum likelihood, stopped early). No
shape is assumed: the distribution may be skewed, have several groups or a long tail. If something
is known of each candidate beforehand, it is the distribution of differences from that.
"""

from typing import NamedTuple

import numpy as np

_EDGE = 1e-4  # accuracies are kept this far from 0 and 1
# Many iterations make the tails of the distribution too thin. With 100, the first round lost 1.5
# times as many of the best as expected; with 10 and with 25, 1.1 times (600 simulated candidates,
# normal accuracies, 20 seeds).
_ITERATIONS = 15
_FINE = 5.0  # grid points per standard error of the best candidates
_MOST_POINTS = 400
_HALVINGS = 30  # of the interval that the mark lies in
_FEWEST_NEAR = 50
_LEAST_SPREAD = 1e-5
_NODES, _WEIGHT = np.sqrt(3.0), 1.0 / 6.0  # three-point Gauss-Hermite rule


class Noise(NamedTuple):
    """The noise between candidates near the mark, on one image.

    Args:
        ratio: The variance of (hit - mean hit of the leaders on that image), divided by that of
            independent images, in (0, 1].
        slope: By how much a probability of the right class is higher if there is a hit.
    """

    ratio: float
    slope: float


def noise_of(hits: np.ndarray, probabilities: np.ndarray, keep: int) -> Noise:
    """Returns the noise between candidates near the mark.

    Most images are easy or hard for all candidates, so the noise is what is left when the mean of
    the leaders on each image is taken away.

    Args:
        hits: Bool `[A, n]`, whether each running candidate classifies each seen image correctly.
        probabilities: Float32 `[A, n]`, the probability that it gives the right class.
        keep: How many of the best candidates are wanted.
    """
    right = hits.sum(axis=1)
    leaders = np.argsort(-right, kind="stable")[: max(2 * keep, _FEWEST_NEAR)]
    accuracy = right[leaders] / hits.shape[1]
    hit, sure = (_apart(values[leaders].astype(np.float64)) for values in (hits, probabilities))
    own, both = float(np.mean(hit * hit)), float(np.mean(hit * sure))
    whole = float((accuracy * (1.0 - accuracy)).mean())
    ratio = float(np.clip(own / whole, 0.02, 1.0)) if whole > 0 else 1.0
    return Noise(ratio, both / own if own > 0 else 0.0)


def _apart(values: np.ndarray) -> np.ndarray:
    """Takes away the mean of each column and of each row."""
    values = values - values.mean(axis=0)
    return values - values.mean(axis=1, keepdims=True)


def predicted(hits: np.ndarray, probabilities: np.ndarray, keep: int) -> np.ndarray:
    """Predicts the accuracy of each candidate from a few images, but not from its own hits.

    On few images, the mean probability of the right class tells more about a candidate than its
    share of hits does. Used is what it tells beyond the hits, whose noise is not that of the hits.
    So the hits can be used as well. How it goes together with accuracy is learnt from the other
    candidates, by a regression that leaves this one out.

    Args:
        hits, probabilities, keep: As in `noise_of`, of all candidates.

    Returns:
        The predictions, float `[A]`.
    """
    noise, rates = noise_of(hits, probabilities, keep), hits.mean(axis=1)
    beyond = probabilities.mean(axis=1, dtype=np.float64) - noise.slope * rates
    if beyond.std() < _LEAST_SPREAD:  # only rounding is left
        return np.full(len(rates), rates.mean())
    basis = np.linalg.qr(np.stack([np.ones(len(rates)), beyond - beyond.mean()], axis=1))[0]
    own = (basis**2).sum(axis=1)
    return (basis @ (basis.T @ rates) - own * rates) / np.maximum(1.0 - own, 1e-3)


def chances(
    rates: np.ndarray, images: np.ndarray, keep: int, expected: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns chances to be among the best on all images, and expected accuracies.

    A share x of m independent images gives an accuracy p the likelihood
    p^(m x) (1 - p)^(m (1 - x)). The mark is the accuracy that `keep` candidates are expected to
    exceed.

    Args:
        rates: Float `[A]`, the share x of images that each candidate classifies correctly.
        images: Float `[A]`, the number m of independent images that each share is worth.
        keep: How many of the best candidates are wanted, at least 1 and less than A.
        expected: Float `[A]`, the accuracy that each candidate is expected to have, known without
            its own images. The estimated distribution is that of differences from it. None: the
            same for all candidates.

    Returns:
        The chance of each candidate, float `[A]` with the sum `keep`, and its expected accuracy,
        float `[A]`.
    """
    log, accuracies, expected, grid = _log_likelihood(rates, images, keep, expected)
    posterior = np.exp(log - log.max(axis=1, keepdims=True))
    posterior *= _prior(posterior)
    posterior /= posterior.sum(axis=1, keepdims=True)
    above = _Above(posterior, expected, grid)
    chance = above.best(keep)
    # The standard deviation of the number of candidates above the mark, if they are independent.
    deviation = np.sqrt(np.sum(chance * (1.0 - chance)))
    offset = min(_NODES * deviation, 0.95 * keep)
    several = [above.best(keep + sign * offset) for sign in (-1.0, 1.0)]
    chance = _WEIGHT * (several[0] + several[1]) + (1.0 - 2.0 * _WEIGHT) * chance
    return chance, (posterior * accuracies).sum(axis=1)


def evidence(
    rates: np.ndarray, images: np.ndarray, keep: int, expected: np.ndarray | None = None
) -> float:
    """Returns the log-likelihood of the shares, given what is expected of each candidate.

    Takes the arguments of `chances`. Expectations that mislead have a lower likelihood than none.
    """
    log = _log_likelihood(rates, images, keep, expected)[0]
    most = log.max(axis=1, keepdims=True)
    likelihood = np.exp(log - most)
    return float((np.log(likelihood @ _prior(likelihood)) + most[:, 0]).sum())


def _log_likelihood(
    rates: np.ndarray, images: np.ndarray, keep: int, expected: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns how likely each rate is for the accuracies `expected + grid`.

    Takes the arguments of `chances`.

    Returns:
        Log-likelihoods and accuracies, float `[A, G]` each, `expected`, float `[A]`, and the grid,
        float `[G]`.
    """
    rates = np.clip(rates, _EDGE, 1.0 - _EDGE)
    expected = np.full(len(rates), rates.mean()) if expected is None else expected
    grid = _grid(rates, images, keep, rates - expected)
    accuracies = np.clip(expected[:, None] + grid, _EDGE, 1.0 - _EDGE)
    log = rates[:, None] * np.log(accuracies) + (1.0 - rates)[:, None] * np.log1p(-accuracies)
    return images[:, None] * log, accuracies, expected, grid


class _Above:
    """Chances to exceed a mark. Between two points of the grid they are linear in the mark."""

    def __init__(self, posterior: np.ndarray, expected: np.ndarray, grid: np.ndarray):
        above = np.cumsum(posterior[:, ::-1], axis=1)[:, ::-1]  # chance to be at or above a point
        edges = np.ones([len(expected), 1]), np.zeros([len(expected), 1])
        self._above = np.concatenate([edges[0], above[:, 1:], edges[1]], axis=1)
        self._expected, self._step = expected, grid[1] - grid[0]
        self._first = grid[0] - self._step / 2  # a point stands for an interval around it

    def _over(self, mark: float) -> np.ndarray:
        place = (mark - self._expected - self._first) / self._step
        place = np.clip(place, 0.0, self._above.shape[1] - 1)
        left = np.minimum(place.astype(int), self._above.shape[1] - 2)
        rows = np.arange(len(place))
        low, high = self._above[rows, left], self._above[rows, left + 1]
        return low + (place - left) * (high - low)

    def best(self, count: float) -> np.ndarray:
        """Returns chances to exceed the mark that `count` candidates are expected to exceed."""
        low, high = -1.0, 2.0
        for _ in range(_HALVINGS):
            mark = (low + high) / 2.0
            low, high = (mark, high) if self._over(mark).sum() > count else (low, mark)
        return self._over((low + high) / 2.0)


def _grid(rates: np.ndarray, images: np.ndarray, keep: int, apart: np.ndarray) -> np.ndarray:
    """Returns evenly spaced differences from the expected accuracies.

    Args:
        rates, images, keep: As in `chances`.
        apart: The differences of the rates.
    """
    best = np.argsort(-rates, kind="stable")[: max(2 * keep, _FEWEST_NEAR)]
    error = np.median(np.sqrt(rates * (1.0 - rates) / images)[best])
    low, high = apart.min() - error, apart.max() + error
    return np.linspace(low, high, int(np.clip(_FINE * (high - low) / error, 3, _MOST_POINTS)))


def _prior(likelihood: np.ndarray) -> np.ndarray:
    """Returns the weights of the G grid points, float `[G]` with sum 1."""
    count, points = likelihood.shape
    prior = np.full(points, 1.0 / points)
    for _ in range(_ITERATIONS):
        prior *= (1.0 / (count * (likelihood @ prior))) @ likelihood
    return prior / prior.sum()
