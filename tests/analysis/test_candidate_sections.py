"""Pareto fronts of candidates, and selections from them."""

import dataclasses

import pytest
from candidate_runs import begin, candidates

import oneshot_tf as ost
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import pareto_front
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.selection import how_to_find_candidates, select
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


def test_a_search_without_candidates_names_the_others(space, tmp_path):
    directory = begin(tmp_path / "run", space)
    assert how_to_find_candidates(directory).startswith("Search first: python -m oneshot_tf.search")
    other = RunDirectory(directory.path, "wide")
    make_folder(other.searched)
    CandidateFile(other).write(candidates(space, 3))
    assert how_to_find_candidates(directory) == (
        "Searches with candidates: wide. Choose one with --search=NAME."
    )
