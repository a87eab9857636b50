"""Pareto fronts, and curves over the evaluations of several searches."""

import dataclasses

import numpy as np
import pytest
from candidate_runs import begin, candidates, note_search

import oneshot_tf as ost
from oneshot_tf.analysis import candidate_sections
from oneshot_tf.analysis.page import Page
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import pareto_front
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.selection import select
from oneshot_tf.settings import RetrainSettings
from oneshot_tf.system.files import make_folder


@pytest.mark.parametrize("cost", ["parameters", "multiply_adds"])
def test_nothing_beats_the_front_and_everything_else_is_beaten(space, cost):
    some = candidates(space, 200)
    front = pareto_front(some, cost)

    def point(candidate):
        return -candidate.candidate_accuracy, getattr(candidate, cost)

    def beats(a, b):
        return a != b and a[0] <= b[0] and a[1] <= b[1]

    points = {point(candidate) for candidate in some}
    assert {point(c) for c in front} == {
        p for p in points if not any(beats(other, p) for other in points)
    }
    costs = [getattr(c, cost) for c in front]
    assert costs == sorted(costs) and 2 < len(front) < 30


def test_candidates_that_a_race_stopped_are_not_on_the_front(space):
    some = candidates(space, 20)
    some[0] = dataclasses.replace(some[0], candidate_accuracy=1.0, num_images=10)
    assert some[0].architecture not in {c.architecture for c in pareto_front(some)}


def test_a_selection_spreads_over_the_front(space):
    some = candidates(space, 200)
    front = pareto_front(some)
    chosen = select(some, RetrainSettings(select="pareto", count=3))
    found = {c.architecture for c in chosen}
    assert {front[0].architecture, front[-1].architecture} <= found and len(found) == 3
    with pytest.raises(ost.InputError, match=f"at most {len(front)}, .* got 100"):
        select(some, RetrainSettings(select="pareto", count=100))


def test_all_searches_of_a_run_are_drawn(space, tmp_path, monkeypatch):
    directory = begin(tmp_path / "run", space)
    drawn = {}
    monkeypatch.setattr(
        candidate_sections.plots, "steps", lambda curves, *_: drawn.update(curves) or "<svg/>"
    )
    for name in ("", "b", "a"):
        place = RunDirectory(directory.path, name)
        make_folder(place.searched)
        some = candidates(space, 20)
        some = [dataclasses.replace(c, order=20 - i) for i, c in enumerate(some)]
        CandidateFile(place).write(some)
    page = Page()
    candidate_sections.searches(page, directory)
    assert list(drawn) == ["without a name", "a", "b"]
    images, best = drawn["a"]
    assert images.tolist() == [400 * n for n in range(1, 21)]
    expected = np.maximum.accumulate(
        [c.candidate_accuracy for c in reversed(candidates(space, 20))]
    )
    np.testing.assert_allclose(best, expected)


def test_a_search_of_an_earlier_version_has_no_curve(space, tmp_path):
    directory = begin(tmp_path / "run", space)
    note_search(directory, budget="full")
    CandidateFile(directory).write(candidates(space, 5))
    page = Page()
    candidate_sections.searches(page, directory)
    assert vars(page) == vars(Page())
