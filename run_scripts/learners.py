"""Makes the table of what learners derive. learners.sh trains the runs.

    python run_scripts/learners.py DIR

The truth is docs/results/cells84.csv: the stand-alone accuracy of all 84 cells of one choice block.
"""

import argparse
import csv
import json
import pathlib

import numpy as np

from oneshot_tf.analysis import ranking
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory

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


def log_probabilities(space, found: dict[str, list[float]]) -> dict[str, float]:
    """Returns the log probability of each architecture, from the options' probabilities."""
    logs = [np.log(np.maximum(found[decision.name], 1e-12)) for decision in space.decisions]
    options = np.indices([len(log) for log in logs]).reshape(len(logs), -1).T
    return {
        str(space.architecture(tuple(map(int, genes)))): float(
            sum(log[gene] for log, gene in zip(logs, genes))
        )
        for genes in options
    }


def of_run(folder: pathlib.Path, truth: dict[str, float]) -> tuple[str, dict[str, float]]:
    """Returns what a run derived, and how good it is.

    A learner derives the architecture of the most probable options, and ranks by probability. With
    path dropout, the best candidate is derived, and candidates rank by their accuracy.
    """
    directory = RunDirectory(folder)
    if (folder / "decisions.jsonl").exists():
        line = json.loads((folder / "decisions.jsonl").read_text().splitlines()[-1])
        scores = log_probabilities(directory.space(), line["probabilities"])
        derived, more = line["architecture"], {"entropy": line["entropy"]}
    else:
        found = CandidateFile(directory).read()
        scores = {str(c.architecture): c.candidate_accuracy for c in found}
        derived, more = max(scores, key=scores.get), {"entropy": float("nan")}
    values = np.array(list(truth.values()))
    operations = derived.partition(":")[2].split("+")
    free = np.mean([name in ("identity", "max3x3", "avg3x3") for name in operations])
    return derived, {
        "stand-alone accuracy": truth[derived],
        "rank": 1 + int((values > truth[derived]).sum()),
        "regret": values.max() - truth[derived],
        "Spearman": ranking.spearman([scores[a] for a in truth], values),
        "without parameters": float(free),
        **more,
    }


def spread(values) -> str:
    """Formats the mean and standard deviation over seeds."""
    digits = 1 if np.mean(values) >= 2 else 3
    mean = f"{np.mean(values):.{digits}f}"
    if np.isnan(np.mean(values)):
        return ""
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Reads DIR and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="Folder that learners.sh wrote.")
    folder = parser.parse_args().folder
    truth = read_truth(_TRUTH)
    runs: dict[str, list] = {}
    for path in sorted(folder.glob("*_s[0-9]*")):
        finished = path / "metrics.jsonl"
        if finished.exists() and finished.read_text().splitlines()[-1].startswith('{"step": 1000'):
            runs.setdefault(path.name.rpartition("_s")[0], []).append(of_run(path, truth))
    names = list(next(iter(runs.values()))[0][1])
    print("| strategy | n | different cells | " + " | ".join(names) + " |")
    print("|" + "---|" * (3 + len(names)))
    for name, found in runs.items():
        cells = [spread([measured[each] for _, measured in found]) for each in names]
        different = len({derived for derived, _ in found})
        print(f"| {name} | {len(found)} | {different} | {' | '.join(cells)} |")
    values = np.array(list(truth.values()))
    ranks = [1 + (values > value).sum() for value in values]
    random = [spread(values), spread(ranks), spread(values.max() - values)]
    print(f"| any cell at random | {len(values)} | {len(values)} | {' | '.join(random)} | | | |")


if __name__ == "__main__":
    main()
