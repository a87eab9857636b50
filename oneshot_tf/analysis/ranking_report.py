"""The report's section on ranking: a table, a plot and conclusions in words."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from oneshot_tf.analysis import plots, ranking
from oneshot_tf.analysis.nets import how_to_make
from oneshot_tf.runs.directory import RunDirectory

_CAPTION = (
    "Intervals are 95 % bootstrap intervals over these architectures, each for its number alone. "
    "Precision is an expectation over ties. The top quarter is the quarter that the row's "
    "predictor ranks best, where a search decides. The true regret is, in expectation, between its "
    "two numbers. 'At most' includes the luck of the best net's runs. 'At least' finds the best "
    "net with half of the runs and evaluates it with the others, so it needs two runs."
)


class RankingReport:
    """The section on ranking for the nets of one protocol.

    Args:
        page: The `Page` to write to.
        directory: The `RunDirectory` of the report.
        resamples: Number of bootstrap resamples.
        top: The k of precision at k. 0 means a quarter of the nets.
    """

    def __init__(self, page: Any, directory: RunDirectory, resamples: int, top: int):
        self.page, self.directory, self.resamples, self.top = page, directory, resamples, top

    def write(self, protocol: Any, nets: Sequence[Any], name: str) -> None:
        """Writes the table and the figure `name` for the nets of a protocol."""
        runs = collections.Counter(len(net.accuracies) for net in nets)
        noise = ranking.noise(nets)
        spread = (
            "the noise is unknown" if noise is None
            else f"the standard error of a net's mean is {noise:.4f}"
        )  # fmt: skip
        counts = ", ".join(
            f"{count} with {number} run{'s' if number > 1 else ''}"
            for number, count in sorted(runs.items())
        )
        self.page.text(f"{protocol}: {len(nets)} architectures, {counts}; {spread}.")
        if len(nets) < ranking.FEWEST:
            self.page.missing(
                f"{len(nets)} architectures are too few for intervals; at least {ranking.FEWEST} "
                "are required.",
                how_to_make(self.directory.path),
            )
        self._report = report = ranking.rank(nets, self.resamples, self.top)
        self._over = over = ranking.over_space(nets, self.resamples)
        titles = [m.name for m in next(iter(report.values()))]
        chance = ranking.Measure("Spearman", 0.0)
        rows = [
            [predictor, *map(str, measures), str(over.get(predictor, chance))]
            for predictor, measures in report.items()
        ]
        if over:
            titles = [*titles, "Spearman over the space"]
        else:
            rows = [row[:-1] for row in rows]
        self.page.table(name, ["ranked by", *titles], rows, _CAPTION)
        self.page.text(_sampling(nets, over))
        self._limits(nets)
        self._plot(nets, name)

    def _limits(self, nets: Sequence[Any]):
        again = ranking.agreement_of_runs(nets, self.resamples)
        if again is not None and again.value > 0:
            self.page.text(
                f"Two runs of the same nets have a Spearman correlation of {again}. By the "
                "Spearman-Brown formula, even a perfect predictor would score about "
                f"{ranking.ceiling(nets, self.resamples)} against the means of these runs."
            )
        for of, given in (
            ("candidate accuracy", "parameters"), ("parameters", "candidate accuracy")
        ):  # fmt: skip
            rest = ranking.partial(nets, of, given, self.resamples)
            if rest is not None:
                self.page.text(f"Partial rank correlation with accuracy, {rest.name}: {rest}.")

    def _plot(self, nets: Sequence[Any], name: str):
        groups: dict[Any, Any] = {}
        for net in nets:
            if net.candidate_accuracy is not None:
                point = (net.candidate_accuracy, net.mean, net.accuracies)
                groups.setdefault(net.selections[0], []).append(point)
        if groups:
            label = "candidate accuracy (shared weights, validation images)"
            self.page.figure(
                name,
                plots.ranking(groups, label),
                "Stand-alone accuracy against candidate accuracy (the paper's figure 5, top).",
            )

    def conclusions(self, protocol: Any, nets: Sequence[Any]) -> list[str]:
        """Returns the conclusions that the numbers found by `write` support."""
        measures = self._report.get("candidate accuracy", [])
        spearman = next((m for m in measures if m.name == "Spearman"), None)
        if len(nets) < ranking.FEWEST or spearman is None or np.isnan(spearman.low):
            return [
                f"No conclusion about ranking: {len(nets)} comparable architectures are too few."
            ]
        words = [
            f"Candidate accuracy ranks these {len(nets)} architectures better than chance: "
            f"Spearman {spearman}."
            if spearman.low > 0 else
            f"For these {len(nets)} architectures, there is no evidence that candidate accuracy "
            f"ranks better than chance: Spearman {spearman}."
        ]  # fmt: skip
        words.append(_sampling(nets, self._over))
        compared = self._compared(nets)
        words += compared
        if compared:
            words.append(
                f"Each of these {len(compared) + 1} comparisons holds at 95 % by itself. They are "
                "not corrected for their number."
            )
        if ranking.noise(nets) is None:
            words.append(
                "Each net was trained once, so the noise of training counts as ranking error."
            )
        if protocol.evaluated_on == "validation":
            words.append(
                "The same validation images ranked the candidates and evaluated the nets, which "
                "favours the ranking slightly."
            )
        return words

    def _compared(self, nets: Sequence[Any]):
        words = []
        for other in ("parameters", "multiply-adds", "divergence (KL)"):
            less = ranking.advantage(nets, other, self.resamples)
            if less is None:
                continue
            if less.low > 0:
                words.append(f"It ranks better than {other}: {less.name} is {less}.")
            elif less.high < 0:
                words.append(f"It ranks worse than {other}: {less.name} is {less}.")
            else:
                words.append(
                    f"It is undecided whether it ranks better than {other}: {less.name} is {less}."
                )
        return words


def _sampling(nets: Sequence[Any], over: Any) -> str:
    """Describes the population that the numbers hold for."""
    by_rank = [net for net in nets if net.weight is None]
    stratified = [n for n in nets if n.weight is not None and "stratified" in n.selections]
    parts = []
    if stratified:
        parts.append(
            "A stratified sample spreads candidate accuracies more evenly than the search does, "
            "which raises correlations."
        )
    if by_rank:
        parts.append(
            f"{len(by_rank)} of the {len(nets)} nets were not drawn at random from all candidates "
            "(for example, top and small), so they cannot be weighted. Correlations that include "
            "them hold for these nets only, and may be larger or smaller over the whole range."
        )
    if "candidate accuracy" in over:
        drawn = len(nets) - len(by_rank)
        parts.append(
            "Over the space, that is, over all candidates measured on all images, Spearman of "
            f"candidate accuracy is {over['candidate accuracy']}. It is estimated from the "
            f"{drawn} nets drawn at random, each weighted by the share of candidates in its bucket."
        )
    else:
        parts.append("Spearman over the space is unknown: too few nets can be weighted.")
    return " ".join(parts)
