"""Architecture updates: exact gradients, on any devices, resumed as if never stopped."""

import json

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.learning.architecture_steps import ArchitectureStep
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.strategies import LEARNERS, DartsSettings, Learner
from oneshot_tf.strategies.logits import LogitsLearner

SPACE = ost.bender2018(num_blocks=1)
STEPS = 4
FAST = {  # settings with which each learner moves within a few steps
    "darts": {"architecture_learning_rate": 0.1},
    "gumbel": {"architecture_learning_rate": 0.1},
    "enas": {"phase_steps": 2, "phase_updates": 2, "architectures": 2,
             "controller_learning_rate": 0.1},
}  # fmt: skip


class Recorder(Learner):
    """Tries given masks, and keeps what it gets back."""

    space, variables = SPACE, []

    def __init__(self, masks, wants="gradient"):
        self.masks, self.wants, self.outcomes = tf.constant(masks, tf.float32), wants, []

    def sample(self, num_ghosts, step, seed):
        return self.masks

    def updates_before(self, step):
        return 2 * step

    def trial(self, num_ghosts, update, seed):
        return self.masks

    def learn(self, outcome, update, seed):
        found = {f"loss_{i}": loss for i, loss in enumerate(tf.unstack(outcome.losses))}
        found |= {f"hits_{i}": hits for i, hits in enumerate(tf.unstack(outcome.accuracies))}
        if outcome.gradient is not None:
            for i, row in enumerate(tf.unstack(outcome.gradient)):
                found |= {f"gradient_{i}_{j}": g for j, g in enumerate(tf.unstack(row))}
        return found

    def probabilities(self):
        return [np.ones(d.num_options) / d.num_options for d in SPACE.decisions]


def outcome(digits, masks, wants="gradient", device_batch_size=64):
    """What a learner gets back for a batch of 32 images in 4 ghost batches."""
    supernet = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10, seed=3)
    settings = ost.TrainSettings(
        batch_size=32, ghost_batch_size=8, device_batch_size=device_batch_size
    )
    loop = Loop(supernet, digits, Recorder(masks, wants), 2, settings, 5, None)
    loop.device = DeviceSettings()
    loop._open(None)
    before = [v.numpy() for v in supernet.variables]
    found = {name: float(value) for name, value in loop.updates.after(1)[0].items()}
    for variable, value in zip(supernet.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)  # the weights stay
    return found, supernet, loop


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    return (rng.random([4, SPACE.num_paths]) * (rng.random([4, SPACE.num_paths]) < 0.7)).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def found(digits, masks):
    return outcome(digits, masks)


