"""Training: the same on one device, on two and in turns; resumed as if never stopped."""

import errno
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.learning.optimizers import NesterovSGD
from oneshot_tf.learning.steps import TrainStep, _clipped, count_micro_batches, skipping_pays
from oneshot_tf.settings import DeviceSettings

STEPS = 4


def train(
    digits, directory=None, *, device_batch_size=64, device=None, num_steps=STEPS, **settings
):
    """Trains a small one-shot model for a few steps of 32 images in 4 ghost batches."""
    space = ost.bender2018(num_blocks=1)
    supernet = ost.Supernet(space, ost.Stack(2, 4), num_classes=10, seed=3)
    settings = ost.TrainSettings(
        batch_size=32, ghost_batch_size=8, device_batch_size=device_batch_size, **settings
    )
    sampler = ost.PathDropout(space, 0.3, "constant")
    last = ost.fit_supernet(
        supernet, digits, sampler, num_steps, settings, 5, directory, device=device
    )
    return supernet, last


def weights(net):
    return np.concatenate([np.ravel(v.numpy()) for v in net.variables])


@pytest.fixture(scope="module")
def whole(digits):
    """Dropped paths skipped: what `auto` chooses at this drop rate (a test says so)."""
    return train(digits)


def assert_close(run, expected):
    np.testing.assert_allclose(weights(run[0]), weights(expected[0]), atol=2e-5)
    for name in ("loss", "cross_entropy", "l2", "accuracy"):
        assert run[1][name] == pytest.approx(expected[1][name], rel=1e-4), name


def test_steps_against_steps_by_hand(digits):
    """Cross-entropy with label smoothing, masked L2, one cosine, Nesterov: written out plainly."""
    num_steps, batch, ghosts, rate, decay, smoothing = 3, 32, 4, 0.05, 0.01, 0.1
    space = ost.bender2018(num_blocks=2)
    sampler = ost.PathDropout(space, 0.3, "constant")
    nets = [ost.Supernet(space, ost.Stack(2, 3), num_classes=10, seed=2) for _ in range(2)]
    settings = ost.TrainSettings(
        batch_size=batch, ghost_batch_size=8, learning_rate=rate, weight_decay=decay,
        label_smoothing=smoothing, augmentation="none", learning_rate_schedule="cosine",
    )  # fmt: skip
    ost.fit_supernet(nets[0], digits, sampler, num_steps, settings, seed=5)

    net = nets[1]
    variables = net.trainable_variables
    momenta = [np.zeros(v.shape, np.float32) for v in variables]
    for step in range(num_steps):
        images, labels = digits.train.batch(step, batch, 5)
        masks = sampler.sample(ghosts, step, 5).numpy()
        usage = net.usage(masks).numpy()
        with tf.GradientTape() as tape:
            loss = 0.0
            for g in range(ghosts):
                rows = slice(8 * g, 8 * g + 8)
                logits = net(digits.normalize(images[rows]), masks[g : g + 1], True)
                log_p = tf.nn.log_softmax(logits)
                targets = 0.9 * np.eye(10)[labels[rows]] + 0.01
                loss -= tf.reduce_sum(targets.astype(np.float32) * log_p) / batch
            for k, kernel in enumerate(net.kernels):
                used = np.mean([usage[g, k] for g in range(ghosts)])
                loss += decay / 2 * used * tf.reduce_sum(kernel.value**2)
        gradients = tape.gradient(loss, [v.value for v in variables])
        now = rate * (1 + np.cos(np.pi * step / num_steps)) / 2
        for i, (variable, gradient) in enumerate(zip(variables, gradients)):
            momenta[i] = 0.9 * momenta[i] - now * gradient.numpy()
            variable.assign_add(0.9 * momenta[i] - now * gradient.numpy())
    np.testing.assert_allclose(weights(nets[0]), weights(net), atol=2e-5)


@pytest.mark.parametrize("device_batch_size", [8, 16, 64])
def test_dense_turns_of_any_size_are_the_skipping_step(digits, whole, device_batch_size):
    run = train(digits, device_batch_size=device_batch_size, skip_paths="never")
    assert_close(run, whole)


