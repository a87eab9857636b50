"""Which candidates are the best, and which are trained alone."""

import dataclasses

import numpy as np
import pytest
from candidate_runs import candidates

import oneshot_tf as ost
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.selection import Strata, select
from oneshot_tf.settings import RetrainSettings

NOT_MEASURED = {"candidate_accuracy": None, "cross_entropy": None, "num_images": 0}


def test_ties_have_one_order(space):
    rows = [dataclasses.replace(c, candidate_accuracy=0.5) for c in candidates(space, 20)]
    assert ranked(rows) == ranked(rows[::-1])


def test_top_takes_one_of_each_stratum(space):
    rows = candidates(space)
    for seed in range(5):
        chosen = select(rows, RetrainSettings(select="top", top=40, count=10, seed=seed))
        assert [(c.rank - 1) // 4 for c in chosen] == list(range(10))
    first = select(rows, RetrainSettings(select="top", top=3, count=3))
    assert [c.rank for c in first] == [1, 2, 3]


def test_small_takes_the_smallest_over_the_threshold(space):
    rows = candidates(space)
    chosen = select(rows, RetrainSettings(select="small", count=3, percentile=80))
    good = sorted((c.parameters, c.rank) for c in ranked(rows)[:10])
    assert sorted((c.parameters, c.rank) for c in chosen) == good[:3]


def test_stratified_takes_four_of_each_bucket_of_accuracy(space):
    rows = ranked(candidates(space, 200))
    chosen = select(rows, RetrainSettings(select="stratified", count=32))
    assert len({c.architecture for c in chosen}) == 32
    assert [c.rank for c in chosen] == sorted(c.rank for c in chosen)
    low, high = rows[-1].candidate_accuracy, rows[0].candidate_accuracy
    buckets = [int(8 * (c.candidate_accuracy - low) / (high - low) * 0.999999) for c in chosen]
    assert np.bincount(buckets, minlength=8).tolist() == [4] * 8


def test_stratified_fills_up_where_buckets_are_thin(space):
    rows = [dataclasses.replace(c, candidate_accuracy=0.5) for c in candidates(space, 30)]
    rows[0] = dataclasses.replace(rows[0], candidate_accuracy=0.9)
    rows[1] = dataclasses.replace(rows[1], num_images=100, candidate_accuracy=1.0)  # stopped early
    chosen = select(rows, RetrainSettings(select="stratified", count=16))
    assert len({c.architecture for c in chosen}) == 16 and rows[0].architecture in {
        c.architecture for c in chosen
    }
    assert rows[1].architecture not in {c.architecture for c in chosen}
    with pytest.raises(ost.InputError, match="29 candidates measured on all images"):
        select(rows, RetrainSettings(select="stratified", count=30))


@pytest.mark.parametrize(
    "count, quotas",
    [(5, [2, 3]), (6, [3, 3]), (9, [3, 3, 3]), (10, [3, 3, 4]), (3, [3]), (32, [4] * 8)],
)
def test_the_best_bucket_is_not_cut(space, count, quotas):
    """From the worst bucket to the best; none of them is thin here."""
    rows = candidates(space, 300)
    chosen = select(rows, RetrainSettings(select="stratified", count=count))
    strata = Strata.of(rows, count)
    buckets = strata.buckets([c.candidate_accuracy for c in chosen])
    assert np.bincount(buckets, minlength=len(quotas)).tolist() == quotas
    assert sum(strata.candidates) == 300
    everywhere = strata.buckets([c.candidate_accuracy for c in rows])
    assert np.bincount(everywhere).tolist() == list(strata.candidates)


@pytest.mark.parametrize(
    "settings, part",
    [({"select": "top", "top": 10, "count": 10}, "8 of these 10 .* Give --top=2"),
     ({"select": "small", "count": 2, "percentile": 90}, "3 of these 5 .*Raise --percentile")],
)  # fmt: skip
def test_candidates_without_an_accuracy_are_not_chosen_by_it(space, settings, part):
    """As after a search by divergence with few finalists."""
    rows = [
        dataclasses.replace(
            c, divergence=0.1 * i, **({} if i < 2 else NOT_MEASURED)
        )
        for i, c in enumerate(candidates(space))
    ]  # fmt: skip
    with pytest.raises(ost.InputError, match=part):
        select(rows, RetrainSettings(**settings))
    two = select(rows, RetrainSettings(select="top", top=2, count=2))
    assert all(c.candidate_accuracy is not None for c in two)
    # Where no candidate has one, all ranks are by divergence.
    none = [dataclasses.replace(c, **NOT_MEASURED) for c in rows]
    best = select(none, RetrainSettings(select="top", top=3, count=3))
    assert [c.divergence for c in best] == [0.0, 0.1, 0.2]


def test_random_takes_any(space):
    rows = candidates(space)
    picks = [select(rows, RetrainSettings(select="random", count=5, seed=s)) for s in range(40)]
    assert len({c.rank for chosen in picks for c in chosen}) > 40
    assert all(len({c.rank for c in chosen}) == 5 for chosen in picks)


@pytest.mark.parametrize(
    "settings, part",
    [({"select": "top", "top": 51}, "--top must be at most"),
     ({"select": "top", "top": 5, "count": 6}, "--count must be at most 5, .*; got 6"),
     ({"select": "small", "count": 11, "percentile": 80}, "--count must be at most 10, .*; got 11"),
     ({"select": "random", "count": 51}, "--count must be at most 50, .*; got 51")],
)  # fmt: skip
def test_too_few_candidates(space, settings, part):
    with pytest.raises(ost.InputError, match=part):
        select(candidates(space), RetrainSettings(**settings))


def test_no_candidates():
    with pytest.raises(ost.InputError, match="search first"):
        select([], RetrainSettings())
