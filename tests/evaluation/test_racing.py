"""Races: who stops, what is kept, exactness, interruption."""

import importlib.util
import pathlib

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.evaluation.chances import chances, noise_of
from oneshot_tf.evaluation.racing import Race
from oneshot_tf.system.array_files import read_arrays, write_arrays

_SCRIPT = pathlib.Path(__file__).parents[2] / "run_scripts" / "races.py"
_SPEC = importlib.util.spec_from_file_location("races", _SCRIPT)
races = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(races)
IMAGES, PART = 1000, 50


class Recorded:
    """An evaluator whose outcomes were drawn beforehand; counts what is asked of it."""

    num_images, chunk_size = IMAGES, PART

    def __init__(self, seed, count=200, stop_after=None, hits=None, losses=None):
        rng = np.random.default_rng(seed)
        skill = rng.normal(0.0, 0.5, [count, 1])
        difficulty = rng.normal(0.0, 1.5, [1, IMAGES])
        drawn = rng.random([count, IMAGES]) < 1 / (1 + np.exp(difficulty - skill))
        self.hits = drawn if hits is None else hits
        # By default, losses tell nothing beyond the hits.
        self.losses = self.hits.astype(np.float32) if losses is None else losses
        self.asked, self.stop_after = 0, stop_after

    def outcomes(self, architectures, parts):
        columns = slice(parts[0] * PART, (parts[-1] + 1) * PART)
        rows = [int(a) for a in architectures]
        hits, losses = self.hits[rows, columns], self.losses[rows, columns]
        self.asked += hits.size
        if self.stop_after is not None and self.asked > self.stop_after:
            raise KeyboardInterrupt
        return hits, losses

    @property
    def names(self):
        return [str(i) for i in range(len(self.hits))]


def race(path, evaluator, keep=10, confidence=0.9, names=None):
    result = Race(path, evaluator, names or evaluator.names, keep, confidence)
    result.run(lambda *_: None)
    return result


def ratio(hits, keep):
    return noise_of(hits, np.zeros(hits.shape, np.float32), keep).ratio


def test_chances_add_up_and_are_calibrated():
    """Of candidates given a chance near c of being among the best, about a share c is."""
    given, was = [], []
    for seed in range(20):
        hits = Recorded(seed).hits
        best = np.argsort(-hits.mean(axis=1), kind="stable")[:20]
        noise = ratio(hits[:, :100], 20)
        images = np.full(len(hits), 100 / (noise * (1 - 100 / IMAGES)))
        chance, accuracy = chances(hits[:, :100].mean(axis=1), images, 20)
        assert accuracy.mean() == pytest.approx(hits[:, :100].mean(), abs=0.01)
        assert chance.sum() == pytest.approx(20, rel=1e-3)
        given.append(chance)
        was.append(np.isin(np.arange(len(hits)), best))
    given, was = np.concatenate(given), np.concatenate(was)
    for low, high in ((0.0, 0.02), (0.02, 0.2), (0.2, 0.5), (0.5, 1.0)):
        inside = (given >= low) & (given < high)
        assert inside.sum() > 50
        assert was[inside].mean() == pytest.approx(given[inside].mean(), abs=0.07)


def test_the_best_are_kept_for_a_part_of_the_cost(tmp_path):
    recalls, costs = [], []
    for seed in range(12):
        evaluator = Recorded(seed)
        result = race(tmp_path / f"{seed}.npz", evaluator)
        whole = np.flatnonzero(result.seen == IMAGES)
        # What was measured is exact, whatever stopped.
        np.testing.assert_array_equal(
            result.num_right, [evaluator.hits[i, :n].sum() for i, n in enumerate(result.seen)]
        )
        accuracy = evaluator.hits.mean(axis=1)
        tenth = np.sort(accuracy)[-10]
        found = whole[np.argsort(-result.num_right[whole], kind="stable")[:10]]
        recalls.append(np.mean(accuracy[found] >= tenth))
        costs.append(result.cost)
        assert evaluator.asked == result.seen.sum()
    assert np.mean(recalls) >= 0.9  # the confidence asked for
    assert np.mean(costs) < 0.4


@pytest.mark.parametrize("kind", races.POPULATIONS)
def test_what_is_kept_whatever_the_distribution_of_accuracies(tmp_path, kind):
    """On average over races, the confidence less 0.03 at the least."""
    kept = []
    for seed in range(4):
        hits, losses = races.outcomes(kind, 600, IMAGES, seed)
        evaluator = Recorded(0, hits=hits, losses=losses)
        result = race(tmp_path / f"{seed}.npz", evaluator, keep=30)
        kept.append(races.share_kept(result, hits, keep=30))
        assert result.cost < 0.8
    assert np.mean(kept) >= 0.87


