"""RUN_DIR/report/: one page that opens offline, plots and tables beside it."""

import shlex

import numpy as np

from oneshot_tf.analysis import paper, plots, ranking
from oneshot_tf.analysis.drawing import draw_cell
from oneshot_tf.analysis.page import Page
from oneshot_tf.candidates import CandidateFile
from oneshot_tf.files import read_json_lines
from oneshot_tf.results import read_results
from oneshot_tf.space.architecture import Architecture


class Report:
    """Collects sections, then writes them.

    Args:
        directory: the `RunDirectory` reported on.
        others: more of them, with other one-shot models of the same data and space (figure 4).
        resamples: of the bootstrap.
        top: k of precision at k; 0: a quarter of the nets.
        only: folders of `retrain` whose nets are ranked; empty: all.

    Raises:
        InputError: one of them isn't there.
    """

    def __init__(self, directory, others=(), resamples: int = 1000, top: int = 0, only=()):
        self.directory, self.others = directory, list(others)
        self.resamples, self.top = resamples, top
        self.page, self.words = Page(), []
        self.config = directory.config()
        self.candidates = self._candidates(directory)
        self.nets = ranking.collect(directory, only)

    def write(self):
        """Makes all sections; returns the path of report.html."""
        self._ranking()
        self._selections()
        self._candidate_plots()
        self._other_runs()
        self._training()
        self._tracked()
        self._winner()
        self._commands()
        title = f"{self.config['data']['dataset']}: {self.directory.path.name}"
        return self.page.write(self.directory.path / "report", title, self.words)

    def _ranking(self):
        self.page.head(
            "Ranking", "How well what is known before training ranks stand-alone accuracy."
        )
        run = f"--run_dir={self.directory.path}"
        if not self.nets:
            self.page.missing(
                "There is no stand-alone net to compare with.",
                f"python -m oneshot_tf.retrain {run} --select=stratified --count=32 --repeats=2 "
                "--evaluate_on=validation",
            )
            self.words.append("Nothing about ranking: no architecture was trained alone.")
            return
        for number, (protocol, nets) in enumerate(self.nets.items()):
            self._rank(protocol, nets, f"ranking{number or ''}", main=number == 0)

    def _rank(self, protocol, nets, name, main):
        runs = sorted({len(net.accuracies) for net in nets})
        noise = ranking.noise(nets)
        spread = (
            "one run each, so the noise is unknown" if noise is None
            else f"standard error of a net's mean {noise:.4f}"
        )  # fmt: skip
        counts = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
        self.page.text(f"{protocol}: {len(nets)} architectures, {counts} run(s) each, {spread}.")
        if len(nets) < ranking.FEWEST:
            self.page.missing(
                f"{len(nets)} architectures are too few for intervals, which need "
                f"{ranking.FEWEST}.",
                f"python -m oneshot_tf.retrain --run_dir={self.directory.path} --select=stratified "
                "--count=32 --repeats=2",
            )
        report = ranking.rank(nets, self.resamples, self.top)
        titles = [m.name for m in next(iter(report.values()))]
        rows = [[predictor, *map(str, measures)] for predictor, measures in report.items()]
        self.page.table(
            name, ["ranked by", *titles], rows, "95 % bootstrap intervals over architectures."
        )
        again = ranking.agreement_of_runs(nets, self.resamples)
        if again is not None and again.value > 0:
            count = runs[0]
            ceiling = np.sqrt(count * again.value / (1 + (count - 1) * again.value))
            self.page.text(
                f"Two runs of the same nets have a Spearman correlation of {again} with each "
                f"other. By Spearman and Brown, even the nets' true accuracies would reach about "
                f"{ceiling:.2f}, and no more, with the means of {count} run(s)."
            )
        for of, given in (
            ("candidate accuracy", "parameters"), ("parameters", "candidate accuracy")
        ):  # fmt: skip
            rest = ranking.partial(nets, of, given, self.resamples)
            if rest is not None:
                self.page.text(f"Partial rank correlation with accuracy, {rest.name}: {rest}.")
        known = [net for net in nets if net.candidate_accuracy is not None]
        if known:
            groups = {}
            for net in known:
                point = (net.candidate_accuracy, net.mean, net.accuracies)
                groups.setdefault(net.selections[0], []).append(point)
            label = "candidate accuracy (shared weights, validation images)"
            self.page.figure(name, plots.ranking(groups, label), "Figure 5, top, of the paper.")
        if main:
            self._conclude(nets, report, noise)

    def _conclude(self, nets, report, noise):
        """In words, what the numbers allow."""
        say = self.words.append
        measures = {m.name: m for m in report.get("candidate accuracy", [])}
        spearman = measures.get("Spearman")
        if len(nets) < ranking.FEWEST or spearman is None or np.isnan(spearman.low):
            say(f"Nothing about ranking: {len(nets)} comparable architectures are too few.")
            return
        if spearman.low > 0:
            say(
                f"Candidate accuracy ranks these {len(nets)} architectures better than chance: "
                f"Spearman {spearman}."
            )
        else:
            say(
                f"These {len(nets)} architectures don't show that candidate accuracy ranks better "
                f"than chance: Spearman {spearman}."
            )
        for other in ("parameters", "multiply-adds", "divergence (KL)"):
            less = ranking.advantage(nets, other, self.resamples)
            if less is None:
                continue
            if less.low > 0:
                say(f"It ranks better than {other}: {less.name} is {less}.")
            elif less.high < 0:
                say(f"It ranks worse than {other}: {less.name} is {less}.")
            else:
                say(f"Whether it ranks better than {other} isn't decided: {less.name} is {less}.")
        if noise is None:
            say("Each net was trained once, so noise of training is counted as error of ranking.")
        if all(protocol.evaluated_on == "validation" for protocol in list(self.nets)[:1]):
            say(
                "The same validation images ranked the candidates and judged the nets, which "
                "flatters the ranking a little."
            )
        selections = {name for net in nets for name in net.selections}
        if selections <= {"top"}:
            say("Only top candidates were trained alone: over the whole range it may be different.")
        elif selections & {"top", "small"}:
            say(
                "Some nets were trained because they rank high, which spreads them more than "
                "chance would and raises correlations; --select=stratified or random alone is "
                "fairer."
            )
        if not self.others:
            say(
                "One one-shot model: nothing follows for others, trained with another seed or "
                "drop rate. Give more runs: --compare=DIR,DIR."
            )

    def _selections(self):
        self.page.head("Selections", "Stand-alone nets by how they were chosen; tables 1 and 2.")
        results = read_results(self.directory)
        rows = []
        dataset = self.config["data"]["dataset"]
        for result in results:
            settings, nets = result["retrain"], result["nets"]
            millions = np.array([net["parameters"] for net in nets]) / 1e6
            theirs = paper.row(dataset, settings["select"], settings["filters"])
            printed = "-" if theirs is None else (
                f"{_pm(theirs[2], theirs[3], 1)} %, {_pm(theirs[0], theirs[1], 1)} M"
            )  # fmt: skip
            std = float(np.std(millions, ddof=1)) if len(nets) > 1 else None
            rows.append(
                [result["name"], str(settings["filters"]), str(len(nets)),
                 _pm(100 * result["mean"], result["std"] and 100 * result["std"], 2) + " %",
                 _pm(float(millions.mean()), std, 3), result["evaluated_on"],
                 f"{result['num_steps']:,}", printed]
            )  # fmt: skip
        if not rows:
            self.page.missing(
                "No architecture was trained alone.",
                f"python -m oneshot_tf.retrain --run_dir={self.directory.path}",
            )
            return
        titles = ["selection", "F", "nets", "accuracy (std)", "10^6 parameters (std)", "images",
                  "steps", "the paper's, at full size"]  # fmt: skip
        self.page.table("selections", titles, rows, "Standard deviations are over nets.")
        for protocol, nets in self.nets.items():
            for other in ("random", "small"):
                difference = ranking.compare_selections(nets, "top", other)
                if difference is not None:
                    self.page.text(
                        f"{protocol}: {difference.name} is {difference}, 95 % by Welch's t over "
                        "nets."
                    )

    def _candidate_plots(self):
        self.page.head("Candidates", "Architectures evaluated with the shared weights.")
        whole = _measured(self.candidates)
        if not whole:
            self.page.missing(
                "There are no candidates.",
                f"python -m oneshot_tf.search --run_dir={self.directory.path}",
            )
            return
        label = "candidate accuracy (shared weights, validation images)"
        values = {self.directory.path.name: [c.candidate_accuracy for c in whole]}
        self.page.figure(
            "candidates", plots.histogram(values, label), "Figure 5, bottom, of the paper."
        )
        both = [c for c in whole if c.divergence is not None]
        if len(both) < 2:
            self.page.missing(
                "Divergences weren't measured, as in a race or by an older search.",
                "python -m oneshot_tf.search in a run directory without candidates.csv",
            )
            return
        x, y = [c.divergence for c in both], [c.candidate_accuracy for c in both]
        measured = ranking.measure(
            ranking.spearman, "Spearman", -np.array(x), np.array(y),
            self.resamples,
        )  # fmt: skip
        caption = f"Figure 6 of the paper. Spearman of accuracy with -divergence: {measured}."
        self.page.figure("divergence", plots.divergence(x, y), caption)

    def _other_runs(self):
        if not self.others:
            return
        self.page.head("Other one-shot models", "The same stand-alone nets; figure 4 of the paper.")
        nets = next(iter(self.nets.values()), [])
        rows, groups, values = [], {}, []
        for directory in (self.directory, *self.others):
            known = {str(c.architecture): c for c in _measured(self._candidates(directory))}
            one_shot = directory.config()["one_shot"]
            name = (
                f"{directory.path.name}: r = {one_shot['drop_rate']:g}, "
                f"{one_shot['drop_schedule']}, seed {one_shot['seed']}"
            )
            points = [
                (known[n.architecture].candidate_accuracy, n.mean, n.accuracies)
                for n in nets if n.architecture in known
            ]  # fmt: skip
            if len(points) < 2:
                self.page.missing(
                    f"{directory.path} has {len(points)} of the {len(nets)} architectures among "
                    "its candidates; the same --seed and --num_candidates give the same ones.",
                    f"python -m oneshot_tf.search --run_dir={directory.path}",
                )
                continue
            groups[name] = points
            x, y = (np.array([p[i] for p in points]) for i in (0, 1))
            m = ranking.measure(ranking.spearman, "Spearman", x, y, self.resamples)
            values.append(m.value)
            rows.append([name, str(len(points)), str(m), f"{x.min():.3f} to {x.max():.3f}"])
        if not groups:
            return
        titles = ["one-shot model", "nets", "Spearman", "candidate accuracy"]
        self.page.table(
            "one_shot_models", titles, rows, "95 % bootstrap intervals over architectures."
        )
        label = "candidate accuracy (shared weights, validation images)"
        self.page.figure("one_shot_models", plots.ranking(groups, label), "Figure 4 of the paper.")
        if len(values) > 1:
            self.words.append(
                f"Over {len(values)} one-shot models, Spearman is {np.mean(values):.3f} on average "
                f"(standard deviation {np.std(values, ddof=1):.3f})."
            )

    def _training(self):
        form = {"step": int, "loss": float, "accuracy": float}
        lines = read_json_lines(self.directory.path / "metrics.jsonl", form)
        if lines:
            self.page.head(
                "Training of the one-shot model", "A point for each line of metrics.jsonl."
            )
            loss = plots.training(lines, "loss", "loss, L2 included")
            self.page.figure("training_loss", loss, "Loss.")
            accuracy = plots.training(lines, "accuracy", "accuracy (training images)")
            self.page.figure("training_accuracy", accuracy, "Accuracy, with dropped paths.")

    def _tracked(self):
        path = self.directory.path / "tracked.jsonl"
        lines = read_json_lines(path, {"step": int, "divergence": dict})
        names = list(lines[-1]["divergence"]) if lines else []
        lines = [line for line in lines if list(line["divergence"]) == names]
        try:
            values = {n: [float(line["divergence"][n]) for line in lines] for n in names}
            accuracies = {n: lines[-1].get("candidate_accuracy", {}).get(n) for n in names}
            accuracies = {n: a and float(a) for n, a in accuracies.items()}
        except (TypeError, ValueError, AttributeError):
            values = {}
        if not values:
            return
        self.page.head("Divergence over training", "")
        drawing = plots.tracked([line["step"] for line in lines], values, accuracies)
        self.page.figure("tracked", drawing, "Figure 7 of the paper.")
        rows = [
            [str(i + 1), name, "-" if accuracies[name] is None else f"{accuracies[name]:.4f}"]
            for i, name in enumerate(names)
        ]
        self.page.table("tracked", ["number", "architecture", "candidate accuracy"], rows, "")

    def _winner(self):
        """The best by candidate accuracy, and what came of it."""
        whole = _measured(self.candidates)
        if not whole:
            return
        best = min(
            whole, key=lambda c: (-c.candidate_accuracy, c.cross_entropy, str(c.architecture))
        )
        self.page.head("The best candidate", f"Candidate accuracy {best.candidate_accuracy:.4f}.")
        self.page.code(str(best.architecture))
        drawing = draw_cell(Architecture.from_text(str(best.architecture)))
        self.page.figure(
            "best_cell", drawing, f"{best.parameters:,} parameters at the one-shot model's F."
        )

    def _commands(self):
        self.page.head("Commands and versions", "")
        path = self.directory.path / "provenance.jsonl"
        form = {"time": str, "command": [str], "packages": dict, "python": str, "devices": [str],
                "commit": (str, None)}  # fmt: skip
        rows = []
        for start in read_json_lines(path, form):
            program, *arguments = start["command"] or [""]
            module = program.replace("\\", "/").split("/")[-1].removesuffix(".py")
            packages = ", ".join(f"{name} {version}" for name, version in start["packages"].items())
            rows.append(
                [start["time"], f"python -m oneshot_tf.{module} {shlex.join(arguments)}",
                 str(start["commit"]), f"Python {start['python']}, {packages}",
                 ", ".join(start["devices"])]
            )  # fmt: skip
        if rows:
            self.page.table(
                "commands", ["started", "command", "commit", "versions", "devices"], rows, ""
            )

    def _candidates(self, directory):
        return CandidateFile(directory.path / "candidates.csv", directory.space()).read()


def _measured(candidates):
    """Those measured on all images: others can't be compared with them."""
    most = max((c.num_images for c in candidates), default=0)
    return [c for c in candidates if most and c.num_images == most]


def _pm(mean, std, digits) -> str:
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")