def test_the_outcome_is_that_of_the_whole_batch(found, digits, masks):
    metrics, supernet, loop = found
    images, labels = digits.validation.batch(2, 32, 5)  # updates 2 and 3 follow step 1
    prepare = digits.augmenter("crop_flip", 6)
    rows = tf.constant(masks)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        logits = supernet(prepare(images, 0, 32, 2), rows, training=True)
        losses = cross_entropy(labels, logits)
        loss = tf.reduce_mean(losses)
    gradient = tape.gradient(loss, rows).numpy()
    each = np.array([[metrics[f"gradient_{i}_{j}"] for j in range(9)] for i in range(4)])
    np.testing.assert_allclose(each, gradient, atol=2e-6)
    assert np.abs(gradient).max() > 1e-3
    by_ghost = losses.numpy().reshape(4, 8).mean(axis=1)
    np.testing.assert_allclose([metrics[f"loss_{i}"] for i in range(4)], by_ghost, rtol=1e-5)
    hits = (logits.numpy().argmax(axis=1) == labels).reshape(4, 8).mean(axis=1)
    np.testing.assert_allclose([metrics[f"hits_{i}"] for i in range(4)], hits, rtol=1e-6)
    assert metrics["held_out_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert list(loop.updates.numbers(1)) == [2, 3]


def test_the_gradient_of_masks_is_that_of_differences(found, digits, masks):
    metrics, supernet, _ = found
    images, labels = digits.validation.batch(2, 32, 5)
    images = digits.augmenter("crop_flip", 6)(images, 0, 32, 2)

    def loss(change, ghost, path):
        moved = masks.copy()
        moved[ghost, path] += change
        logits = supernet(images, tf.constant(moved), training=True)
        return float(tf.reduce_mean(tf.cast(cross_entropy(labels, logits), tf.float64)))

    for ghost, path in ((0, 1), (1, 3), (2, 8)):
        difference = (loss(0.02, ghost, path) - loss(-0.02, ghost, path)) / 0.04
        assert metrics[f"gradient_{ghost}_{path}"] == pytest.approx(difference, rel=0.2, abs=3e-4)


@pytest.mark.parametrize("wants", ["gradient", "scores"])
def test_micro_batches_and_devices_do_not_matter(found, digits, masks, two_devices, wants):
    expected = {k: v for k, v in found[0].items() if wants == "gradient" or "grad" not in k}
    results = [outcome(digits, masks, wants, 8)[0]]
    with two_devices.scope():
        results.append(outcome(digits, masks, wants)[0])
    for result in results:
        assert set(result) == set(expected)
        for name, value in expected.items():
            assert result[name] == pytest.approx(value, rel=1e-4, abs=3e-6), name


# ---------------------------------------------------------------------------- trainings


def train(digits, name, directory=None, *, num_steps=STEPS, device=None, seed=5):
    learner = LEARNERS[name].make(SPACE, LEARNERS[name].settings(**FAST[name]), num_steps)
    supernet = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10, seed=3)
    settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8)
    last = ost.fit_supernet(
        supernet, digits, learner, num_steps, settings, seed, directory, device=device
    )
    values = [np.ravel(v.numpy()) for v in (*supernet.variables, *learner.variables)]
    return np.concatenate(values), learner, last


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "name, split, at",
    [("darts", "validation", 2), ("enas", "validation", 3),
     pytest.param("enas", "train", 3, marks=pytest.mark.slow),
     pytest.param("gumbel", "train", 3, marks=pytest.mark.slow)],
)  # fmt: skip
def test_killed_in_either_phase_and_resumed_is_uninterrupted_to_the_bit(
    digits, tmp_path, monkeypatch, name, split, at
):
    device = DeviceSettings(checkpoint_steps=2, log_steps=1)
    whole, *_ = train(digits, name, tmp_path / "whole", device=device)
    original, killed_split = ost.Split.batches, getattr(digits, split)

    def killed(self, first_step, *arguments):
        for step, batch in enumerate(original(self, first_step, *arguments), start=first_step):
            if step == at and len(self) == len(killed_split):
                raise Killed
            yield batch

    monkeypatch.setattr(ost.Split, "batches", killed)
    with pytest.raises(Killed):
        train(digits, name, tmp_path / "killed", device=device)
    monkeypatch.undo()
    resumed, *_ = train(digits, name, tmp_path / "killed", device=device)
    np.testing.assert_array_equal(resumed, whole)

    def lines(run, file):
        text = (tmp_path / run / file).read_text().splitlines()
        return [{**json.loads(line), "images_per_second": 0} for line in text]

    for file in ("metrics.jsonl", "decisions.jsonl"):
        assert lines("killed", file) == lines("whole", file)
        assert [line["step"] for line in lines("whole", file)] == [1, 2, 3, 4]
    assert {"held_out_loss", "held_out_accuracy", "decision_entropy"} <= set(
        lines("whole", "metrics.jsonl")[1]
    )


def test_a_learner_of_another_space_or_scope_is_refused(digits, two_devices):
    settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8)
    learner = LEARNERS["darts"].make(ost.bender2018(num_blocks=2), DartsSettings(), 2)
    net = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10)
    with pytest.raises(ost.InputError, match="must have the search space"):
        ost.fit_supernet(net, digits, learner, 2, settings)
    learner = LEARNERS["darts"].make(SPACE, DartsSettings(), 2)
    with two_devices.scope():
        net = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10)
        with pytest.raises(ost.InputError, match="in the scope of the distribution strategy"):
            ost.fit_supernet(net, digits, learner, 2, settings)


def test_the_curvature_needs_a_line_of_the_log(digits):
    learner = LEARNERS["darts"].make(SPACE, DartsSettings(curvature_steps=20), 2)
    net = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10)
    settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8)
    with pytest.raises(ost.InputError, match="multiple of --log_steps=50; got 20"):
        ost.fit_supernet(net, digits, learner, 2, settings)


def loop_of(digits, name, **values):
    """A training that was not started."""
    supernet = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10, seed=3)
    learner = LEARNERS[name].make(SPACE, LEARNERS[name].settings(**{**FAST[name], **values}), 200)
    settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8, augmentation="none")
    loop = Loop(supernet, digits, learner, 200, settings, 5, None)
    loop.device = DeviceSettings()
    loop._open(None)
    return loop


