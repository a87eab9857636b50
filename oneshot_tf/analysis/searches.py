"""The section of the report about searches: progress, diversity, and ancestry of the best."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from oneshot_tf.analysis import plots
from oneshot_tf.analysis.page import Page
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, measured, order_key
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.search_record import MEASURES, measure
from oneshot_tf.space.decisions import mean_distance
from oneshot_tf.space.space import Space

_WINDOW = 100  # candidates whose distances are compared: the published size of a population
_LEAST_WINDOW = 10  # the mean of fewer says little


@dataclasses.dataclass(frozen=True)
class _Search:
    """A search: its name, what it measures, and its candidates in the order of evaluation."""

    name: str
    measure: str
    candidates: list[Candidate]


def searches(page: Page, directory: RunDirectory) -> None:
    """Plots the best accuracy so far and the diversity of every search of the run.

    Args:
        page: The page to write to.
        directory: The run.

    Raises:
        InputError: A file of candidates is damaged.
    """
    found = _searches(directory)
    if not found:
        return
    measures = {search.measure for search in found}
    _best_so_far(page, found, measures)
    _distances(page, found, directory.space())
    _ancestry(page, found)


def _searches(directory: RunDirectory) -> list[_Search]:
    found = []
    for name in directory.searches():
        searched = RunDirectory(directory.path, name)
        candidates = CandidateFile(searched).read()
        known = sorted((c for c in measured(candidates) if c.order), key=lambda c: c.order)
        # In a race, and in a search by divergence, the order is not that of the evaluations.
        if 1 < len(known) == len(candidates):
            found.append(_Search(name or "without a name", measure(searched), known))
    return found


def _best_so_far(page: Page, found: Sequence[_Search], measures: set[str]) -> None:
    # Other evaluators spend other things than images.
    by_images = measures == {MEASURES["shared"]}
    spent = "image evaluations" if by_images else "candidates"
    curves = {}
    for search in found:
        best = np.maximum.accumulate([c.candidate_accuracy or 0.0 for c in search.candidates])
        costs = [c.num_images if by_images else 1 for c in search.candidates]
        curves[search.name] = (np.cumsum(costs), best)
    words = " or ".join(sorted(measures))
    page.head("Searches", f"Each step scores one more candidate by its {words}.")
    page.figure(
        "searches",
        plots.steps(curves, spent, "best accuracy so far"),
        f"The best accuracy so far against the {spent} spent.",
    )


def _distances(page: Page, found: Sequence[_Search], space: Space) -> None:
    """Plots how much the latest candidates differ. A search that converges has a falling curve."""
    longest = max(len(search.candidates) for search in found)
    window = min(_WINDOW, longest // 4)
    if window < _LEAST_WINDOW:
        return
    curves = {}
    for search in found:
        genes = [space.genes(c.architecture) for c in search.candidates]
        ends = range(window, len(genes) + 1)
        if len(ends) > 1:
            distances = [mean_distance(genes[end - window : end]) for end in ends]
            curves[search.name] = (np.array(ends), np.array(distances))
    page.figure(
        "distances",
        plots.steps(curves, "candidates", "mean distance in decisions"),
        f"The mean number of decisions, of {len(space.decisions)}, in which two of the latest "
        f"{window} candidates differ. It falls where a search converges.",
    )


def _ancestry(page: Page, found: Sequence[_Search]) -> None:
    """Lists the ancestors of the best candidate of each search that has any."""
    rows = []
    for search in found:
        by_order = {c.order: c for c in search.candidates}
        line = [min(search.candidates, key=order_key)]
        while line[-1].parent in by_order and line[-1].parent < line[-1].order:
            line.append(by_order[line[-1].parent])
        if len(line) > 1:
            rows += [
                [search.name, str(c.order), f"{c.candidate_accuracy:.4f}", str(c.architecture)]
                for c in reversed(line)
            ]
    if rows:
        page.table(
            "ancestry",
            ["search", "candidate", "accuracy", "architecture"],
            rows,
            "The ancestors of the best candidate of each search, the oldest first. Each candidate "
            "was made from the one before it.",
        )
