"""Makes the tables and data of the learning-rate ablation. schedule_ablation.sh trains the models.

    python run_scripts/schedule_ablation.py DIR          # prints the tables
    python run_scripts/schedule_ablation.py DIR --out=docs/results

With --out it writes three files. cells84.csv has every cell of one choice block with its
stand-alone accuracies. cells84_candidates.csv has the candidate accuracies of these cells in every
one-shot model. cells84_schedules.svg is a plot.
"""

import argparse
import csv
import itertools
import json
import pathlib

import numpy as np
from scipy.stats import rankdata

from oneshot_tf.analysis import ranking
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory

_QUARTER = 21  # of 84


def read_truth(folder) -> dict[str, dict]:
    """Returns parameters, multiply-adds and one accuracy per run, by architecture."""
    nets = {}
    for path in sorted(folder.glob("truth/retrain/run*/result.json")):
        for net in json.loads(path.read_text())["nets"]:
            entry = nets.setdefault(net["architecture"], {**net, "accuracies": []})
            entry["accuracies"] += net["accuracies"]
    most = max(len(net["accuracies"]) for net in nets.values())
    return {text: net for text, net in nets.items() if len(net["accuracies"]) == most}


def read_models(folder) -> list[dict]:
    """Returns the settings of each one-shot model and its candidates by architecture."""
    models = []
    for path in sorted(folder.glob("one_shot/*/candidates.csv")):
        directory = RunDirectory(path.parent)
        config = directory.config()
        found = CandidateFile(directory).read()
        models.append(
            {
                "ghosts": config["train"]["batch_size"] // config["train"]["ghost_batch_size"],
                "schedule": config["train"]["learning_rate_schedule"],
                "drop": config["strategy"]["drop_schedule"],
                "steps": config["one_shot"]["train_steps"],
                "seed": config["one_shot"]["seed"],
                "all_on": json.loads((path.parent / "search.json").read_text())["all_on_accuracy"],
                "candidates": {str(c.architecture): c for c in found},
            }
        )
    return models


def measure(model, truth) -> dict[str, float]:
    """Measures how well the candidate accuracies of a one-shot model rank the 84 cells.

    "shift without weights" is the mean number of ranks by which the 18 cells whose operations have
    no weights are too high.
    """
    order = sorted(truth)
    x = np.array([model["candidates"][a].candidate_accuracy for a in order])
    y = np.array([np.mean(truth[a]["accuracies"]) for a in order])
    size = np.array([truth[a]["parameters"] for a in order])
    best = np.argsort(-y)[:_QUARTER]
    return {
        "Spearman": ranking.spearman(x, y),
        "of the best 21": ranking.spearman(x[best], y[best]),
        "precision at 21": float(ranking.in_top(x, _QUARTER) @ ranking.in_top(y, _QUARTER)) / 21,
        "regret": float(y.max() - y[x == x.max()].mean()),
        "with parameters": ranking.spearman(x, size),
        "shift without weights": float((rankdata(x) - rankdata(y))[weightless(order)].mean()),
        "spread": float(x.std()),
        "All On": model["all_on"],
    }


def weightless(order) -> np.ndarray:
    """Returns whether each cell has only operations without weights: identity and pools."""
    operations = [set(text.partition(":")[2].split("+")) for text in order]
    return np.array([each <= {"identity", "max3x3", "avg3x3"} for each in operations])