def test_probabilities_save_images_and_lose_no_winners(tmp_path):
    """Models that are equally confident, so that probabilities tell much."""
    kept, costs = np.zeros([2, 2, 4])
    for seed in range(4):
        rng = np.random.default_rng(seed)
        odds = rng.normal(0.0, 0.25, [600, 1]) + rng.normal(0.0, 1.0, [1, IMAGES])
        hits = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
        losses = np.logaddexp(0.0, -odds - rng.normal(size=odds.shape)).astype(np.float32)
        for told in (0, 1):
            evaluator = Recorded(0, hits=hits, losses=losses if told else None)
            result = race(tmp_path / f"{seed}{told}.npz", evaluator, keep=30)
            kept[told, seed] = races.share_kept(result, hits, keep=30)
            costs[told, seed] = result.cost
    assert (costs[1] < costs[0]).all() and costs[1].mean() < 0.95 * costs[0].mean()
    assert kept.mean(axis=1).min() >= 0.87


def test_the_noise_between_candidates_is_what_images_do_not_share():
    rng = np.random.default_rng(0)
    independent = rng.random([200, 2000]) < 0.5
    assert ratio(independent, 50) == pytest.approx(1.0, abs=0.02)
    # 3 of 4 images are the same for all.
    shared = np.where(rng.random(2000) < 0.75, rng.random(2000) < 0.5, independent)
    assert ratio(shared, 50) == pytest.approx(0.25, abs=0.03)
    assert ratio(np.ones([60, 10], bool), 5) == 1.0  # nothing to see


def test_a_race_of_an_older_version_is_refused(tmp_path):
    path = tmp_path / "race.npz"
    race(path, Recorded(5, count=20))
    state = dict(read_arrays(path))
    del state["outcomes"]
    write_arrays(path, {**state, "bits": np.zeros(())})
    with pytest.raises(ost.InputError, match="older version.*candidates.csv away"):
        race(path, Recorded(5, count=20))


def test_fewer_candidates_than_wanted_all_finish(tmp_path):
    result = race(tmp_path / "race.npz", Recorded(0, count=8))
    assert (result.seen == IMAGES).all() and result.cost == 1.0


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_interrupted_it_goes_on_to_the_same_end(tmp_path, monkeypatch, share):
    monkeypatch.setattr("oneshot_tf.evaluation.racing._SAVE_SECONDS", 0.0)
    expected = race(tmp_path / "whole.npz", Recorded(3))
    with pytest.raises(KeyboardInterrupt):
        race(tmp_path / "cut.npz", Recorded(3, stop_after=share * expected.seen.sum()))
    evaluator = Recorded(3)
    resumed = race(tmp_path / "cut.npz", evaluator)
    np.testing.assert_array_equal(resumed.seen, expected.seen)
    np.testing.assert_array_equal(resumed.num_right, expected.num_right)
    np.testing.assert_array_equal(resumed.entropy, expected.entropy)
    assert evaluator.asked < expected.seen.sum()


@pytest.mark.parametrize("number", [0, 4])
def test_killed_between_measuring_and_stopping_it_still_stops(tmp_path, monkeypatch, number):
    monkeypatch.setattr("oneshot_tf.evaluation.racing._SAVE_SECONDS", 0.0)
    expected = race(tmp_path / "whole.npz", Recorded(3))
    calls = []

    def killed(self, *_):
        calls.append(1)
        if len(calls) > number:
            raise KeyboardInterrupt
        original(self, *_)

    original = Race._stop_some
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Race, "_stop_some", killed)
        race(tmp_path / "cut.npz", Recorded(3))
    resumed = race(tmp_path / "cut.npz", Recorded(3))
    np.testing.assert_array_equal(resumed.seen, expected.seen)


def test_more_candidates_join_a_finished_race(tmp_path):
    evaluator = Recorded(4)
    race(tmp_path / "race.npz", evaluator, names=evaluator.names[:120])
    before = evaluator.asked
    result = race(tmp_path / "race.npz", evaluator)
    assert evaluator.asked == result.seen.sum() > before
    assert (result.seen[120:] > 0).all()
    assert result.cost < 1.3 * race(tmp_path / "whole.npz", Recorded(4)).cost


def test_other_candidates_and_damage_are_refused(tmp_path):
    path = tmp_path / "race.npz"
    race(path, Recorded(5, count=20))
    with pytest.raises(ost.InputError, match="other candidates"):
        race(path, Recorded(5, count=20), names=[str(i) for i in range(20)][::-1])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ost.InputError, match="cannot be read"):
        race(path, Recorded(5, count=20))