@pytest.mark.parametrize(
    "device_batch_size, skip_paths", [(8, "never"), (64, "never"), (64, "always")]
)
def test_two_devices_are_one(digits, whole, two_devices, device_batch_size, skip_paths):
    with two_devices.scope():
        run = train(digits, device_batch_size=device_batch_size, skip_paths=skip_paths)
    assert_close(run, whole)


@pytest.mark.parametrize(
    "name, alone, rates",
    [
        ("auto", False, [0.1, 0.1, 0.1, 0.1]),  # the one-shot model: constant
        ("auto", True, [0.1, 0.05, 0.1 * (1 + np.cos(np.pi * 0.95)) / 2, 0.0]),
        ("cosine", False, [0.1, 0.05, 0.1 * (1 + np.cos(np.pi * 0.95)) / 2, 0.0]),
        ("constant", True, [0.1, 0.1, 0.1, 0.1]),
        ("cooldown", False, [0.1, 0.1, 0.05, 0.0]),
    ],
)
def test_learning_rate_schedules(digits, small_space, small_supernet, name, alone, rates):
    sampler = None if alone else ost.PathDropout(small_space, 0.1, "constant")
    settings = ost.TrainSettings(learning_rate=0.1, learning_rate_schedule=name)
    loop = Loop(small_supernet, digits, sampler, 100, settings, 0, None)
    assert [float(loop.schedule(s)) for s in (0, 50, 95, 100)] == pytest.approx(rates, abs=1e-7)


def test_which_steps_skip():
    """Large tensors: nearly all; small ones: those that drop most paths; never without a drop."""
    space = ost.bender2018()
    sampler = ost.PathDropout(space, 0.1, "linear", num_steps=100)
    kept = [1 - sampler.rates(step).numpy().mean() for step in (0, 50, 100)]
    np.testing.assert_allclose([sampler.kept_share(s) for s in (0, 50, 100)], kept, atol=1e-6)
    large, small = 32 * 32 * 32 * 16, 32 * 16 * 16 * 8
    assert [skipping_pays(k, large) for k in kept] == [False, True, True]
    assert [skipping_pays(k, small) for k in kept] == [False, False, True]


def test_a_training_may_change_from_dense_to_skipping(digits):
    """The ramp passes the point where skipping pays; it is one training all the same."""
    space = ost.bender2018(num_blocks=1)

    def run(skip_paths):
        net = ost.Supernet(space, ost.Stack(2, 4), num_classes=10, seed=3)
        sampler = ost.PathDropout(space, 0.5, "linear", num_steps=4)
        settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8, skip_paths=skip_paths)
        step = TrainStep(net, None, sampler, None, settings, 0, image_size=8)
        choices = {step.skips(number) for number in range(4)}
        ost.fit_supernet(net, digits, sampler, 4, settings, seed=5)
        return net, choices

    (changing, both), (dense, one) = run("auto"), run("never")
    assert both == {False, True} and one == {False}
    np.testing.assert_allclose(weights(changing), weights(dense), atol=2e-5)


def test_a_clipped_step_is_as_long_as_the_limit_allows(digits):
    """Without momentum, a step of rate 1 is the gradient."""
    one = {"num_steps": 1, "momentum": 0.0, "learning_rate": 1.0}
    start = train(digits, num_steps=1, learning_rate=1e-30, momentum=0.0)[0]
    trained = [v.path for v in start.trainable_variables]

    def length(**settings):
        net = train(digits, **one, **settings)[0]
        moved = [
            net_v.numpy() - start_v.numpy()
            for net_v, start_v in zip(net.variables, start.variables)
            if start_v.path in trained
        ]
        return float(np.sqrt(sum((m**2).sum() for m in moved)))

    free = length()
    assert length(global_clipnorm=free / 3) == pytest.approx(free / 3, rel=1e-3)
    assert length(global_clipnorm=free * 3) == free


def test_the_norm_of_the_sum_over_devices_is_clipped(two_devices):
    parts = np.array([[3.0, 0.0, 1.0], [1.0, 2.0, -1.0]], np.float32)

    def on_replica():
        own = tf.gather(parts, tf.distribute.get_replica_context().replica_id_in_sync_group)
        clipped = _clipped([own[:1], own[1:]], 1.5, replicas=2)
        return tf.concat(clipped, axis=0)

    found = two_devices.run(tf.function(on_replica))
    found = two_devices.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)
    whole = parts.sum(axis=0)
    np.testing.assert_allclose(found, whole * 1.5 / np.linalg.norm(whole), rtol=1e-6)


