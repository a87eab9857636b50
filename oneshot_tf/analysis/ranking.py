"""How well something known before training ranks stand-alone accuracy: numbers with intervals."""

import dataclasses
import json
import warnings

import numpy as np
import scipy.stats

from oneshot_tf.candidates import CandidateFile
from oneshot_tf.errors import InputError
from oneshot_tf.results import read_results
from oneshot_tf.space.architecture import Architecture

FEWEST = 5  # architectures for which an interval is given


@dataclasses.dataclass(frozen=True)
class Net:
    """An architecture that was trained alone.

    Args:
        architecture: its text.
        accuracies: stand-alone, one a run.
        selections: by which it was chosen (--select); a folder's name where it was given.
        candidate_accuracy: with the shared weights; None if not measured.
        divergence: from the references, in nats; None if not measured.
        parameters, multiply_adds: of the net that was trained.
    """

    architecture: str
    accuracies: tuple[float, ...]
    selections: tuple[str, ...]
    candidate_accuracy: float | None
    divergence: float | None
    parameters: int
    multiply_adds: int

    @property
    def mean(self) -> float:
        """Over runs."""
        return float(np.mean(self.accuracies))


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Nets are compared with those trained and judged in the same way only."""

    filters: int
    num_cells: int
    num_steps: int
    evaluated_on: str
    training: str

    def __str__(self):
        return (
            f"F = {self.filters}, {self.num_cells} cells, {self.num_steps:,} steps, on "
            f"{self.evaluated_on} images"
        )


def _training(result) -> str:
    """The settings of a training that change what comes of it."""
    settings = result.get("train")
    settings = settings if isinstance(settings, dict) else {}
    free = ("device_batch_size", "skip_paths")
    return json.dumps({k: v for k, v in sorted(settings.items()) if k not in free})


def collect(directory, only=()) -> dict[Protocol, list[Net]]:
    """The stand-alone nets of a run by protocol, that of the most first; All On is left out.

    Args:
        directory: the `RunDirectory`.
        only: folders of `retrain` to take nets from; empty: all.

    Raises:
        InputError: a file of the run is damaged, or a folder isn't there.
    """
    results = read_results(directory)
    missing = set(only) - {result["name"] for result in results}
    if missing:
        raise InputError(
            f"--only={','.join(only)}: {directory.path} has no stand-alone nets called "
            f"{', '.join(sorted(missing))}."
        )
    space = directory.space()
    candidates = CandidateFile(directory.path / "candidates.csv", space).read()
    known = {str(c.architecture): c for c in candidates}
    all_on = str(space.all_on())
    found, all_runs = {}, {}
    for result in results:
        if only and result["name"] not in only:
            continue
        settings = result["retrain"]
        protocol = Protocol(
            settings["filters"], settings["num_cells"], result["num_steps"],
            result["evaluated_on"], _training(result),
        )  # fmt: skip
        # A given architecture wasn't selected; otherwise folders may have any name.
        selection = result["name"] if settings.get("architecture") else settings["select"]
        nets = found.setdefault(protocol, {})
        for entry in result["nets"]:
            text = str(Architecture.from_text(entry["architecture"]))
            if text == all_on:
                continue
            candidate = known.get(text)
            old = nets.get(text)
            runs = all_runs.setdefault((protocol, text), {})
            for folder, accuracy in zip(entry["folder"], entry["accuracies"]):
                # The same run may be in two selections, but counts once.
                runs.setdefault((settings["seed"], folder.rsplit("/", 1)[-1]), accuracy)
            nets[text] = Net(
                text,
                tuple(runs.values()),
                tuple(dict.fromkeys((*(old.selections if old else ()), selection))),
                candidate.candidate_accuracy if candidate else entry["candidate_accuracy"],
                candidate.divergence if candidate else None,
                entry["parameters"],
                entry["multiply_adds"],
            )
    ordered = sorted(found, key=lambda protocol: -len(found[protocol]))
    return {protocol: list(found[protocol].values()) for protocol in ordered if found[protocol]}


def predictors(nets) -> dict[str, np.ndarray]:
    """What can rank architectures before they are trained alone, larger is better; float `[N]`."""
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


def noise(nets) -> float | None:
    """The standard error of a net's mean accuracy, pooled over nets; None without repetitions."""
    repeated = [net.accuracies for net in nets if len(net.accuracies) > 1]
    if not repeated:
        return None
    variance = np.average(
        [np.var(a, ddof=1) for a in repeated], weights=[len(a) - 1 for a in repeated]
    )
    return float(np.sqrt(variance / np.mean([len(net.accuracies) for net in nets])))


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval.

    Args:
        name: what it is.
        value: it; NaN if it can't be had.
        low, high: of the interval; NaN where there are too few architectures.
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


def spearman(x, y) -> float:
    """Spearman's rank correlation; NaN where all are equal."""
    return _quiet(scipy.stats.spearmanr, x, y)


