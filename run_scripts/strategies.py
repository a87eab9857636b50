"""Compares search strategies, always next to random search.

    python run_scripts/strategies.py --landscape=table       # the 84 cells of docs/results, minutes
    python run_scripts/strategies.py --landscape=additive --noise=0.05
    python run_scripts/strategies.py --landscape=pairs --noise=0.05 --csv=pairs.csv --svg=pairs.svg
    python run_scripts/strategies.py --landscape=run --run_dir=DIR --images=1000 --seeds=3

Landscapes:

table      stand-alone accuracies of all 84 cells of one block, the mean of three runs each
additive   the paper's space; each option of each decision adds an independent uniform value
pairs      additive, and each pair of options of neighbouring decisions adds a uniform value
run        candidate accuracies with the shared weights of --run_dir, on its first --images
           validation images; the others judge the best architecture found

A strategy observes the truth plus normal noise of standard deviation --noise, which is fixed for
each architecture and seed. Values of `additive` and `pairs` have a mean of 0 and a standard
deviation of 1 over random architectures, and are observed as 0.5 + 0.1 times the value. After each
evaluation, the script notes the true value of the architecture that was observed to be the best so
far. It prints the median and the quartiles over seeds, and in how many seeds a strategy ends above
and below random search. A strategy that has no more proposals keeps its last value.
"""

import argparse
import csv
import functools
import pathlib

import numpy as np
from scipy import stats

from oneshot_tf.analysis import plots
from oneshot_tf.evaluation.shared_weights import CandidateEvaluator
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.searching.restored import restore_supernet
from oneshot_tf.settings import LocationSettings, TrainSettings
from oneshot_tf.space.cell_space import bender2018
from oneshot_tf.strategies import PROPOSERS
from oneshot_tf.system.errors import InputError

TABLE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "results" / "cells84.csv"
# A population must be small for 84 cells. Otherwise each strategy has its default settings.
SMALL = {
    "evolution": {"population": 10, "sample_size": 3, "brood": 1},
    "tournament": {"population": 10, "sample_size": 3, "brood": 1},
    "genetic": {"generation_size": 10, "parents": 4, "mutations": 5, "crossovers": 3},
    "predictor": {"first_random": 10, "batch": 2, "pool": 40},
}


class Table:
    """The stand-alone accuracies of all cells of one block."""

    space = bender2018(num_blocks=1)

    def __init__(self, seed: int):
        lines = (line for line in TABLE.read_text().splitlines() if not line.startswith("#"))
        self.values = {
            self.space.parse(row["architecture"]): np.mean(
                [float(row[f"accuracy_{run}"]) for run in range(3)]
            )
            for row in csv.DictReader(lines)
        }

    def prepare(self, architectures) -> None:
        """Does nothing: all values are known."""

    def truth(self, architecture) -> float:
        """Returns the mean accuracy of a cell."""
        return float(self.values[architecture])

    def accuracy(self, observed: float) -> float:
        """Returns what a strategy is told."""
        return observed


class Additive:
    """Values that options add, and for "pairs" those that neighbouring options add together."""

    space = bender2018()

    def __init__(self, seed: int, pairs: bool = False):
        rng = np.random.default_rng([7, seed])
        sizes = [decision.num_options for decision in self.space.decisions]
        self.values = [rng.random(size) for size in sizes]
        self.pairs = [rng.random(size) * pairs for size in zip(sizes[:-1], sizes[1:])]
        random = [self._raw(self.space.sample(rng)) for _ in range(2000)]
        self.mean, self.deviation = np.mean(random), np.std(random)

    def _raw(self, architecture) -> float:
        genes = self.space.genes(architecture)
        total = sum(values[gene] for values, gene in zip(self.values, genes))
        return total + sum(v[pair] for v, pair in zip(self.pairs, zip(genes[:-1], genes[1:])))

    def prepare(self, architectures) -> None:
        """Does nothing: values are computed at once."""

    def truth(self, architecture) -> float:
        """Returns the value in standard deviations above the mean of random architectures."""
        return float((self._raw(architecture) - self.mean) / self.deviation)

    def accuracy(self, observed: float) -> float:
        """Returns what a strategy is told: a value between 0 and 1."""
        return float(np.clip(0.5 + 0.1 * observed, 0.0, 1.0))


