"""Measures how well a predictor ranks stand-alone accuracy, with confidence intervals."""

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from oneshot_tf.analysis.resampling import drawn_pairs, interval, spearman_of_resamples

FEWEST = 5  # least number of architectures for an interval
QUARTER = "Spearman in the top quarter"
_MOST_SPLITS = 50


def predictors(nets: Sequence[Any]) -> dict[str, np.ndarray]:
    """Returns the values known of every net before its training: float `[N]`, larger is better."""
    values = {
        "candidate accuracy": [net.candidate_accuracy for net in nets],
        "parameters": [net.parameters for net in nets],
        "multiply-adds": [net.multiply_adds for net in nets],
        "divergence (KL)": [net.divergence and -net.divergence for net in nets],
    }
    return {
        name: np.array(each, float)
        for name, each in values.items()
        if all(v is not None for v in each)
    }


def noise(nets: Sequence[Any]) -> float | None:
    """Returns the standard error of a net's mean, pooled over nets, or None without repeats."""
    repeated = [net.accuracies for net in nets if len(net.accuracies) > 1]
    if not repeated:
        return None
    variance = np.average(
        [np.var(a, ddof=1) for a in repeated], weights=[len(a) - 1 for a in repeated]
    )
    return float(np.sqrt(variance * np.mean([1.0 / len(net.accuracies) for net in nets])))


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval.

    Args:
        name: Name of the number.
        value: The number; NaN if it cannot be computed.
        low, high: Ends of the interval; NaN if there are too few architectures.
    """

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self):
        if np.isnan(self.value):
            return "-"
        if np.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Returns Spearman's rank correlation, or NaN if all values of `x` or `y` are equal."""
    return _quiet(scipy.stats.spearmanr, x, y)


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Returns Kendall's tau-b, or NaN if all values of `x` or `y` are equal."""
    return _quiet(scipy.stats.kendalltau, x, y)


def _quiet(correlation: Any, x: np.ndarray, y: np.ndarray):
    with warnings.catch_warnings():  # SciPy warns if all values are equal
        warnings.simplefilter("ignore")
        return correlation(x, y).statistic


def in_top(values: Any, k: int) -> np.ndarray:
    """Returns each value's share of a place among the k largest: float `[N]`, whose sum is k.

    Values above the k-th largest have a share of 1. Values equal to it share the remaining places,
    which is the expectation over all orders of ties.
    """
    values = np.asarray(values, float)
    least = np.sort(values)[-k]
    above, tied = values > least, values == least
    return above + tied * ((k - above.sum()) / tied.sum())