def kendall(x, y) -> float:
    """Kendall's tau-b; NaN where all are equal."""
    return _quiet(scipy.stats.kendalltau, x, y)


def _quiet(correlation, x, y):
    with warnings.catch_warnings():  # of equal values
        warnings.simplefilter("ignore")
        return correlation(x, y).statistic


def statistics(step: float | None, top: int) -> dict:
    """Functions of (predictor `[N]`, accuracy `[N]`) by name.

    Args:
        step: the noise, to whose multiples sparse tau rounds accuracies; None leaves it out.
        top: k of the precision.
    """

    def precision(x, y):
        best = np.argsort(-y, kind="stable")[:top]
        return len(np.intersect1d(np.argsort(-x, kind="stable")[:top], best)) / top

    def regret(x, y):
        return y.max() - y[np.argmax(x)]

    chosen = {"Spearman": spearman, "Kendall tau-b": kendall}
    if step:
        chosen["sparse tau"] = lambda x, y: kendall(x, np.round(y / step))
    return {**chosen, f"precision at {top}": precision, "regret": regret}


def measure(function, name, x, y, resamples: int, seed: int = 0) -> Measure:
    """A statistic of paired values with its bootstrap interval over architectures."""
    value = float(function(x, y))
    if len(x) < FEWEST or np.isnan(value):
        return Measure(name, value)

    def defined(x, y):
        return np.nan_to_num(function(x, y))  # a resample of equal values ranks nothing

    interval = scipy.stats.bootstrap(
        (x, y), defined, paired=True, vectorized=False, n_resamples=resamples,
        method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Measure(name, value, float(interval.low), float(interval.high))


def rank(nets, resamples: int = 1000, top: int = 0) -> dict[str, list[Measure]]:
    """The ranking report: measures by predictor, "random choice" (its expectation) last.

    Args:
        nets: of one protocol.
        resamples: of the bootstrap.
        top: k of the precision; 0: a quarter of the nets.
    """
    top = max(1, min(top or round(len(nets) / 4), len(nets)))
    accuracy = np.array([net.mean for net in nets])
    functions = statistics(noise(nets), top)
    report = {
        name: [measure(f, title, values, accuracy, resamples) for title, f in functions.items()]
        for name, values in predictors(nets).items()
    }
    expected = {f"precision at {top}": top / len(nets), "regret": accuracy.max() - accuracy.mean()}
    report["random choice"] = [Measure(title, expected.get(title, 0.0)) for title in functions]
    return report


def advantage(nets, over: str, resamples: int = 1000) -> Measure | None:
    """Spearman of candidate accuracy less that of another predictor, on the same resamples."""
    values = predictors(nets)
    if over not in values or "candidate accuracy" not in values:
        return None
    both = np.stack([values["candidate accuracy"], values[over]], axis=1)
    accuracy = np.array([net.mean for net in nets])
    rows = np.arange(len(nets))

    def difference(rows, _):
        y = accuracy[rows]
        one, other = (spearman(both[rows, i], y) for i in (0, 1))
        return one - other

    return measure(difference, f"Spearman less that of {over}", rows, rows, resamples)


def agreement_of_runs(nets, resamples: int = 1000) -> Measure | None:
    """Spearman of one run of each net with another: about what any ranking can reach at most."""
    pairs = np.array([net.accuracies[:2] for net in nets if len(net.accuracies) > 1])
    if len(pairs) < FEWEST:
        return None
    return measure(spearman, "Spearman of two runs", pairs[:, 0], pairs[:, 1], resamples)


def partial(nets, of: str, given: str, resamples: int = 1000) -> Measure | None:
    """The rank correlation of a predictor with accuracy that another one doesn't explain.

    The correlation of the residuals, after a line, of the ranks.
    """
    values = predictors(nets)
    if of not in values or given not in values or len(nets) < FEWEST:
        return None
    columns = np.stack([values[of], values[given], [net.mean for net in nets]])

    def correlation(rows, _):
        one, other, accuracy = (scipy.stats.rankdata(column) for column in columns[:, rows])
        if np.ptp(other) == 0:
            return _quiet(scipy.stats.pearsonr, one, accuracy)
        residuals = [x - np.polyval(np.polyfit(other, x, 1), other) for x in (one, accuracy)]
        return _quiet(scipy.stats.pearsonr, *residuals)

    rows = np.arange(len(nets))
    return measure(correlation, f"{of} given {given}", rows, rows, resamples)


def compare_selections(nets, one: str, other: str) -> Measure | None:
    """Mean accuracy of a selection's nets less that of another's, by Welch's t over nets."""
    groups = [[net.mean for net in nets if name in net.selections] for name in (one, other)]
    if min(map(len, groups)) < 2:
        return None
    test = scipy.stats.ttest_ind(*groups, equal_var=False)
    interval = test.confidence_interval()
    difference = float(np.mean(groups[0]) - np.mean(groups[1]))
    return Measure(f"{one} less {other}", difference, float(interval.low), float(interval.high))
