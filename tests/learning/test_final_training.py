"""The tools of final training, by hand; on two devices and in turns; resumed to the bit."""

import json

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.drop_path import DropPath
from oneshot_tf.learning.final_training import warmup_steps
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.losses import balanced_weights, cross_entropy
from oneshot_tf.learning.recalibration import Recalibration
from oneshot_tf.nn.paths import DroppedPaths
from oneshot_tf.settings import DeviceSettings, FinalSettings

STEPS = 6
SPACE = ost.bender2018(num_blocks=2)
CELL = ost.Architecture.from_text("prev1+prev2:sep3x3+identity | block0+prev1:max3x3+avg3x3")
ALL = FinalSettings(
    warmup_epochs=0.05, weight_average=0.9, drop_path_keep=0.5, class_weights="balanced"
)


def new_net(seed=1):
    return ost.Standalone(SPACE, CELL, ost.Stack(2, 4), num_classes=10, seed=seed)


def train(data, final, directory=None, *, device=None, num_steps=STEPS, **settings):
    net = new_net()
    settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8, **settings)
    last = ost.fit_standalone(
        net, data, num_steps, settings, 5, directory, device=device, final=final
    )
    return weights(net), last


def weights(net):
    return np.concatenate([np.ravel(v.numpy()) for v in net.variables])


@pytest.fixture(scope="module")
def unequal(digits):
    """Digits with a tenth of the zeros and half of the ones."""
    labels, rng = digits.train.labels, np.random.default_rng(0)
    kept = np.array([0.1, 0.5, *[1.0] * 8])[labels] > rng.random(len(labels))
    return ost.Dataset(
        "unequal", digits.train.take(kept), digits.validation, digits.load_test,
        digits.class_names, digits.mean, digits.std,
    )  # fmt: skip


@pytest.fixture(scope="module")
def with_all(unequal):
    return train(unequal, ALL)


# ---------------------------------------------------------------------------- warm-up


@pytest.mark.parametrize(
    "schedule, rates",
    [
        ("constant", [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1]),
        ("cosine", [0.02, 0.04, 0.06, 0.08, 0.1, 0.05 * (1 + np.cos(np.pi / 6)), 0.05]),
        ("cooldown", [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1]),
    ],
)
def test_warm_up_by_hand(digits, schedule, rates):
    """Four steps of warm-up, then the schedule over the other six of ten."""
    settings = ost.TrainSettings(batch_size=64, learning_rate_schedule=schedule)
    final = FinalSettings(warmup_epochs=4 * 64 / len(digits.train))
    assert warmup_steps(final, len(digits.train), 64) == 4
    loop = Loop(new_net(), digits, None, 10, settings, 0, None, final=final)
    found = [float(loop.schedule(step)) for step in (0, 1, 2, 3, 4, 5, 7)]
    assert found == pytest.approx(rates, abs=1e-7)
    assert float(loop.schedule(10)) == pytest.approx(0.1 if schedule == "constant" else 0, abs=1e-7)


def test_the_optimizer_warms_up(digits, tmp_path):
    final = FinalSettings(warmup_epochs=3 * 32 / len(digits.train))
    settings = {"learning_rate_schedule": "constant", "num_steps": 5}
    train(digits, final, tmp_path, device=DeviceSettings(log_steps=1), **settings)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    # A line has the rate of the next step.
    rates = [json.loads(line)["learning_rate"] for line in lines]
    assert rates == pytest.approx([0.05, 0.075, 0.1, 0.1, 0.1])


def test_a_warm_up_as_long_as_the_training_is_refused(digits):
    with pytest.raises(ost.InputError, match="--warmup_epochs must be shorter .* 6 steps; got 1,"):
        train(digits, FinalSettings(warmup_epochs=1.0))


# ---------------------------------------------------------------------------- averages


def test_averages_against_numpy(digits, monkeypatch):
    """After each step, weights and statistics are averaged with d = min(0.7, (1+t) / (10+t)).

    In the end the statistics are measured anew, with the averaged weights.
    """
    net, seen, step = new_net(), [], Loop._step

    def noted(loop, batch, number):
        step(loop, batch, number)
        seen.append([v.numpy() for v in net.variables])

    average = [v.numpy().astype(float) for v in net.variables]
    monkeypatch.setattr(Loop, "_step", noted)
    settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8, augmentation="none")
    ost.fit_standalone(net, digits, 30, settings, 5, final=FinalSettings(weight_average=0.7))
    assert len(seen) == 30
    for t, now in enumerate(seen):
        decay = min(0.7, (1 + t) / (10 + t))
        average = [decay * a + (1 - decay) * v for a, v in zip(average, now)]
    by_hand = new_net()
    for variable, value in zip(by_hand.variables, average):
        variable.assign(value)
    for t in range(30):
        images, _ = digits.train.batch(t, 32, 5)
        by_hand(digits.normalize(images), training=True, num_ghosts=4)
    np.testing.assert_allclose(weights(net), weights(by_hand), atol=1e-4)
    trained = [i for i, v in enumerate(net.variables) if v.trainable]
    assert max(np.abs(seen[-1][i] - average[i]).max() for i in trained) > 1e-2
    measured = {v.path: v.numpy() for v in net.variables if "moving_" in v.path}
    averaged = {v.path: a for v, a in zip(net.variables, average) if "moving_" in v.path}
    assert max(np.abs(measured[path] - averaged[path]).max() for path in measured) > 1e-2


