"""Resamples in pieces against resamples one by one."""

import tracemalloc

import numpy as np
import pytest

from oneshot_tf.analysis import ranking, resampling


def pairs(count, seed=0):
    """Some of the values are equal."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=count), 1)
    return x, np.round(x + rng.normal(size=count), 2)


@pytest.mark.parametrize("count", [5, 6, 33, 1000])
def test_each_resample_is_that_of_a_loop(count):
    """The same draws, and SciPy's numbers of them; NaN in the same places."""
    x, y = pairs(count)
    rng, expected, rows = np.random.default_rng(7), [], []
    for _ in range(200):
        rows.append(rng.integers(count, size=count))
        expected.append(ranking.spearman(x[rows[-1]], y[rows[-1]]))
    np.testing.assert_array_equal(np.concatenate(list(resampling.drawn_pairs(count, 200, 7))), rows)
    found = resampling.spearman_of_resamples(x, y, 200, 7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_the_size_of_pieces_changes_nothing(monkeypatch):
    x, y = pairs(50)
    whole = ranking.measure(ranking.kendall, "", x, y, 150, 3)
    correlations = resampling.spearman_of_resamples(x, y, 150, 3)
    for piece in (1, 51, 350):
        monkeypatch.setattr(resampling, "_PIECE", piece)
        assert ranking.measure(ranking.kendall, "", x, y, 150, 3) == whole
        again = resampling.spearman_of_resamples(x, y, 150, 3)
        np.testing.assert_array_equal(again, correlations)


def test_equal_values_rank_nothing():
    found = resampling.spearman_of_resamples(np.ones(8), np.arange(8.0), 20, 0)
    assert np.isnan(found).all() and resampling.interval(found) == (0.0, 0.0)


def test_a_hundred_thousand_candidates_take_little_memory():
    """However many resamples: 40 MB, where all draws of these 60 would be 48 MB."""
    x, y = pairs(100_000)
    tracemalloc.start()
    try:
        measure = ranking.measure(ranking.spearman, "Spearman", x, y, 60)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 40e6
    assert measure.low < measure.value < measure.high
    assert measure.high - measure.low == pytest.approx(4 / 100_000**0.5, rel=0.6)