def statistics(step: float | None, top: int) -> dict:
    """Returns functions of (predictor `[N]`, accuracy `[N]`) by name.

    "Spearman in the top quarter" is the correlation among the ceil(N / 4) architectures that the
    predictor ranks best, including any ties. A search decides among these. It is NaN if they are
    fewer than `FEWEST`.

    Args:
        step: The noise. Sparse tau rounds accuracies to its multiples. None leaves sparse tau out.
        top: The k of precision at k, which is its expectation over ties.
    """

    def precision(x: np.ndarray, y: np.ndarray):
        return float(in_top(x, top) @ in_top(y, top)) / top

    def in_top_quarter(x: np.ndarray, y: np.ndarray):
        best = x >= np.sort(x)[(3 * len(x)) // 4]  # the ceil(N / 4) largest
        return spearman(x[best], y[best]) if best.sum() >= FEWEST else float("nan")

    chosen = {"Spearman": spearman, QUARTER: in_top_quarter, "Kendall tau-b": kendall}
    if step:
        chosen["sparse tau"] = lambda x, y: kendall(x, np.round(y / step))
    return {**chosen, f"precision at {top}": precision}


def regret(values: Any, runs: Any) -> tuple[float, float]:
    """Returns the accuracy lost by taking the predictor's first net instead of the best net.

    The runs of a net are noisy, so the best net is not known for certain. This function returns two
    numbers, and the true regret is between their expectations. *At most* is the best mean over all
    runs minus the mean of the predictor's first net. It includes the luck of the best net. For *at
    least*, half of the runs find the best net, and the other runs evaluate both nets, on average
    over ways to halve the runs. The net found may not be the best. For a predictor that equals the
    true accuracy, 0 is between the two numbers.

    If several nets tie for first, their mean is used.

    Args:
        values: Values of the predictor, where larger is better: float `[N]`.
        runs: Accuracies of each net: N sequences.

    Returns:
        *At least*, which is NaN if a net has only one run, and *at most*.
    """
    values, fewest = np.asarray(values, float), min(map(len, runs))
    first = values == values.max()

    def lost(choosing: np.ndarray, judging: np.ndarray):
        return float(judging[choosing == choosing.max()].mean() - judging[first].mean())

    means = np.array([np.mean(each) for each in runs])
    if fewest == 1:
        return float("nan"), lost(means, means)
    halves = itertools.islice(itertools.combinations(range(fewest), fewest // 2), _MOST_SPLITS)
    found = []
    for half in halves:
        choosing = np.array([np.mean([each[i] for i in half]) for each in runs])
        others = [[a for i, a in enumerate(each) if i not in half] for each in runs]
        found.append(lost(choosing, np.array([np.mean(each) for each in others])))
    return float(np.mean(found)), lost(means, means)


def _regrets(values: Any, runs: Any) -> list[Measure]:
    least, most = regret(values, runs)
    return [Measure("regret at least", least), Measure("regret at most", most)]


def _bootstrap(statistic: Any, draw: Any, resamples: int, seed: int) -> tuple[float, float]:
    """Returns the 95 % percentile interval of `statistic(*draw(rng))`."""
    rng = np.random.default_rng(seed)
    return interval([statistic(*draw(rng)) for _ in range(resamples)])


def measure(
    function: Any, name: str, x: np.ndarray, y: np.ndarray, resamples: int, seed: int = 0
) -> Measure:
    """Returns a statistic of paired values with its bootstrap interval over architectures."""
    x, y = np.asarray(x), np.asarray(y)
    value = float(function(x, y))
    if len(x) < FEWEST or np.isnan(value):
        return Measure(name, value)
    if function is spearman:
        return Measure(name, value, *interval(spearman_of_resamples(x, y, resamples, seed)))
    pieces = drawn_pairs(len(x), resamples, seed)
    values = [function(x[rows], y[rows]) for piece in pieces for rows in piece]
    return Measure(name, value, *interval(values))


def rank(nets: Sequence[Any], resamples: int = 1000, top: int = 0) -> dict[str, list[Measure]]:
    """Returns the measures of each predictor by name. "random choice" (an expectation) is last.

    Args:
        nets: Nets of one protocol.
        resamples: Number of bootstrap resamples.
        top: The k of precision at k. 0 means a quarter of the nets.
    """
    top = max(1, min(top or round(len(nets) / 4), len(nets)))
    accuracy, runs = np.array([net.mean for net in nets]), [net.accuracies for net in nets]
    functions = statistics(noise(nets), top)
    report = {
        name: [
            *(measure(f, title, values, accuracy, resamples) for title, f in functions.items()),
            *_regrets(values, runs),
        ]
        for name, values in predictors(nets).items()
    }
    expected = {f"precision at {top}": top / len(nets)}
    report["random choice"] = [
        *(Measure(title, expected.get(title, 0.0)) for title in functions),
        *_regrets(np.zeros(len(nets)), runs),
    ]
    return report


def weighted_spearman(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Returns Spearman's correlation where each pair represents a share of a population.

    It is the weighted Pearson correlation of weighted ranks. A weighted rank is the share of values
    below plus half the share of equal values. With equal weights, the result is Spearman's
    correlation. It is NaN if all values of `x` or `y` are equal.

    Args:
        x, y: Paired values, float `[N]`.
        weights: Weights of the pairs, float `[N]`, not negative.
    """
    weights = np.asarray(weights, float) / np.sum(weights)
    below = [
        ((v[:, None] > v) + 0.5 * (v[:, None] == v)) @ weights for v in map(np.asarray, (x, y))
    ]
    one, other = (rank - rank @ weights for rank in below)
    scale = np.sqrt((one**2 @ weights) * (other**2 @ weights))
    return float((one * other) @ weights / scale) if scale > 1e-12 else float("nan")


def over_space(nets: Sequence[Any], resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Estimates Spearman by predictor over all candidates that were measured on all images.

    It uses only nets that were drawn at random (`Net.weight`). Each net counts with the share of
    all candidates that it represents. The bootstrap draws n - 1 of the n nets in a bucket, because
    drawing n would make the interval too narrow for small buckets. The result is empty if fewer
    than `FEWEST` nets have weights.
    """
    nets = [net for net in nets if net.weight is not None]
    if len(nets) < FEWEST:
        return {}
    weights = np.array([net.weight for net in nets])
    accuracy = np.array([net.mean for net in nets])
    buckets = np.array([net.bucket for net in nets])
    groups = [np.flatnonzero(buckets == bucket) for bucket in np.unique(buckets)]

    def draw(rng: np.random.Generator):
        drawn = [rng.choice(rows, max(1, len(rows) - 1)) for rows in groups]
        scale = [np.full(len(d), len(rows) / len(d)) for d, rows in zip(drawn, groups)]
        return np.concatenate(drawn), np.concatenate(scale)

    def of(values: Any):
        def statistic(rows: Any, scale: Any):
            return weighted_spearman(values[rows], accuracy[rows], weights[rows] * scale)

        value = statistic(np.arange(len(nets)), 1.0)
        if np.isnan(value):
            return Measure("Spearman", value)
        return Measure("Spearman", value, *_bootstrap(statistic, draw, resamples, seed))

    return {name: of(values) for name, values in predictors(nets).items()}


def advantage(nets: Sequence[Any], over: str, resamples: int = 1000) -> Measure | None:
    """Returns Spearman of candidate accuracy minus another predictor's, on the same resamples."""
    values = predictors(nets)
    if over not in values or "candidate accuracy" not in values:
        return None
    both = np.stack([values["candidate accuracy"], values[over]], axis=1)
    accuracy = np.array([net.mean for net in nets])
    rows = np.arange(len(nets))

    def difference(rows: Any, _):
        y = accuracy[rows]
        one, other = (spearman(both[rows, i], y) for i in (0, 1))
        return one - other

    return measure(difference, f"Spearman minus that of {over}", rows, rows, resamples)


def agreement_of_runs(nets: Sequence[Any], resamples: int = 1000) -> Measure | None:
    """Returns Spearman of two runs of each net, an estimate of the highest possible correlation."""
    pairs = np.array([net.accuracies[:2] for net in nets if len(net.accuracies) > 1])
    if len(pairs) < FEWEST:
        return None
    return measure(spearman, "Spearman of two runs", pairs[:, 0], pairs[:, 1], resamples)


def partial(nets: Sequence[Any], of: str, given: str, resamples: int = 1000) -> Measure | None:
    """Returns the partial rank correlation of a predictor with accuracy, given another predictor.

    It correlates the residuals of the ranks after a linear fit to the other predictor's ranks.
    """
    values = predictors(nets)
    if of not in values or given not in values or len(nets) < FEWEST:
        return None
    columns = np.stack([values[of], values[given], [net.mean for net in nets]])

    def correlation(rows: Any, _):
        one, other, accuracy = (scipy.stats.rankdata(column) for column in columns[:, rows])
        if np.ptp(other) == 0:
            return _quiet(scipy.stats.pearsonr, one, accuracy)
        residuals = [x - np.polyval(np.polyfit(other, x, 1), other) for x in (one, accuracy)]
        return _quiet(scipy.stats.pearsonr, *residuals)

    rows = np.arange(len(nets))
    return measure(correlation, f"{of} given {given}", rows, rows, resamples)


def ceiling(nets: Sequence[Any], resamples: int = 1000) -> Measure | None:
    """Returns the Spearman correlation of the nets' true accuracies with their mean accuracies.

    It follows from the agreement of two runs by the Spearman-Brown formula, for the harmonic mean
    of the numbers of runs. Its interval is the transformed interval of the agreement.
    """
    again = agreement_of_runs(nets, resamples)
    if again is None:
        return None
    count = len(nets) / sum(1.0 / len(net.accuracies) for net in nets)

    def reached(agreement: float):
        agreement = max(agreement, 0.0)
        return float(np.sqrt(count * agreement / (1.0 + (count - 1.0) * agreement)))

    return Measure("ceiling", *map(reached, (again.value, again.low, again.high)))


def compare_selections(nets: Sequence[Any], one: str, other: str) -> Measure | None:
    """Returns the mean accuracy of a selection's nets minus that of another selection's nets.

    The interval is by Welch's t over nets. A net in both selections counts with the difference of
    its shares in the two means, so it adds no width if the shares are equal. Two selections of the
    same nets differ by exactly 0.
    """
    groups = [[net for net in nets if name in net.selections] for name in (one, other)]
    if min(map(len, groups)) < 2:
        return None
    sizes, both = [len(group) for group in groups], [n for n in groups[0] if n in groups[1]]
    means = [np.array([net.mean for net in group]) for group in groups]
    shared = len(both) * (1.0 / sizes[0] - 1.0 / sizes[1]) ** 2 / 2.0
    parts = np.array([
        np.var(m, ddof=1) * ((size - len(both)) / size**2 + shared)
        for m, size in zip(means, sizes)
    ])  # fmt: skip
    difference = float(means[0].mean() - means[1].mean())
    freedom = np.sum(parts**2 / (np.array(sizes) - 1))
    if freedom == 0:
        return Measure(f"{one} minus {other}", difference, difference, difference)
    half = scipy.stats.t.ppf(0.975, parts.sum() ** 2 / freedom) * np.sqrt(parts.sum())
    return Measure(f"{one} minus {other}", difference, difference - half, difference + half)