def spread(values) -> str:
    """Formats the mean and standard deviation over seeds."""
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def print_tables(truth, models) -> None:
    """Prints how well truth repeats, then one line per kind of one-shot model."""
    order = sorted(truth)
    runs = np.array([truth[a]["accuracies"] for a in order]).T
    pairs = [ranking.spearman(a, b) for a, b in itertools.combinations(runs, 2)]
    print(f"{len(order)} cells, {len(runs)} runs: {runs.min():.3f} to {runs.max():.3f}.")
    if pairs:
        again, count = np.mean(pairs), len(runs)
        reliability = count * again / (1 + (count - 1) * again)
        print(
            f"Two runs: Spearman {spread(pairs)}. Ceiling of any ranking: {reliability**0.5:.3f}."
        )
    for name in ("parameters", "multiply_adds"):
        cost = np.array([truth[a][name] for a in order])
        print(f"{name}: Spearman {ranking.spearman(cost, runs.mean(0)):.3f} with the truth.")
    groups = {}
    for model in models:
        key = (model["ghosts"], model["steps"], model["drop"], model["schedule"])
        groups.setdefault(key, []).append(measure(model, truth))
    names = list(next(iter(groups.values()))[0])
    print("| ghosts | steps | rates | learning rate | n | " + " | ".join(names) + " |")
    print("|" + "---|" * (5 + len(names)))
    for key, measured in sorted(groups.items()):
        cells = [spread([m[name] for m in measured]) for name in names]
        print(f"| {' | '.join(map(str, key))} | {len(measured)} | {' | '.join(cells)} |")


def write_data(truth, models, out, header) -> None:
    """Writes the CSV files, each with a comment about its origin."""
    out.mkdir(parents=True, exist_ok=True)
    runs = range(max(len(net["accuracies"]) for net in truth.values()))
    with open(out / "cells84.csv", "w", newline="", encoding="utf-8") as file:
        file.write(header)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["architecture", "parameters", "multiply_adds", *(f"accuracy_{r}" for r in runs)]
        )
        for text in sorted(truth):
            net = truth[text]
            writer.writerow([text, net["parameters"], net["multiply_adds"], *net["accuracies"]])
    settings = ("ghosts", "steps", "drop", "schedule", "seed")
    with open(out / "cells84_candidates.csv", "w", newline="", encoding="utf-8") as file:
        file.write(header)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*settings, "architecture", "candidate_accuracy", "cross_entropy"])
        for model in models:
            for text, c in sorted(model["candidates"].items()):
                values = [model[name] for name in settings]
                writer.writerow([*values, text, c.candidate_accuracy, c.cross_entropy])


def provenance(folder) -> str:
    """Returns comment lines with the command, versions and commit of the runs."""
    line = (folder / "truth" / "provenance.jsonl").read_text().splitlines()[-1]
    start = json.loads(line)
    packages = ", ".join(f"{name} {version}" for name, version in start["packages"].items())
    return (
        "# CIFAR-10 (JPEG copy), 16x16, three cells, F = 8; validation accuracy on 5,000 images.\n"
        "# Command: ./run_scripts/schedule_ablation.sh DIR --data_dir=DATA\n"
        f"# Commit {start['commit']}, Python {start['python']}, {packages}.\n"
    )


def draw(truth, models, path) -> None:
    """Plots stand-alone against candidate accuracy: one panel per kind, one colour per seed."""
    from matplotlib.figure import Figure

    kinds = sorted({(m["ghosts"], m["schedule"]) for m in models if m["drop"] == "linear"})
    columns = max(1, len(kinds) // 2)
    figure = Figure(figsize=(4 * columns, 7), layout="constrained")
    axes = np.atleast_1d(figure.subplots(-(-len(kinds) // columns), columns)).ravel()
    order = sorted(truth)
    y = [np.mean(truth[a]["accuracies"]) for a in order]
    for axis, kind in zip(axes, kinds):
        for model in models:
            if (model["ghosts"], model["schedule"], model["drop"]) == (*kind, "linear"):
                x = [model["candidates"][a].candidate_accuracy for a in order]
                axis.scatter(x, y, s=8, label=f"seed {model['seed']}")
        axis.set_title(f"{kind[0]} ghost batches, {kind[1]}")
        axis.set_xlabel("candidate accuracy")
        axis.set_ylabel("stand-alone accuracy, mean of runs")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Reads DIR, prints the tables, and writes the data to --out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="Folder that schedule_ablation.sh wrote.")
    parser.add_argument("--out", type=pathlib.Path, help="Folder for data and plot.")
    arguments = parser.parse_args()
    truth, models = read_truth(arguments.folder), read_models(arguments.folder)
    print_tables(truth, models)
    if arguments.out:
        write_data(truth, models, arguments.out, provenance(arguments.folder))
        draw(truth, models, arguments.out / "cells84_schedules.svg")


if __name__ == "__main__":
    main()