class OfRun:
    """Candidate accuracies with the shared weights of a trained run, on its first images.

    Its remaining validation images judge what a strategy found, because a search also selects luck.
    """

    def __init__(self, run_dir: str, data_dir: str, images: int):
        directory = RunDirectory(run_dir)
        supernet, _ = restore_supernet(directory)
        data = directory.load_data(LocationSettings(data_dir=data_dir))
        split, ghost = data.validation.in_memory(), directory.group(TrainSettings, "train")
        if not 0 < images < len(split):
            raise InputError(
                f"--images must be from 1 to {len(split) - 1}, because the other validation images "
                f"judge the result; got {images}."
            )
        parts = split.take(slice(None, images)), split.take(slice(images, None))
        self.space = directory.space()
        self.searched, self.judging = (
            CandidateEvaluator(supernet, part, data.normalize, ghost.ghost_batch_size)
            for part in parts
        )
        self.known: dict = {}

    def prepare(self, architectures) -> None:
        """Scores architectures together, which is faster than one by one."""
        new = [a for a in dict.fromkeys(architectures) if a not in self.known]
        if new:
            self.known.update(zip(new, (score.accuracy for score in self.searched(new))))

    def truth(self, architecture) -> float:
        """Returns the accuracy on the images of the search."""
        self.prepare([architecture])
        return self.known[architecture]

    def accuracy(self, observed: float) -> float:
        """Returns what a strategy is told."""
        return observed

    def judged(self, architecture) -> float:
        """Returns the accuracy on the images that no strategy saw."""
        return self.judging([architecture])[0].accuracy


LANDSCAPES = {
    "table": Table,
    "additive": Additive,
    "pairs": functools.partial(Additive, pairs=True),
}


def curve(name: str, landscape, seed: int, evaluations: int, noise: float) -> tuple[list, object]:
    """Returns the true value of the best observed architecture after each evaluation.

    The second result is the best observed architecture of all.
    """
    small = SMALL.get(name, {}) if isinstance(landscape, Table) else {}
    entry = PROPOSERS[name]
    proposer = entry.make(landscape.space, entry.settings(**small).for_budget(evaluations), seed)
    observed, best, found = {}, None, []
    repeats = 0
    while len(found) < evaluations and repeats < 10_000:
        proposed = proposer.propose(64)
        if not proposed:
            break
        repeats += len(proposed)
        new = [a for a in dict.fromkeys(proposed) if a not in observed]
        landscape.prepare(new[: evaluations - len(found)])
        for architecture in proposed:
            if architecture in observed or len(found) == evaluations:
                continue
            key = [seed, *landscape.space.genes(architecture)]
            error = noise * np.random.default_rng(key).normal()
            observed[architecture] = landscape.truth(architecture) + error
            repeats = 0
            if best is None or observed[architecture] > observed[best]:
                best = architecture
            found.append(landscape.truth(best))
        seen = [a for a in proposed if a in observed]
        proposer.observe(seen, [landscape.accuracy(observed[a]) for a in seen])
    return found + found[-1:] * (evaluations - len(found)), best


def report(curves: dict[str, np.ndarray], points: list[int]) -> None:
    """Prints a table of medians and quartiles, and the comparison with random search."""
    heads = ["strategy", *(f"{n} evaluations" for n in points), "above, below random (p)"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * (len(points) + 2) + "|")
    for name, values in curves.items():
        cells = []
        for point in points:
            low, middle, high = np.percentile(values[:, point - 1], [25, 50, 75])
            cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        above = int((values[:, -1] > curves["random"][:, -1]).sum())
        below = int((values[:, -1] < curves["random"][:, -1]).sum())
        p = stats.binomtest(above, above + below).pvalue if above + below else 1.0
        against = "" if name == "random" else f"{above}, {below} ({p:.2g})"
        print(f"| {name} | " + " | ".join(cells) + f" | {against} |", flush=True)


