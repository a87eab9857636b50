"""A loss that is not finite: found at its step, looked at, never saved, gone back from."""

import json

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.data.dataset import Split
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.not_finite import Diverged
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.strategies import Sampler
from oneshot_tf.system.array_files import read_arrays, write_arrays

STEPS = 12
SETTINGS = ost.TrainSettings(
    batch_size=32, ghost_batch_size=8, learning_rate=0.05, learning_rate_schedule="cosine"
)


class Poisoned(Sampler):
    """A sampler whose masks are infinite at one step, however often it comes to it."""

    def __init__(self, space, at):
        self.at, self.plain = at, ost.PathDropout(space, 0.3, "constant")
        self.kept_share = self.plain.kept_share

    def sample(self, num_ghosts, step, seed):
        masks = self.plain.sample(num_ghosts, step, seed)
        return tf.where(tf.equal(step, self.at), masks * np.inf, masks)


def make(seed=3, cells=3):
    return ost.Supernet(ost.bender2018(num_blocks=1), ost.Stack(cells, 4), 10, seed=seed)


def fit(net, digits, directory, settings=SETTINGS, sampler=None, steps=STEPS, **device):
    sampler = sampler or ost.PathDropout(net.space, 0.3, "constant")
    device = DeviceSettings(**{"log_steps": 5, "checkpoint_steps": 4, **device})
    return ost.fit_supernet(net, digits, sampler, steps, settings, 5, directory, device=device)


def test_it_stops_at_the_step_and_says_where_it_begins(digits, tmp_path):
    net = make()
    with pytest.raises(ost.InputError, match=r"loss is nan at step 7\..*step 4 is kept") as error:
        fit(net, digits, tmp_path, sampler=Poisoned(net.space, 6))
    assert "\n" not in str(error.value)
    report = json.loads((tmp_path / "diverged.json").read_text())
    assert report["step"] == 7 and report["last_checkpoint"] == 4 and report["loss"] == "nan"
    assert report["first_not_finite"] == "cell 0"
    assert report["learning_rate"] == pytest.approx(0.05 * (1 + np.cos(np.pi * 6 / STEPS)) / 2)
    assert list(report["largest_outputs"]) == ["stem", "cell 0", "cell 1", "cell 2", "classifier"]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [4]
    # Without the poison it goes on from there, as if nothing had been.
    fit(net, digits, tmp_path)
    whole = make()
    fit(whole, digits, tmp_path / "whole")
    for one, other in zip(net.variables, whole.variables):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.slow
def test_the_step_is_looked_at_with_the_weights_it_had(digits, tmp_path, monkeypatch):
    """The report's loss and gradient norm are those of the step itself, taken again."""
    net, expected = make(), make()
    last = fit(expected, digits, tmp_path / "whole", steps=7, log_steps=1)
    original = Loop._check

    def check(self, number, sums):
        original(self, number, sums)
        if number == 6:
            raise Diverged(number, "The loss is nan")

    monkeypatch.setattr(Loop, "_check", check)
    with pytest.raises(ost.InputError, match="the failure cannot be reproduced"):
        fit(net, digits, tmp_path / "run", steps=7)
    report = json.loads((tmp_path / "run" / "diverged.json").read_text())
    for name in ("loss", "cross_entropy", "l2", "accuracy"):
        assert report[name] == pytest.approx(last[name], rel=1e-5)
    assert 0 < report["gradient_norm"] < 1e3


@pytest.mark.parametrize("where", [0, 1, 2])
def test_the_first_cell_whose_output_is_not_finite(digits, tmp_path, where):
    net = make()
    variable(net, f"cell{where}_block0_prev1").assign_add(np.full([1, 1, 4 * 2**where, 1], 1e6))
    beta = variable(net, f"cell{where}_prev1_bn")
    beta.assign(np.full(beta.shape, 1e36))
    with pytest.raises(ost.InputError, match=f"First not finite: cell {where};"):
        fit(net, digits, tmp_path, sampler=AllOn(net.space))


def variable(net, name):
    return next(v for v in net.trainable_variables if name in v.path)


def test_weights_that_are_too_large(digits, tmp_path):
    """Batch norm makes up for them; their squares overflow."""
    net = make()
    kernel = variable(net, "cell1_block0_prev1")
    kernel.assign(kernel.numpy() * 1e30)
    with pytest.raises(ost.InputError, match="not finite: L2 of .*cell1_block0_prev1"):
        fit(net, digits, tmp_path, sampler=AllOn(net.space))


class AllOn(Sampler):
    def __init__(self, space):
        self.space = space

    def sample(self, num_ghosts, step, seed):
        return np.ones([num_ghosts, self.space.num_paths], np.float32)