def test_an_interruption_while_statistics_are_measured_saves_nothing_wrong(
    digits, tmp_path, monkeypatch
):
    """The training resumes from the checkpoint before, to the same end."""
    final, device = FinalSettings(weight_average=0.9), DeviceSettings(checkpoint_steps=4)
    whole, _ = train(digits, final)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recalibration, "run", stopped)
    with pytest.raises(KeyboardInterrupt, match="saved up to step 4"):
        train(digits, final, tmp_path, device=device)
    monkeypatch.undo()
    assert Checkpoints(tmp_path / "checkpoints").steps() == [4]
    np.testing.assert_array_equal(train(digits, final, tmp_path, device=device)[0], whole)


def test_without_an_average_the_last_weights_are_those_of_the_average_run(digits, tmp_path):
    """Averages only watch; the checkpoint holds both, and gives what the caller asks for."""
    plain, _ = train(digits, None)
    averaged, _ = train(digits, FinalSettings(weight_average=0.9), tmp_path)
    checkpoints, net = Checkpoints(tmp_path / "checkpoints"), new_net()
    checkpoints.restore_step(STEPS, net.variables)
    np.testing.assert_array_equal(weights(net), plain)
    checkpoints.restore_step(STEPS, net.variables, averaged=True)
    np.testing.assert_array_equal(weights(net), averaged)
    assert np.abs(plain - averaged).max() > 1e-3
    checkpoints.check_newest_size(sum(np.prod(v.shape) for v in net.trainable_variables))


# ---------------------------------------------------------------------------- drop path


def test_what_is_dropped_and_how_deep_it_is():
    """Operations of both cells, but not the identity; depth 1/2 and 1."""
    net = new_net()
    names = {(b, o) for b in range(2) for o in SPACE.operations}
    assert len(names) == 2 * len(SPACE.operations)
    dropped = [
        (cell, SPACE.operations[list(SPACE.operation_paths(block)).index(path)])
        for cell, path in net.droppable
        for block in range(2)
        if path in SPACE.operation_paths(block)
    ]
    assert dropped == [(c, o) for c in (0, 1) for o in ("sep3x3", "max3x3", "avg3x3")]
    assert net.path_depths == [0.5] * 3 + [1.0] * 3


def test_the_schedule_of_the_probability_by_hand():
    drop = DropPath(0.6, [0.25, 1.0], num_steps=100, seed=0)
    for step, kept in [(0, [1, 1]), (50, [0.95, 0.8]), (100, [0.9, 0.6]), (200, [0.9, 0.6])]:
        np.testing.assert_allclose(drop.probabilities(step), kept, atol=1e-6)
    assert set(np.ravel(drop.factors(64, 0))) == {1.0}


def test_factors_have_the_right_values_frequencies_and_expectation():
    drop = DropPath(0.6, [0.25, 1.0], num_steps=100, seed=3)
    factors = drop.factors(20_000, 50).numpy()
    for column, kept in zip(factors.T, (0.95, 0.8)):
        np.testing.assert_allclose(np.unique(column), [0, 1 / kept], rtol=1e-6)
        error = np.sqrt(kept * (1 - kept) / 20_000)
        assert abs((column > 0).mean() - kept) < 4 * error
        assert abs(column.mean() - 1.0) < 4 * error / kept
    np.testing.assert_array_equal(factors, drop.factors(20_000, 50))
    assert (factors != drop.factors(20_000, 51).numpy()).any()
    assert (factors != DropPath(0.6, [0.25, 1.0], 100, seed=4).factors(20_000, 50).numpy()).any()