def test_momentum_in_one_operation_is_kerass():
    values, gradient = tf.random.stateless_normal([5], [1, 2]), tf.constant([1.0, -2, 3, 0, 5])
    results = []
    for kind in (keras.optimizers.SGD, NesterovSGD):
        for momentum in (0.0, 0.9):
            variable = keras.Variable(values)
            optimizer = kind(0.1, momentum=momentum, nesterov=momentum > 0)
            for _ in range(3):
                optimizer.apply([gradient], [variable])
            results.append(variable.numpy())
    np.testing.assert_allclose(results[:2], results[2:], rtol=1e-6)


@pytest.mark.slow
def test_a_standalone_net_trains_the_same_on_two_devices_and_in_turns(digits, two_devices):
    space = ost.bender2018(num_blocks=1)
    a = ost.Architecture.from_text("prev1+prev2:sep3x3+avg3x3")

    def run(device_batch_size=64):
        settings = ost.TrainSettings(
            batch_size=32, ghost_batch_size=8, device_batch_size=device_batch_size,
            learning_rate_schedule="constant",
        )  # fmt: skip
        net = ost.Standalone(space, a, ost.Stack(2, 4), num_classes=10)
        ost.fit_standalone(net, digits, STEPS, settings, seed=1)
        return weights(net)  # moving averages too

    one = run()
    with two_devices.scope():
        two = run()
        two_in_turns = run(8)
    np.testing.assert_allclose(one, run(8), atol=2e-5)
    np.testing.assert_allclose(one, two_in_turns, atol=2e-5)
    np.testing.assert_allclose(one, two, atol=2e-5)


def test_same_seed_same_result_to_the_bit(digits, whole):
    np.testing.assert_array_equal(weights(train(digits)[0]), weights(whole[0]))


class Killed(Exception):
    pass


def test_killed_and_resumed_is_uninterrupted_to_the_bit(digits, whole, tmp_path, monkeypatch):
    device = DeviceSettings(checkpoint_steps=2, log_steps=1)
    uninterrupted, _ = train(digits, tmp_path / "whole", device=device)
    np.testing.assert_array_equal(weights(uninterrupted), weights(whole[0]))
    original = ost.Split.batches

    def killed(self, first_step, *arguments):
        for step, batch in enumerate(original(self, first_step, *arguments), start=first_step):
            if step == 3:
                raise Killed
            yield batch

    monkeypatch.setattr(ost.Split, "batches", killed)
    with pytest.raises(Killed):
        train(digits, tmp_path / "killed", device=device)
    monkeypatch.undo()
    resumed, last = train(digits, tmp_path / "killed", device=device)
    np.testing.assert_array_equal(weights(resumed), weights(uninterrupted))

    def lines(run):
        text = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "images_per_second": 0} for line in text]

    assert lines("killed") == lines("whole")
    assert [line["step"] for line in lines("whole")] == [1, 2, 3, 4]
    again, same = train(digits, tmp_path / "killed", device=device)  # nothing left to do
    np.testing.assert_array_equal(weights(again), weights(uninterrupted))
    assert same == last


def test_a_damaged_newest_checkpoint_is_passed_over(digits, whole, tmp_path, capsys):
    device = DeviceSettings(checkpoint_steps=2)
    train(digits, tmp_path, device=device)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [2, 4]
    newest = checkpoints.path(4)
    newest.write_bytes(newest.read_bytes()[:-3000])
    resumed, _ = train(digits, tmp_path, device=device)
    np.testing.assert_array_equal(weights(resumed), weights(whole[0]))
    assert "step_000000004.npz" in capsys.readouterr().out


