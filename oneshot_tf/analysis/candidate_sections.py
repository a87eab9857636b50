"""Sections of the report about candidates: their distribution, the best, fronts, searches."""

from collections.abc import Sequence

import numpy as np

from oneshot_tf.analysis import plots, ranking
from oneshot_tf.analysis.drawing import draw_cell
from oneshot_tf.analysis.page import Page
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, measured, order_key, pareto_front
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.system.printable import command


def distribution(
    page: Page, directory: RunDirectory, candidates: Sequence[Candidate], resamples: int
) -> None:
    """Plots candidate accuracies (figure 5, bottom), and accuracy against divergence (figure 6)."""
    page.head("Candidates", "Architectures evaluated with the shared weights.")
    whole = measured(candidates)
    if not whole:
        page.missing(
            "This run has no candidates.",
            command("search", f"--run_dir={directory.path}"),
        )
        return
    label = "candidate accuracy (shared weights, validation images)"
    values = {"candidates": [c.candidate_accuracy for c in whole]}
    page.figure(
        "candidates",
        plots.histogram(values, label),
        "Distribution of candidate accuracies (the paper's figure 5, bottom).",
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


def winner(page: Page, candidates: Sequence[Candidate]) -> None:
    """Writes the section on the best candidate by candidate accuracy."""
    whole = measured(candidates)
    if not whole:
        return
    best = min(whole, key=order_key)
    page.head("The best candidate", f"Candidate accuracy {best.candidate_accuracy:.4f}.")
    page.code(str(best.architecture))
    drawing = draw_cell(best.architecture)
    page.figure(
        "best_cell",
        drawing,
        f"The cell has {best.parameters:,} parameters at the one-shot model's F.",
    )


def fronts(page: Page, candidates: Sequence[Candidate]) -> None:
    """Plots candidate accuracy against each cost, with the Pareto front."""
    whole = measured(candidates)
    if len(whole) < 2:
        return
    page.head("Accuracy against cost", "No candidate beats one on the front in both.")
    for cost, words in (("parameters", "parameters"), ("multiply_adds", "multiply-adds")):
        points = [(getattr(c, cost), c.candidate_accuracy) for c in whole]
        front = [(getattr(c, cost), c.candidate_accuracy) for c in pareto_front(whole, cost)]
        page.figure(
            f"front_{cost}",
            plots.front(points, front, f"{words} of the stand-alone model"),
            f"The Pareto front of {len(front)} candidates by {words}.",
        )


def searches(page: Page, directory: RunDirectory) -> None:
    """Plots the best candidate accuracy so far of every search of the run."""
    curves = {}
    for name in directory.searches():
        found = CandidateFile(RunDirectory(directory.path, name)).read()
        known = sorted((c for c in measured(found) if c.order), key=lambda c: c.order)
        # In a race, and in a search by divergence, the order is not that of the evaluations.
        if 1 < len(known) == len(found):
            best = np.maximum.accumulate([c.candidate_accuracy or 0.0 for c in known])
            images = np.cumsum([c.num_images for c in known])
            curves[name or "without a name"] = (images, best)
    if not curves:
        return
    page.head("Searches", "Each step scores one more candidate with the shared weights.")
    page.figure(
        "searches",
        plots.steps(curves, "image evaluations", "best candidate accuracy so far"),
        "The best candidate accuracy against the image evaluations spent.",
    )