def compare(arguments, names: list[str], evaluations: int) -> dict[str, np.ndarray]:
    """Returns the curves of all strategies: `[seeds, evaluations]` each."""
    run = arguments.landscape == "run"
    if run:
        of_run = OfRun(arguments.run_dir, arguments.data_dir, arguments.images)
    curves = {}
    for name in names:
        found, judged = [], []
        for seed in range(arguments.seeds):
            landscape = of_run if run else LANDSCAPES[arguments.landscape](seed)
            values, best = curve(name, landscape, seed, evaluations, arguments.noise)
            found.append(values)
            if run:
                judged.append(of_run.judged(best))
                accuracies = f"{values[-1]:.4f}; {judged[-1]:.4f} on other images"
                print(f"{name}, seed {seed}: {accuracies}: {best}", flush=True)
        curves[name] = np.array(found)
        if run:
            spread = np.std(judged, ddof=1) if len(judged) > 1 else float("nan")
            print(f"{name}: {np.mean(judged):.4f} ± {spread:.4f} on other images", flush=True)
    return curves


def write_csv(path: str, curves: dict[str, np.ndarray]) -> None:
    """Writes all curves: strategy, seed, evaluation, value."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["strategy", "seed", "evaluation", "value"])
        for name, values in curves.items():
            for seed, line in enumerate(values):
                writer.writerows([name, seed, n, f"{v:.5f}"] for n, v in enumerate(line, 1))


def main() -> None:
    """Runs all strategies on the same seeds and prints the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = [*LANDSCAPES, "run"]
    parser.add_argument("--landscape", choices=choices, default="table", help="The truth.")
    parser.add_argument("--run_dir", help="For --landscape=run: a trained run.")
    parser.add_argument("--data_dir", default="", help="For --landscape=run: where its data is.")
    parser.add_argument(
        "--images", type=int, default=1000, help="For --landscape=run: images of the search."
    )
    parser.add_argument("--strategies", default=",".join(PROPOSERS), help="Names, with commas.")
    parser.add_argument("--evaluations", type=int, default=0, help="0: 30 for table, else 300.")
    parser.add_argument("--seeds", type=int, default=20, help="Number of repeats.")
    parser.add_argument("--noise", type=float, default=0.0, help="Noise of an observation.")
    parser.add_argument("--csv", help="File for all curves.")
    parser.add_argument("--svg", help="File for a plot.")
    arguments = parser.parse_args()
    evaluations = arguments.evaluations or (30 if arguments.landscape == "table" else 300)
    names = list(dict.fromkeys(["random", *arguments.strategies.split(",")]))
    if unknown := set(names) - set(PROPOSERS):
        parser.error(f"--strategies must be among {', '.join(PROPOSERS)}; got {unknown}.")
    if arguments.seeds < 1 or evaluations < 1 or arguments.noise < 0:
        parser.error("--seeds and --evaluations must be at least 1, and --noise at least 0.")
    for path in filter(None, (arguments.csv, arguments.svg)):
        if not pathlib.Path(path).resolve().parent.is_dir():
            parser.error(f"{path} is not in a folder that exists.")
    if (arguments.landscape == "run") != bool(arguments.run_dir):
        parser.error("--landscape=run needs --run_dir, and --run_dir needs --landscape=run.")
    try:
        curves = compare(arguments, names, evaluations)
    except InputError as error:
        parser.error(str(error))
    points = sorted({max(1, evaluations // 6), evaluations // 2, evaluations})
    report(curves, points)
    if arguments.csv:
        write_csv(arguments.csv, curves)
    if arguments.svg:
        words = (
            "accuracy"
            if arguments.landscape in ("table", "run")
            else "standard deviations above random"
        )
        text = plots.bands(curves, "evaluations", f"best so far\n({words})")
        pathlib.Path(arguments.svg).write_text(text)


if __name__ == "__main__":
    main()