def test_an_image_loses_its_paths_and_no_other_image_does():
    """A factor of one changes nothing to the bit; a dropped path is a block without it."""
    net, images = new_net(), np.random.default_rng(0).normal(size=[4, 8, 8, 3]).astype(np.float32)
    ones = np.ones([4, len(net.droppable)], np.float32)
    plain = net(images).numpy()
    np.testing.assert_array_equal(net(images, path_factors=ones), plain)
    ones[2, 3] = 0.0  # the separable convolution of the last cell, of image 2
    some = net(images, path_factors=ones).numpy()
    np.testing.assert_array_equal(some[[0, 1, 3]], plain[[0, 1, 3]])
    assert np.abs(some[2] - plain[2]).max() > 1e-4
    terms = [(7, tf.fill([2, 1, 1, 1], 3.0), []), (8, tf.fill([2, 1, 1, 1], 5.0), [])]
    factor = tf.constant([0.0, 2.0])[:, None, None, None]
    total = DroppedPaths({(1, 7): factor}).in_cell(1).sum(terms, [2, 1, 1, 1])
    assert np.ravel(total).tolist() == [5.0, 11.0]
    other = DroppedPaths({(1, 7): factor}).in_cell(0).sum(terms, [2, 1, 1, 1])
    assert np.ravel(other).tolist() == [8.0, 8.0]


# ---------------------------------------------------------------------------- class weights


def test_balanced_weights_by_hand():
    weights = balanced_weights(np.array([0, 0, 0, 0, 0, 0, 1, 1, 3]), 4)
    np.testing.assert_allclose(weights, [9 / (3 * 6), 9 / (3 * 2), 0, 9 / (3 * 1)])


def test_the_loss_of_unequal_digits_by_hand(unequal):
    """The first step's loss, before any update; the mean weight of the images is 1."""
    labels = unequal.train.labels
    counts = np.bincount(labels)
    weight = len(labels) / (10 * counts)
    assert counts[0] < counts[2] / 5 and weight[labels].mean() == pytest.approx(1.0)
    settings = {"augmentation": "none", "num_steps": 1, "weight_decay": 0.0}
    _, last = train(unequal, FinalSettings(class_weights="balanced"), **settings)
    images, drawn = unequal.train.batch(0, 32, 5)
    net, losses = new_net(), []
    for ghost in range(4):
        rows = slice(8 * ghost, 8 * ghost + 8)
        logits = net(unequal.normalize(images[rows]), training=True)
        losses.append(weight[drawn[rows]] * cross_entropy(drawn[rows], logits).numpy())
    assert last["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    _, plain = train(unequal, None, **settings)
    assert abs(plain["loss"] - last["loss"]) > 1e-3


def test_class_weights_need_labels(digits):
    class Unlabelled:
        labels, on_disk, name = None, False, "records"

        def __len__(self):
            return 1000

    data = ost.Dataset("records", Unlabelled(), None, None, ("a", "b"), None, None)
    with pytest.raises(ost.InputError, match="needs the labels of all images of records"):
        Loop(None, data, None, 5, ost.TrainSettings(), 0, None, final=ALL)


# ---------------------------------------------------------------------------- all of them


def test_settings_that_change_nothing_are_todays_training_to_the_bit(digits):
    np.testing.assert_array_equal(train(digits, FinalSettings())[0], train(digits, None)[0])


@pytest.mark.parametrize("device_batch_size", [8, 16])
def test_all_tools_in_turns(unequal, with_all, device_batch_size):
    run = train(unequal, ALL, device_batch_size=device_batch_size)
    np.testing.assert_allclose(run[0], with_all[0], atol=2e-5)


@pytest.mark.parametrize("device_batch_size", [8, 64])
def test_all_tools_on_two_devices(unequal, with_all, two_devices, device_batch_size):
    with two_devices.scope():
        run = train(unequal, ALL, device_batch_size=device_batch_size)
    np.testing.assert_allclose(run[0], with_all[0], atol=2e-5)
    for name in ("loss", "accuracy", "l2"):
        assert run[1][name] == pytest.approx(with_all[1][name], rel=1e-4), name


class Killed(Exception):
    pass


def test_all_tools_killed_and_resumed_to_the_bit(unequal, with_all, tmp_path, monkeypatch):
    device = DeviceSettings(checkpoint_steps=2, log_steps=1)
    original = ost.Split.batches

    def killed(self, first_step, *arguments):
        for step, batch in enumerate(original(self, first_step, *arguments), start=first_step):
            if step == 5:
                raise Killed
            yield batch

    monkeypatch.setattr(ost.Split, "batches", killed)
    with pytest.raises(Killed):
        train(unequal, ALL, tmp_path, device=device)
    monkeypatch.undo()
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2, 4]
    np.testing.assert_array_equal(train(unequal, ALL, tmp_path, device=device)[0], with_all[0])
    again, _ = train(unequal, ALL, tmp_path, device=device)  # nothing left to do
    np.testing.assert_array_equal(again, with_all[0])


def test_a_checkpoint_without_averages_is_not_gone_on_with(digits, tmp_path):
    train(digits, None, tmp_path, num_steps=2)
    with pytest.raises(ost.InputError, match="no array for the variable 'average/"):
        train(digits, FinalSettings(weight_average=0.9), tmp_path, num_steps=2)
