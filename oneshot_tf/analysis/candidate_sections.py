"""Sections of the report about candidates: their distribution, the best, and fronts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from oneshot_tf.analysis import plots, ranking
from oneshot_tf.analysis.drawing import draw
from oneshot_tf.analysis.page import Page
from oneshot_tf.runs.candidates import Candidate, measured, order_key, pareto_front
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.measured_costs import measured_costs
from oneshot_tf.runs.search_record import MEASURES, measure
from oneshot_tf.system.printable import command

# By what a search measures: how, and on what.
_HOW = {
    MEASURES["shared"]: "Architectures evaluated with the shared weights.",
    MEASURES["stand_alone"]: "Architectures that were trained from scratch, each one alone.",
    MEASURES["table"]: "Architectures whose accuracies are in a table.",
}
_ON = {
    MEASURES["shared"]: "shared weights, validation images",
    MEASURES["stand_alone"]: "own weights, validation images",
    MEASURES["table"]: "known before the search",
}


def distribution(
    page: Page, directory: RunDirectory, candidates: Sequence[Candidate], resamples: int
) -> None:
    """Plots candidate accuracies (figure 5, bottom), and accuracy against divergence (figure 6)."""
    measured_by = measure(directory)
    page.head("Candidates", _HOW[measured_by])
    whole = measured(candidates)
    if not whole:
        page.missing(
            "This run has no candidates.",
            command("search", f"--run_dir={directory.path}"),
        )
        return
    label = f"{measured_by} ({_ON[measured_by]})"
    values = {"candidates": [c.candidate_accuracy for c in whole]}
    page.figure(
        "candidates",
        plots.histogram(values, label),
        f"Distribution of the candidates' {measured_by} (the paper's figure 5, bottom).",
    )
    both = [c for c in whole if c.divergence is not None]
    if len(both) < 2:
        page.missing(
            "Divergences were not measured. A race and older searches do not measure them.",
            "python -m oneshot_tf.search in a run directory without candidates.csv",
        )
        return
    x, y = [c.divergence for c in both], [c.candidate_accuracy for c in both]
    spearman = ranking.measure(
        ranking.spearman, "Spearman", -np.array(x), np.array(y),
        resamples,
    )  # fmt: skip
    caption = (
        "Candidate accuracy against divergence (the paper's figure 6). Spearman of accuracy "
        f"with -divergence: {spearman}."
    )
    page.figure("divergence", plots.divergence(x, y), caption)


def winner(page: Page, directory: RunDirectory, candidates: Sequence[Candidate]) -> None:
    """Writes the section on the best candidate by accuracy."""
    whole = measured(candidates)
    if not whole:
        return
    best = min(whole, key=order_key)
    words = measure(directory)
    page.head("The best candidate", f"{words.capitalize()} {best.candidate_accuracy:.4f}.")
    page.code(str(best.architecture))
    drawing = draw(best.architecture)
    page.figure(
        "best_cell",
        drawing,
        f"It has {best.parameters:,} parameters at the one-shot model's F.",
    )


def fronts(
    page: Page, directory: RunDirectory, candidates: Sequence[Candidate], chosen: str = ""
) -> None:
    """Plots accuracy against each cost, with the Pareto front.

    Args:
        page: The page to write to.
        directory: The run.
        candidates: The candidates of the search.
        chosen: The text of the chosen architecture, which is marked if it is a candidate.
    """
    whole = measured(candidates)
    if len(whole) < 2:
        return
    page.head("Accuracy against cost", "No candidate beats one on the front in both.")
    for cost, words in (("parameters", "parameters"), ("multiply_adds", "multiply-adds")):
        points = [(getattr(c, cost), c.candidate_accuracy) for c in whole]
        front = [(getattr(c, cost), c.candidate_accuracy) for c in pareto_front(whole, cost)]
        mark = _place(whole, cost, chosen)
        label = f"{words} of the stand-alone model"
        page.figure(
            f"front_{cost}",
            plots.front(points, front, label, measure(directory), mark),
            f"The Pareto front of {len(front)} candidates by {words}.",
        )
    for costs in measured_costs(directory):
        known = [c for c in whole if c.architecture in costs.values]
        if len(known) < 2:
            continue
        name = costs.cost
        changes: list[dict[str, Any]] = [{name: costs.values[c.architecture]} for c in known]
        known = [dataclasses.replace(c, **change) for c, change in zip(known, changes)]
        points = [(getattr(c, name), c.candidate_accuracy) for c in known]
        front = [(getattr(c, name), c.candidate_accuracy) for c in pareto_front(known, name)]
        mark = _place(known, name, chosen)
        page.figure(
            f"front_{costs.name}",
            plots.front(points, front, f"measured {costs.unit}", measure(directory), mark),
            f"{costs.title}: the {len(known)} candidates that were measured.",
        )


def _place(candidates: Sequence[Candidate], cost: str, chosen: str) -> tuple[float, float] | None:
    """Returns the cost and the accuracy of a chosen candidate, or None if it is not there."""
    found = (c for c in candidates if chosen and str(c.architecture) == chosen)
    return next(((getattr(c, cost), c.candidate_accuracy or 0.0) for c in found), None)