@pytest.mark.parametrize("name", LEARNERS)
def test_a_training_step_leaves_the_learner_as_it_is(digits, name):
    loop = loop_of(digits, name)
    before = [v.numpy() for v in loop.learner.variables]
    loop.step(*loop.batches.own(0), 0)
    for variable, value in zip(loop.learner.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_enas_learns_what_is_planted_in_a_frozen_one_shot_model(digits):
    """Accuracy on held-out images is all that it sees. Only cells with a 5x5 kernel have any."""
    loop = loop_of(digits, "enas", tanh_constant=3.0, architectures=4)
    for number in range(150):
        loop.step(*loop.batches.own(number), number)
    net = loop.step.net
    good = SPACE.operations.index("sep5x5")
    place = SPACE.decisions[1].paths[good]

    def planted(images, masks, training, skip):
        found = trained(images, masks, training=training, skip=skip)
        has = tf.repeat(masks[:, place], images.shape[0] // masks.shape[0])
        return found * has[:, tf.newaxis]  # without it, all logits are 0

    trained, loop.updates.step.train.net = net.__call__, planted
    before = [v.numpy() for v in net.variables]

    def share():
        drawn = loop.learner.draw(200, np.random.default_rng(0))
        return np.mean(["sep5x5" in a.blocks[0].operations for a in drawn])

    first = share()
    for number in range(1, 200, 2):
        loop.updates.after(number)
    assert first < 0.4 and share() > 0.8
    assert "sep5x5" in loop.learner.mode().blocks[0].operations
    for variable, value in zip(net.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_two_devices_learn_the_same(digits, two_devices, name):
    fresh = LEARNERS[name].make(SPACE, LEARNERS[name].settings(**FAST[name]), 2)
    fresh.begin(5)
    start = fresh.variables[0].numpy()
    one, first, _ = train(digits, name, num_steps=2)
    with two_devices.scope():
        two, second, _ = train(digits, name, num_steps=2)
    for variable, other in zip(first.variables, second.variables):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=5e-3)
    assert np.abs(first.variables[0].numpy() - start).max() > 0.01
    assert np.abs(one - two).max() < 5e-3


def test_logits_that_are_not_finite_are_named(digits, tmp_path, monkeypatch):
    learn = LogitsLearner.learn

    def broken(self, outcome, update, seed):
        found = learn(self, outcome, update, seed)
        self.logits.assign(tf.where(tf.equal(update, 1), np.nan, self.logits.value))
        return found

    monkeypatch.setattr(LogitsLearner, "learn", broken)
    with pytest.raises(ost.InputError, match=r"(?s)variable learner.*--architecture_learning_rate"):
        train(digits, "darts", tmp_path)


def test_a_step_that_failed_is_repeated_with_its_updates(digits, tmp_path, monkeypatch):
    """The state before the failure is reached again to the bit, logits included."""
    states = []
    original = Loop._step

    def step(self, batch, number):
        states.append([np.array(v) for v in self.variables])
        original(self, batch, number)

    monkeypatch.setattr(Loop, "_step", step)
    replayed = []

    def inspect(step, batch, number, variables):
        replayed.append((number, [np.array(v) for v in loops[0].variables]))
        return {"first_not_finite": "x", "gradient_norm": 1.0}

    loops = []
    opened = Loop._open
    monkeypatch.setattr(
        Loop, "_open", lambda self, owner: (loops.append(self), opened(self, owner))
    )
    monkeypatch.setattr("oneshot_tf.learning.recovery.inspect_step", inspect)
    check = Loop._check
    fails = lambda self, number, sums: check(  # noqa: E731
        self, number, {**sums, "loss": np.nan} if number == 2 else sums
    )
    monkeypatch.setattr(Loop, "_check", fails)
    with pytest.raises(ost.InputError, match="First not finite"):
        train(digits, "darts", tmp_path)
    number, values = replayed[0]
    assert number == 2
    for one, other in zip(values, states[2]):
        np.testing.assert_array_equal(one, other)


def test_too_few_held_out_images_are_refused(digits):
    with pytest.raises(ost.InputError, match="--num_validation must be at least --batch_size=32"):
        train(ost.load_data("digits", num_validation=31), "darts")


def test_the_graph_is_traced_once(digits, monkeypatch):
    traced = []
    original = ArchitectureStep._on_replica
    monkeypatch.setattr(
        ArchitectureStep, "_on_replica",
        lambda self, *arguments: (traced.append(1), original(self, *arguments))[1],
    )  # fmt: skip
    train(digits, "darts", num_steps=3)
    assert len(traced) == 1
