"""RUN_DIR/report/: an HTML page that opens offline, with its plots and tables as files."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from oneshot_tf.analysis import (
    candidate_sections,
    learnt,
    paper,
    plots,
    ranking,
    run_sections,
    searches,
)
from oneshot_tf.analysis.first_screen import first_screen
from oneshot_tf.analysis.nets import comparable, how_to_make
from oneshot_tf.analysis.page import Page
from oneshot_tf.analysis.ranking_report import RankingReport
from oneshot_tf.runs.baselines import is_baseline
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import measured
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import read_results
from oneshot_tf.runs.search_record import MEASURES, measure
from oneshot_tf.settings import DataSettings, LocationSettings, OneShotSettings, Settings
from oneshot_tf.system.printable import command


class Report:
    """The report of a run. It collects sections and then writes them.

    Args:
        directory: The `RunDirectory` of the report.
        others: Directories of runs with other one-shot models of the same data and space (figure
            4).
        resamples: Number of bootstrap resamples.
        top: The k of precision at k. 0 means a quarter of the nets.
        only: Folders of `retrain` whose nets are ranked. Empty ranks all.
        location: Where the images are now. The worst mistakes are shown with their images.

    Attributes:
        lead: The sentences of the first screen.
        words: The conclusions.

    Raises:
        InputError: A run or a folder does not exist, or a file is damaged.
    """

    def __init__(
        self,
        directory: RunDirectory,
        others: Sequence[RunDirectory] = (),
        resamples: int = 1000,
        top: int = 0,
        only: Iterable[str] = (),
        location: LocationSettings | None = None,
    ):
        self.directory, self.others = directory, list(others)
        self.resamples, self.top = resamples, top
        self.page = Page()
        self.location = location or LocationSettings(download=False)
        self.lead: list[str] = []
        self.words: list[str] = []
        self.dataset = directory.group(DataSettings, "data").dataset
        self.candidates = CandidateFile(directory).read()
        self.nets, self.left_out = comparable(directory, only, self.candidates)

    def write(self):
        """Writes all sections, and returns the path of report.html."""
        self.lead = first_screen(self.page, self.directory, self.candidates, self.location)
        self._ranking()
        self._selections()
        candidate_sections.distribution(self.page, self.directory, self.candidates, self.resamples)
        searches.searches(self.page, self.directory)
        self._other_runs()
        run_sections.training(self.page, self.directory)
        learnt.learnt(self.page, self.directory)
        run_sections.tracked(self.page, self.directory)
        candidate_sections.winner(self.page, self.directory, self.candidates)
        run_sections.commands(self.page, self.directory)
        title = f"{self.dataset}: {self.directory.path.resolve().name}"
        return self.page.write(self.directory.path / "report", title, self.words)

    def _ranking(self):
        self.page.head(
            "Ranking", "How well values known before training rank stand-alone accuracy."
        )
        if not self.nets:
            self.page.missing(
                "This run has no stand-alone nets to compare with.",
                how_to_make(self.directory.path),
            )
            self.words.append("No conclusion about ranking: no architecture was trained alone.")
        for number, (protocol, nets) in enumerate(self.nets.items()):
            part = RankingReport(self.page, self.directory, self.resamples, self.top)
            part.write(protocol, nets, f"ranking{number or ''}")
            if number == 0:
                self.words += part.conclusions(protocol, nets)
        name = measure(self.directory)
        if self.nets and name != MEASURES["shared"]:
            self.words.append(f"In this search, candidate accuracy is the {name}.")
        for protocol, nets in self.left_out.items():
            self.words.append(
                f"{len(nets)} nets are left out of the ranking ({protocol}). Their candidate "
                "accuracies were measured on fewer images than those of other nets, or not at all."
            )
        if self.nets and not self.others:
            self.words.append(
                "The ranking covers one one-shot model. Models trained with another seed or drop "
                "rate may rank differently. To compare more runs, give --compare=DIR,DIR."
            )

    def _selections(self):
        self.page.head(
            "Selections", "Stand-alone nets by selection, as in tables 1 and 2 of the paper."
        )
        results = read_results(self.directory, baselines=True)
        rows = []
        dataset = self.dataset
        for result in results:
            settings, nets = result["retrain"], result["nets"]
            millions = np.array([net["parameters"] for net in nets]) / 1e6
            theirs = paper.row(dataset, settings["select"], settings["filters"])
            printed = "-" if theirs is None else (
                f"{_pm(theirs[2], theirs[3], 1)} %, {_pm(theirs[0], theirs[1], 1)} M"
            )  # fmt: skip
            std = float(np.std(millions, ddof=1)) if len(nets) > 1 else None
            work = np.mean([net["multiply_adds"] for net in nets]) / 1e6
            label = " (baseline)" if is_baseline(nets[0]) else ""
            rows.append(
                [result["name"] + label, str(settings["filters"]), str(len(nets)),
                 _pm(100 * result["mean"], result["std"] and 100 * result["std"], 2) + " %",
                 _pm(float(millions.mean()), std, 3), f"{work:.3f}", result["evaluated_on"],
                 f"{result['num_steps']:,}", printed]
            )  # fmt: skip
        if not rows:
            self.page.missing(
                "No architecture was trained alone.", how_to_make(self.directory.path)
            )
            return
        titles = ["selection", "F", "nets", "accuracy (std)", "10^6 parameters (std)",
                  "10^6 multiply-adds", "images", "steps", "paper, at full size"]  # fmt: skip
        self.page.table("selections", titles, rows, "Standard deviations are over nets.")
        for protocol, nets in self.nets.items():
            for other in ("random", "small"):
                difference = ranking.compare_selections(nets, "top", other)
                if difference is not None:
                    self.page.text(
                        f"{protocol}: {difference.name} is {difference} in mean accuracy. The 95 % "
                        "interval is by Welch's t over nets, for this difference alone."
                    )
                    decided = not difference.low <= 0.0 <= difference.high
                    self.words.append(
                        f"In mean stand-alone accuracy, {difference.name} is {difference}"
                        f"{'' if decided else ', which does not decide the question'}."
                    )

    def _other_runs(self):
        if not self.others:
            return
        self.page.head("Other one-shot models", "The same stand-alone nets, ranked by each model.")
        nets: Any
        nets = next(iter(self.nets.values()), [])
        rows, groups, values = [], {}, []
        for number, directory in enumerate((self.directory, *self.others), start=1):
            known = self._accuracies(directory, {n.architecture for n in nets})
            one_shot = directory.group(OneShotSettings, "one_shot")
            # The name leaves out the folder, so that plots do not change when it is renamed.
            name = f"{number}: {_described(directory.strategy())}, seed {one_shot.seed}"
            points = [
                (known[n.architecture], n.mean, n.accuracies)
                for n in nets if n.architecture in known
            ]  # fmt: skip
            if len(points) < 2:
                self.page.missing(
                    f"{directory.path} has {len(points)} of the {len(nets)} architectures among "
                    "its candidates. A search with the same --seed and --num_candidates evaluates "
                    "the same architectures.",
                    command("search", f"--run_dir={directory.path}"),
                )
                continue
            groups[name] = points
            x, y = (np.array([p[i] for p in points]) for i in (0, 1))
            m = ranking.measure(ranking.spearman, "Spearman", x, y, self.resamples)
            values.append(m.value)
            spread = f"{x.min():.3f} to {x.max():.3f}"
            rows.append([name, directory.path.name, str(len(points)), str(m), spread])
        if not groups:
            return
        titles = ["one-shot model", "folder", "nets", "Spearman", "candidate accuracy"]
        self.page.table(
            "one_shot_models", titles, rows, "95 % bootstrap intervals over architectures."
        )
        label = "candidate accuracy (shared weights, validation images)"
        self.page.figure(
            "one_shot_models",
            plots.ranking(groups, label),
            "Stand-alone accuracy against candidate accuracy (the paper's figure 4).",
        )
        if len(values) > 1:
            self.words.append(
                f"Over {len(values)} one-shot models, Spearman is {np.mean(values):.3f} on average "
                f"(standard deviation {np.std(values, ddof=1):.3f})."
            )

    def _accuracies(self, directory: RunDirectory, architectures: Any):
        """Returns the candidate accuracies of some architectures in one of the runs, by text."""
        here = directory is self.directory
        found = measured(self.candidates if here else CandidateFile(directory).read())
        texts = ((str(c.architecture), c.candidate_accuracy) for c in found)
        return {text: accuracy for text, accuracy in texts if text in architectures}


def _pm(mean: float, std: float | None, digits: int) -> str:
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _described(strategy: Settings) -> str:
    """Returns a description of a strategy, for plots."""
    values = strategy.to_dict()
    name = values.pop("strategy")
    if name == "path_dropout":
        return f"r = {values['drop_rate']:g}, {values['drop_schedule']}"
    return ", ".join([name, *(f"{key} = {value}" for key, value in values.items())])