def test_rolling_back(digits, tmp_path, monkeypatch):
    """Another data order, half the rate; killed afterwards it is still the same run."""
    seen = []
    original, original_check = Split.batches, Loop._check

    def batches(self, first_step, batch_size, seed, *arguments):
        every = original(self, first_step, batch_size, seed, *arguments)
        for step, batch in enumerate(every, start=first_step):
            seen.append((step, seed))
            yield batch

    def check(self, number, sums):
        original_check(self, number, sums)
        if number == 6 and not len(self.rollbacks):
            raise Diverged(number, "The loss is nan")

    monkeypatch.setattr(Split, "batches", batches)
    monkeypatch.setattr(Loop, "_check", check)
    net = make()
    fit(net, digits, tmp_path / "run", nan_policy="rollback", log_steps=1)
    rollbacks = json.loads((tmp_path / "run" / "rollbacks.json").read_text())["rollbacks"]
    assert rollbacks == [{"diverged": 7, "back_to": 4}]
    other = 5 + 2**32
    assert [s for s in seen if s[0] == 6] == [(6, 5), (6, 5), (6, other)]
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    rates = [line["learning_rate"] for line in lines]
    assert rates[3] == pytest.approx(0.05 * (1 + np.cos(np.pi * 4 / STEPS)) / 2)
    assert rates[4] == pytest.approx(0.05 * (1 + np.cos(np.pi * 5 / STEPS)) / 4)
    # Its last checkpoints lost, it takes the same way again.
    for step in (8, 12):
        (tmp_path / "run" / "checkpoints" / f"step_{step:09d}.npz").unlink()
    again = make()
    fit(again, digits, tmp_path / "run", nan_policy="rollback", log_steps=1)
    for one, same in zip(net.variables, again.variables):
        np.testing.assert_array_equal(one.numpy(), same.numpy())


def test_it_goes_back_to_the_start_and_not_for_ever(digits, tmp_path):
    net = make()
    with pytest.raises(ost.InputError, match=r"at step 3\..*rolled back 2 times"):
        fit(
            net, digits, tmp_path, sampler=Poisoned(net.space, 2),
            nan_policy="rollback", max_rollbacks=2,
        )  # fmt: skip
    rollbacks = json.loads((tmp_path / "rollbacks.json").read_text())["rollbacks"]
    assert rollbacks == [{"diverged": 3, "back_to": 0}] * 2


def check_saved(folder):
    """All values of all checkpoints are finite; returns their steps."""
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in checkpoints.steps():
        arrays = read_arrays(checkpoints.path(step))
        assert all(np.isfinite(array).all() for array in arrays.values())
    return checkpoints.steps()


@pytest.mark.parametrize("directory", [True, False])
def test_what_the_last_update_made_is_looked_at(digits, tmp_path, directory):
    """Step 9 has a finite loss, but makes weights whose squares overflow."""
    settings = ost.TrainSettings(
        batch_size=128, augmentation="none", learning_rate=100.0, weight_decay=1.0,
        learning_rate_schedule="constant", device_batch_size=128, skip_paths="never",
    )  # fmt: skip
    losses, folder = [], tmp_path if directory else None
    net = ost.Supernet(ost.bender2018(2), ost.Stack(1, 4, 0), 10)
    sampler = ost.PathDropout(net.space, 0.1, "constant")
    device = DeviceSettings(log_steps=1)
    with pytest.raises(ost.InputError, match=r"^The loss is inf after step \d+\."):
        ost.fit_supernet(net, digits, sampler, 9, settings, 0, folder, device=device)
    if directory:
        assert check_saved(tmp_path) == []
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        report = json.loads((tmp_path / "diverged.json").read_text())
        assert np.isfinite(losses).all() and report["step"] == len(losses) + 1
        assert report["first_not_finite"].startswith("L2 of ") and report["loss"] == "inf"


@pytest.mark.parametrize("policy, saved", [("stop", [4]), ("rollback", [8, 12])])
def test_a_variable_that_is_not_finite_is_never_saved(digits, tmp_path, monkeypatch, policy, saved):
    """A moving value that no loss sees: found before the save, and gone back from."""
    original, broken = Loop._step, []

    def step(self, batch, number):
        original(self, batch, number)
        if number == 7 and not broken:
            broken.append(1)
            self.optimizer.variables[-1].assign(self.optimizer.variables[-1] * np.nan)

    monkeypatch.setattr(Loop, "_step", step)
    net = make(cells=1)
    if policy == "stop":
        with pytest.raises(ost.InputError, match="' is not finite after step 8.*step 4 is kept"):
            fit(net, digits, tmp_path, nan_policy=policy)
    else:
        fit(net, digits, tmp_path, nan_policy=policy)
        rollbacks = json.loads((tmp_path / "rollbacks.json").read_text())["rollbacks"]
        assert rollbacks == [{"diverged": 8, "back_to": 4}]
    assert check_saved(tmp_path)[-len(saved) :] == saved


def test_looking_changes_nothing(digits, tmp_path):
    """Trainings with and without saves on the way end with the same values."""
    often, once = make(cells=1), make(cells=1)
    fit(often, digits, tmp_path / "often", checkpoint_steps=1)
    fit(once, digits, tmp_path / "once", checkpoint_steps=STEPS)
    for one, other in zip(often.variables, once.variables):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_checkpoint_that_is_not_finite_is_neither_written_nor_read(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    good, large = tf.keras.Variable(np.ones(3), name="a"), tf.keras.Variable([3e38] * 3, name="b")
    bad = tf.keras.Variable([1.0, np.inf], name="c")
    checkpoints.save(1, [good, large])  # the sum overflows; the values are finite
    with pytest.raises(ost.InputError, match="'c' is not finite at step 2"):
        checkpoints.save(2, [good, bad])
    assert checkpoints.steps() == [1]
    write_arrays(checkpoints.path(3), {"a": np.array([1.0, np.nan, 1.0])})
    with pytest.raises(ost.InputError, match="step_000000003.npz cannot be used: its 'a' is not"):
        checkpoints.restore_step(3, [good])
    assert checkpoints.restore([good]) == 1