def test_a_flipped_bit_is_noticed(digits, tmp_path):
    train(digits, tmp_path, num_steps=1)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    data = bytearray(checkpoints.path(1).read_bytes())
    data[len(data) // 2] ^= 4
    checkpoints.path(1).write_bytes(data)
    with pytest.raises(ost.InputError, match="None of the 1 checkpoint"):
        train(digits, tmp_path, num_steps=1)


def test_a_checkpoint_of_another_net_is_refused(digits, tmp_path, small_supernet):
    train(digits, tmp_path, num_steps=1)
    with pytest.raises(ost.InputError, match="another net"):
        Checkpoints(tmp_path / "checkpoints").restore_step(1, small_supernet.variables)


def test_no_checkpoint_holds_half(tmp_path, small_supernet):
    """What a kill leaves while a checkpoint is written is not taken for one."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / ".step_000000007.npz.writing").write_bytes(b"half")
    assert Checkpoints(folder).restore(small_supernet.variables) == 0


def test_a_loss_that_is_not_finite_stops_with_one_line_and_is_not_saved(digits, tmp_path):
    device = DeviceSettings(log_steps=1000, checkpoint_steps=5)
    with pytest.raises(ost.InputError, match="loss is (nan|inf)"):
        train(digits, tmp_path, learning_rate=100.0, weight_decay=1.0, num_steps=100, device=device)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps()
    for step in checkpoints.steps():
        with np.load(checkpoints.path(step)) as arrays:
            assert all(np.isfinite(arrays[name]).all() for name in arrays.files)


def test_a_full_disk_leaves_what_was_there(digits, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    train(digits, tmp_path, num_steps=1)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    before = checkpoints.path(1).read_bytes()
    monkeypatch.setattr("os.fsync", full)
    for step in (1, 2):
        with pytest.raises(ost.InputError, match="No space left on device") as error:
            checkpoints.save(step, [tf.keras.Variable(np.ones(3), name="x")])
        assert "\n" not in str(error.value)
    assert checkpoints.path(1).read_bytes() == before
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step_000000001.npz"]


def test_training_learns(digits):
    """Far above chance, 0.1, after 100 steps; and so do candidates with the shared weights."""
    space = ost.bender2018(num_blocks=2)
    supernet = ost.Supernet(space, ost.Stack(2, 8), num_classes=10)
    sampler = ost.PathDropout(space, 0.1, "linear", num_steps=100)
    settings = ost.TrainSettings(batch_size=64, ghost_batch_size=16, augmentation="none")
    last = ost.fit_supernet(supernet, digits, sampler, 100, settings)
    assert last["accuracy"] > 0.5
    all_on, weak = ost.evaluate(
        supernet,
        [space.all_on(), ost.Architecture.from_text("prev2:identity | prev2:max3x3")],
        digits,
    )
    assert all_on.accuracy > 0.7 > weak.accuracy and all_on.num_images == 100


@pytest.mark.parametrize(
    "sizes, turns",
    [((64, 32, 64, 1), 1), ((1024, 32, 64, 16), 1), ((1024, 32, 64, 1), 16), ((96, 32, 64, 1), 3),
     ((1024, 32, 1000, 2), 1), ((64, 32, 8, 1), 2)],
)  # fmt: skip
def test_turns(sizes, turns):
    assert count_micro_batches(*sizes) == turns


def test_batch_that_does_not_divide():
    with pytest.raises(ost.InputError, match="multiple of 64"):
        count_micro_batches(96, 32, 64, 2)


@pytest.mark.slow
def test_the_papers_model_trains_in_turns_at_full_size():
    """Six cells, F = 16, 32x32, turns of 64: the step of cifar.flags, with 2 turns for 16."""
    space = ost.bender2018()
    digits = ost.load_data("digits", image_size=32)
    supernet = ost.Supernet(space, ost.Stack(6, 16), num_classes=10)
    sampler = ost.PathDropout(space, 0.1, "linear", num_steps=10_000)
    settings = ost.TrainSettings(
        batch_size=128, ghost_batch_size=32, device_batch_size=64, augmentation="none"
    )
    device = DeviceSettings(log_steps=5)
    last = ost.fit_supernet(supernet, digits, sampler, 30, settings, device=device)
    assert last["cross_entropy"] < 1.5  # chance is 2.30


def test_cross_entropy_with_label_smoothing():
    logits = np.float32([[1, 2, 0.5]])
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    expected = -(0.9 * np.log(p[1]) + 0.1 / 3 * np.log(p).sum())
    assert cross_entropy([1], logits, 0.1).numpy()[0] == pytest.approx(expected, rel=1e-5)
