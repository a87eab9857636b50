"""Makes the tables of what learners derive. learners.sh and learners_cifar.sh train the runs.

    python run_scripts/learners.py DIR                 # of learners.sh
    python run_scripts/learners.py DIR --space=paper   # of learners_cifar.sh

The truth of learners.sh is docs/results/cells84.csv: the stand-alone accuracy of all 84 cells of
one choice block.
"""

import argparse
import csv
import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.analysis import ranking
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.searching.restored import restore_learner
from oneshot_tf.strategies.enas import Enas

_TRUTH = pathlib.Path(__file__).parent.parent / "docs" / "results" / "cells84.csv"


def read_truth(path) -> dict[str, float]:
    """Returns the mean stand-alone accuracy by architecture."""
    with open(path, encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            row["architecture"]: float(
                np.mean([float(v) for k, v in row.items() if k.startswith("accuracy_")])
            )
            for row in rows
        }


def log_probabilities(learner: Any) -> dict[str, float]:
    """Returns the log probability of each architecture that a learner could derive.

    The options of a decision depend on those before it in ENAS, and are independent elsewhere.
    """
    decisions = learner.space.decisions
    genes = np.indices([d.num_options for d in decisions]).reshape(len(decisions), -1).T
    if isinstance(learner, Enas):
        weights = [weight.value for weight in learner.weights]
        found = learner.controller.score(weights, tf.constant(genes, tf.int32))[0].numpy()
    else:
        logs = [np.log(np.maximum(p, 1e-12)) for p in learner.probabilities()]
        found = sum(log[column] for log, column in zip(logs, genes.T))
    texts = [str(learner.space.architecture(tuple(map(int, row)))) for row in genes]
    return dict(zip(texts, map(float, found)))


def of_run(folder: pathlib.Path, truth: dict[str, float]) -> tuple[str, dict[str, float]]:
    """Returns what a run derived, and how good it is.

    A learner derives the architecture of the most probable options, and ranks by probability. With
    path dropout, the best candidate is derived, and candidates rank by their accuracy.
    """
    directory = RunDirectory(folder)
    if (folder / "decisions.jsonl").exists():
        learner = restore_learner(directory)
        scores, derived = log_probabilities(learner), str(learner.mode())
        entropy = learner.entropy()
    else:
        found = CandidateFile(directory).read()
        scores = {str(c.architecture): c.candidate_accuracy for c in found}
        derived, entropy = max(scores, key=scores.get), float("nan")
    values = np.array(list(truth.values()))
    operations = derived.partition(":")[2].split("+")
    free = np.mean([name in ("identity", "max3x3", "avg3x3") for name in operations])
    return derived, {
        "stand-alone accuracy": truth[derived],
        "rank": 1 + int((values > truth[derived]).sum()),
        "regret": values.max() - truth[derived],
        "Spearman": ranking.spearman([scores[a] for a in truth], values),
        "without parameters": float(free),
        "entropy": entropy,
    }


def of_paper_run(folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """Returns rows of the table of the whole space, by name: what a run derived, and random nets.

    The accuracies with shared weights are means over the nets that a search scored.
    """
    name, rows = folder.name.rpartition("_s")[0], {}
    for kind in ("derived", "random"):
        path = folder / "retrain" / kind / "result.json"
        if path.exists():
            (net,) = json.loads(path.read_text())["nets"]
            row = {"parameters": net["parameters"], "test accuracy": np.mean(net["accuracies"])}
            rows[name if kind == "derived" else "any cell at random"] = row
    searched = folder / "search"
    learnt = searched / "learnt" / "search.json"
    if learnt.exists() and name in rows:
        values = json.loads(learnt.read_text())
        random = accuracies_of(searched / "random" / "candidates.csv")
        rows[name] |= {
            "mixture": values.get("mixture_accuracy") or float("nan"),
            "derived": accuracies_of(searched / "learnt" / "candidates.csv")[0],
            "uniform draws": np.mean(random),
        }
    return rows


def accuracies_of(path: pathlib.Path) -> list[float]:
    """Returns the candidate accuracies of a file, in its order."""
    with open(path, encoding="utf-8") as file:
        return [float(row["candidate_accuracy"]) for row in csv.DictReader(file)]


def spread(values) -> str:
    """Formats the mean and standard deviation over seeds."""
    digits = 1 if np.mean(values) >= 2 else 3
    mean = f"{np.mean(values):,.{digits}f}"
    if np.isnan(np.mean(values)):
        return ""
    return f"{mean} ± {np.std(values, ddof=1):,.{digits}f}" if len(values) > 1 else mean


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Prints a table in Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")


def one_block(folder: pathlib.Path) -> None:
    """Prints the table of the runs of learners.sh."""
    truth = read_truth(_TRUTH)
    runs: dict[str, list] = {}
    for path in sorted(folder.glob("*_s[0-9]*")):
        finished = path / "metrics.jsonl"
        if finished.exists() and finished.read_text().splitlines()[-1].startswith('{"step": 1000'):
            runs.setdefault(path.name.rpartition("_s")[0], []).append(of_run(path, truth))
    names = list(next(iter(runs.values()))[0][1])
    rows = []
    for name, found in runs.items():
        cells = [spread([measured[each] for _, measured in found]) for each in names]
        different = len({derived for derived, _ in found})
        rows.append([name, str(len(found)), str(different), *cells])
    values = np.array(list(truth.values()))
    ranks = [1 + (values > value).sum() for value in values]
    random = [spread(values), spread(ranks), spread(values.max() - values)]
    rows.append(["any cell at random", str(len(values)), str(len(values)), *random, "", "", ""])
    print_table(["strategy", "n", "different cells", *names], rows)


def whole_space(folder: pathlib.Path) -> None:
    """Prints the table of the runs of learners_cifar.sh."""
    names = ["mixture", "derived", "uniform draws", "parameters", "test accuracy"]
    runs: dict[str, list] = {}
    for path in sorted(folder.glob("*_s[0-9]*")):
        for name, row in of_paper_run(path).items():
            runs.setdefault(name, []).append(row)
    rows = [
        [name, str(len(found))] + [spread([r.get(n, np.nan) for r in found]) for n in names]
        for name, found in runs.items()
    ]
    print_table(["strategy", "n", *names], rows)


def main() -> None:
    """Reads DIR and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="Folder of the runs.")
    parser.add_argument(
        "--space",
        choices=("one_block", "paper"),
        default="one_block",
        help="one_block: runs of learners.sh. paper: runs of learners_cifar.sh.",
    )
    arguments = parser.parse_args()
    {"one_block": one_block, "paper": whole_space}[arguments.space](arguments.folder)


if __name__ == "__main__":
    main()
