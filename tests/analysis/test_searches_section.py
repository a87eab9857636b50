"""The report's section about searches: progress, diversity, ancestors."""

import dataclasses
import itertools

import numpy as np
from candidate_runs import begin, candidates, note_search

from oneshot_tf.analysis import searches
from oneshot_tf.analysis.page import Page
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.space.decisions import mean_distance
from oneshot_tf.strategies.evolution import Evolution
from oneshot_tf.system.files import make_folder


def test_all_searches_of_a_run_are_drawn(space, tmp_path, monkeypatch):
    directory = begin(tmp_path / "run", space)
    drawn = []
    monkeypatch.setattr(
        searches.plots, "steps", lambda curves, *_: drawn.append(curves) or "<svg/>"
    )
    for name in ("", "b", "a"):
        place = RunDirectory(directory.path, name)
        make_folder(place.searched)
        some = candidates(space, 40)
        some = [dataclasses.replace(c, order=40 - i) for i, c in enumerate(some)]
        CandidateFile(place).write(some)
    page = Page()
    searches.searches(page, directory)
    assert [list(curves) for curves in drawn] == 2 * [["without a name", "a", "b"]]
    images, best = drawn[0]["a"]
    assert images.tolist() == [400 * n for n in range(1, 41)]
    expected = np.maximum.accumulate(
        [c.candidate_accuracy for c in reversed(candidates(space, 40))]
    )
    np.testing.assert_allclose(best, expected)
    counts, distances = drawn[1]["a"]
    assert counts.tolist() == list(range(10, 41))  # windows of a quarter of a search
    genes = [space.genes(c.architecture) for c in reversed(candidates(space, 40))]
    pairs = itertools.combinations(genes[-10:], 2)
    differing = [sum(a != b for a, b in zip(*pair)) for pair in pairs]
    np.testing.assert_allclose(distances[-1], np.mean(differing))


def test_a_search_of_an_earlier_version_has_no_curve(space, tmp_path):
    directory = begin(tmp_path / "run", space)
    note_search(directory, budget="full")
    CandidateFile(directory).write(candidates(space, 5))
    page = Page()
    searches.searches(page, directory)
    assert vars(page) == vars(Page())


def test_the_ancestors_of_the_best_are_listed_oldest_first(space, tmp_path):
    directory = begin(tmp_path / "run", space)
    some = sorted(candidates(space, 6), key=lambda c: c.candidate_accuracy)
    some = [dataclasses.replace(c, order=i) for i, c in enumerate(some, start=1)]
    some[3] = dataclasses.replace(some[3], parent=1)
    some[5] = dataclasses.replace(some[5], parent=4)
    CandidateFile(directory).write(some)
    page = Page()
    searches.searches(page, directory)
    page.write(tmp_path / "out", "Report", [])
    lines = (tmp_path / "out" / "ancestry.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == ["1", "4", "6"]


def test_a_population_that_converges_comes_closer(space):
    """Evolution on a planted optimum leaves a population that differs less than random ones."""
    evolution = Evolution(space, population=30, sample_size=10, identity_rate=0.0)
    for _ in range(100):
        proposed = evolution.propose(30)
        evolution.observe(proposed, [-sum(space.genes(a)) for a in proposed])
    rng = np.random.default_rng(0)
    random = mean_distance([space.genes(space.sample(rng)) for _ in range(30)])
    assert mean_distance([genes for genes, _ in evolution.members]) < 0.7 * random
    (remark,) = evolution.remarks()
    assert remark.startswith("Two members of the population of 30 differ in ")
