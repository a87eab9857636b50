"""The section of the report about what a strategy learnt in training."""

from typing import Any

import numpy as np

from oneshot_tf.analysis import plots
from oneshot_tf.analysis.page import Page
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.system.json_files import read_json, read_json_lines

_CHANGES = 10  # of the learnt architecture that the report lists
_KINDS = {"learnt": "other draws from what was learnt", "random": "random draws"}


def learnt(page: Page, directory: RunDirectory) -> None:
    """Shows what was learnt, with the signs of known failures.

    Args:
        page: The page to write to.
        directory: The run.

    Raises:
        InputError: A file of the run is damaged.
    """
    form = {"step": int, "architecture": str, "entropy": float, "parameter_free": float}
    lines = read_json_lines(directory.path / "decisions.jsonl", form)
    if not lines:
        return
    page.head(
        "What was learnt",
        "The architecture of the most probable options, at each line of decisions.jsonl. If the "
        "entropy stays near 1, nothing was learnt. If no operation has parameters, the search has "
        "collapsed.",
    )
    entropy = plots.training(lines, "entropy", "normalised entropy of the decisions")
    page.figure("entropy", entropy, "1: all options are equally probable. 0: all is decided.")
    free = plots.training(lines, "parameter_free", "share of operations without parameters")
    page.figure("parameter_free", free, "Share in the architecture of the most probable options.")
    _curvature(page, lines)
    metrics = read_json_lines(directory.path / "metrics.jsonl", {"step": int})
    metrics = [line for line in metrics if isinstance(line.get("held_out_accuracy"), float)]
    if metrics:
        label = "accuracy (held-out images)"
        drawing = plots.training(metrics, "held_out_accuracy", label)
        about = "Accuracy of the masks in training, which may be mixtures, on held-out images."
        page.figure("held_out", drawing, about)
    _on_the_same_weights(page, directory, metrics, lines[-1]["architecture"])
    _changes(page, lines)


def _curvature(page: Page, lines: list[dict[str, Any]]) -> None:
    """Shows the dominant eigenvalue of the architecture Hessian, if it was measured."""
    name = "dominant_eigenvalue"
    measured = [line for line in lines if isinstance(line.get(name), float)]
    if not measured:
        return
    about = (
        "Of the second derivative of the held-out loss of the mixture by the logits, on one batch. "
        "If it grows much, the mixture relies on sharp minima, and the architecture of the most "
        "probable options may be bad."
    )
    rows = [[f"{line['step']:,}", f"{line[name]:.4g}"] for line in measured]
    if len(rows) > 1:
        page.figure(name, plots.training(measured, name, "dominant eigenvalue, nats"), about)
    page.table("curvature", ["step", "dominant eigenvalue, nats"], rows[-_CHANGES:], about)


def _on_the_same_weights(
    page: Page, directory: RunDirectory, metrics: list[dict[str, Any]], mode: str
) -> None:
    """Compares the masks of training, the mode, learnt draws and random draws."""
    rows = []
    if metrics:
        last = metrics[-1]["held_out_accuracy"]
        rows.append(["masks in training, last line of the log", "", f"{last:.4f}", ""])
    found, mixture = _draws(directory)
    if isinstance(mixture, float):
        rows.append(["the mixture of all options", "", f"{mixture:.4f}", ""])
    for kind, candidates in found.items():
        if kind == "learnt":
            best = [c.candidate_accuracy for c in candidates if str(c.architecture) == mode]
            shown = f"{best[0]:.4f}" if best else "outside of the limits"
            rows.append(["the most probable architecture", "1", shown, ""])
            candidates = [c for c in candidates if str(c.architecture) != mode]
        accuracies = np.array([c.candidate_accuracy for c in candidates])
        if not len(accuracies):
            continue
        spread = f"{accuracies.std(ddof=1):.4f}" if len(accuracies) > 1 else "-"
        rows.append([_KINDS[kind], f"{len(accuracies):,}", f"{accuracies.mean():.4f}", spread])
    titles = ["on the same weights", "architectures", "accuracy", "standard deviation"]
    about = (
        "If neither the most probable architecture nor the draws are better than random ones, "
        "nothing was learnt. Draws are distinct, so those of a decided learner lie in its tail. If "
        "the mixture is much better than the most probable architecture, it hides how bad this "
        "architecture is."
    )
    if len(found) < len(_KINDS):
        about += " Run search --strategy=learnt and a random search, each with a --name."
    page.table("on_the_same_weights", titles, rows, about)


def _draws(directory: RunDirectory) -> tuple[dict[str, list[Candidate]], float | None]:
    """Returns the candidates of the first learnt search and the first random one, in order.

    The second result is the accuracy of the mixture in the learnt search, if there is one. Searches
    with unscored candidates, and those without the shared weights, do not count.
    """
    found: dict[str, list[Candidate]] = {}
    mixture = None
    for name in directory.searches():
        searched = RunDirectory(directory.path, name)
        record = read_json(searched.searched / "search.json")
        kind = str(record.get("strategy", "random"))
        candidates = sorted(CandidateFile(searched).read(), key=lambda c: c.order)
        scored = all(c.candidate_accuracy is not None for c in candidates)
        if kind in _KINDS and candidates and scored and record.get("evaluator") == "shared":
            if kind == "learnt" and kind not in found:
                mixture = record.get("mixture_accuracy")
            found.setdefault(kind, candidates)
    return {kind: found[kind] for kind in _KINDS if kind in found}, mixture


def _changes(page: Page, lines: list[dict[str, Any]]) -> None:
    """Lists the last changes of the most probable architecture."""
    changed = [
        line for before, line in zip([{}, *lines], lines)
        if before.get("architecture") != line["architecture"]
    ]  # fmt: skip
    rows = [
        [
            f"{line['step']:,}", f"{line['parameter_free']:.2f}", _count(line, "parameters"),
            _count(line, "multiply_adds"), line["architecture"],
        ]
        for line in changed[-_CHANGES:]
    ]  # fmt: skip
    titles = ["from step", "without parameters", "parameters", "multiply-adds", "architecture"]
    page.table("learnt", titles, rows, f"The last {len(rows)} of {len(changed)} changes.")


def _count(line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    return f"{value:,}" if isinstance(value, int) else ""
