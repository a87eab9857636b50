"""The second order: the closed form of a quadratic, symmetric mixed partials, devices, resuming."""

import types

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.unrolled_steps import UnrolledStep
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.strategies import Darts, DartsSettings

SPACE = ost.bender2018(num_blocks=1)
GHOSTS, P, W = 4, 3, 5


class Toy(UnrolledStep):
    """L_train = |w - B m|^2 / 2, the mean over ghost batches, and L_val = |w - c|^2 / 2."""

    rng = np.random.default_rng(0)
    B, c = rng.normal(size=(W, P)).astype(np.float32), rng.normal(size=W).astype(np.float32)

    def _loss(self, weights, images, labels, masks, label_smoothing=0.0):
        rows = masks.shape[0]
        (w,) = weights
        if images.shape[-1] == 1:  # held out
            gap, logits = w - self.c + 0 * tf.reduce_sum(masks), tf.zeros([rows, 2])
            loss = tf.reduce_sum(gap**2) / 2 * rows / GHOSTS
        else:
            gap = w - tf.matmul(masks, self.B, transpose_b=True)
            loss, logits = tf.reduce_sum(gap**2) / 2 / GHOSTS, tf.zeros([rows, 2])
        return loss, tf.zeros([rows]), logits


def toy_train(w, a, m, gradient, rate, momentum, micro_batches):
    """What `UnrolledStep` needs of a `TrainStep`."""
    of = lambda value: types.SimpleNamespace(value=tf.constant(value))  # noqa: E731
    return types.SimpleNamespace(
        strategy=tf.distribute.get_strategy(), replicas=1, batch_size=GHOSTS, ghost_batch_size=1,
        micro_batches=micro_batches, variables=[of(w)], masks=lambda number: tf.constant(m),
        settings=types.SimpleNamespace(label_smoothing=0.0),
        prepare=lambda images, *_: images, gradients=lambda *_: ([tf.constant(gradient)], {}),
        optimizer=types.SimpleNamespace(learning_rate=rate, momentum=momentum, momentums=[of(a)]),
    )  # fmt: skip


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_quadratic_has_the_gradient_of_the_closed_form(momentum, micro_batches):
    rng, rate, decay = np.random.default_rng(1), 0.3, 0.01
    w, a = rng.normal(size=(2, W)).astype(np.float32)
    m = rng.normal(size=(GHOSTS, P)).astype(np.float32)
    gradient = w - m.mean(axis=0) @ Toy.B.T + decay * w
    train = toy_train(w, a, m, gradient, rate, momentum, micro_batches)
    learner = types.SimpleNamespace(wants="gradient")
    step = Toy(train, learner, None)
    labels = tf.zeros([GHOSTS], tf.int32)
    outcome = step._outcome(
        tf.zeros([GHOSTS, 1]), labels, tf.constant(m), tf.zeros([GHOSTS, 2]), labels, tf.constant(7)
    )
    after = w + momentum * a - rate * gradient
    expected = rate * Toy.B.T @ (after - Toy.c) / GHOSTS
    np.testing.assert_allclose(outcome.train_gradient, [expected] * GHOSTS, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(outcome.gradient, np.zeros((GHOSTS, P)), atol=1e-7)


class Cubic(Toy):
    """L_train = sum of w^3 / 3 (B m), the mean over ghost batches. Its mixed derivative has w."""

    def _loss(self, weights, images, labels, masks, label_smoothing=0.0):
        if images.shape[-1] == 1:
            return super()._loss(weights, images, labels, masks)
        along = tf.matmul(masks, self.B, transpose_b=True)
        loss = tf.reduce_sum(weights[0] ** 3 / 3 * along) / GHOSTS
        return loss, tf.zeros([masks.shape[0]]), tf.zeros([masks.shape[0], 2])


def test_the_mixed_derivative_is_at_the_weights_before_the_step():
    """-rate B' (w^2 (w' - c)), where a quadratic could not tell w from w'."""
    rng, rate = np.random.default_rng(2), 0.3
    w = rng.normal(size=W).astype(np.float32)
    m = rng.normal(size=(GHOSTS, P)).astype(np.float32)
    gradient = w**2 * (m.mean(axis=0) @ Toy.B.T)
    step = Cubic(toy_train(w, np.zeros(W, np.float32), m, gradient, rate, 0.0, 2),
                 types.SimpleNamespace(wants="gradient"), None)  # fmt: skip
    labels = tf.zeros([GHOSTS], tf.int32)
    outcome = step._outcome(
        tf.zeros([GHOSTS, 1]), labels, tf.constant(m), tf.zeros([GHOSTS, 2]), labels, tf.constant(7)
    )
    after = w - rate * gradient
    expected = -rate * Toy.B.T @ (w**2 * (after - Toy.c)) / GHOSTS
    np.testing.assert_allclose(outcome.train_gradient, [expected] * GHOSTS, rtol=1e-4, atol=1e-6)


class Wavy(UnrolledStep):
    """A smooth training loss that is not quadratic: sums of sin(w) cos(B m) + exp(w m_0 / 4)."""

    def _loss(self, weights, images, labels, masks, label_smoothing=0.0):
        (w,) = weights
        along = tf.matmul(masks, tf.cast(Toy.B, masks.dtype), transpose_b=True)
        loss = tf.reduce_sum(tf.sin(w) * tf.cos(along) + tf.exp(w * masks[:, :1] / 4))
        return loss, tf.zeros([masks.shape[0]]), tf.zeros([masks.shape[0], 2])


def test_the_finite_difference_of_the_published_code_agrees_in_float64():
    """(dL/dm at w + e v - dL/dm at w - e v) / 2e with e = 0.01 / |v|."""
    rng = np.random.default_rng(4)
    w, v, m = rng.normal(size=W), rng.normal(size=W), rng.normal(size=(GHOSTS, P))
    train = types.SimpleNamespace(
        micro_batches=1, settings=types.SimpleNamespace(label_smoothing=0.0)
    )
    step = Wavy.__new__(Wavy)
    step.train = train

    def gradient(weights):
        masks = tf.constant(m)
        with tf.GradientTape() as tape:
            tape.watch(masks)
            loss, _, _ = step._loss([tf.constant(weights)], None, None, masks)
        return tape.gradient(loss, masks).numpy()

    e = 0.01 / np.linalg.norm(v)
    difference = (gradient(w + e * v) - gradient(w - e * v)) / (2 * e)
    exact = step._mixed(
        [tf.constant(w, tf.float32)], [tf.constant(v, tf.float32)],
        None, None, tf.constant(m, tf.float32),
    )  # fmt: skip
    np.testing.assert_allclose(exact, difference, rtol=1e-3, atol=1e-4)
    assert np.abs(difference).max() > 0.1


class Unrolling(Darts):
    """Keeps what it gets back among its metrics."""

    def learn(self, outcome, update, seed):
        metrics = super().learn(outcome, update, seed)
        for name in ("gradient", "train_gradient"):
            value = getattr(outcome, name)
            if value is not None:
                flat = enumerate(tf.unstack(tf.reshape(value, [-1])))
                metrics |= {f"{name}_{i}": entry for i, entry in flat}
        return metrics


def make(digits, order=2, rate=0.1, device_batch_size=64, weight_decay=1e-4):
    supernet = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10, seed=3)
    settings = ost.TrainSettings(
        batch_size=32, ghost_batch_size=8, device_batch_size=device_batch_size,
        learning_rate=rate, weight_decay=weight_decay,
    )  # fmt: skip
    learner = Unrolling(SPACE, DartsSettings(order=order, architecture_learning_rate=0.05))
    loop = Loop(supernet, digits, learner, 3, settings, 5, None)
    loop.device = DeviceSettings()
    loop._open(None)
    return loop


def gradients(loop):
    """The two gradients of the first update, `[4, 9]` each, before any training step."""
    found = loop.updates.after(0)[0]
    return {
        name: np.array([float(found[f"{name}_{i}"]) for i in range(36)]).reshape(4, 9)
        for name in ("gradient", "train_gradient")
        if f"{name}_0" in found
    }


@pytest.fixture(scope="module")
def second(digits):
    """The gradients of an update, which must leave the weights and their momentum as they are."""
    loop = make(digits)
    before = [v.numpy() for v in (*loop.step.variables, *loop.optimizer.variables)]
    found = gradients(loop)
    after = [v.numpy() for v in (*loop.step.variables, *loop.optimizer.variables)]
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)
    return found


@pytest.mark.slow
def test_without_a_learning_rate_it_is_the_first_order(digits):
    first, still = gradients(make(digits, order=1)), gradients(make(digits, rate=1e-7))
    np.testing.assert_allclose(still["gradient"], first["gradient"], atol=2e-6)
    assert np.abs(still["train_gradient"]).max() < 1e-5 and "train_gradient" not in first


def test_both_parts_matter(second):
    assert np.abs(second["gradient"]).max() > 1e-3
    assert np.abs(second["train_gradient"]).max() > 1e-4


@pytest.mark.slow
def test_micro_batches_and_devices_do_not_matter_to_the_second_order(digits, second, two_devices):
    results = [gradients(make(digits, device_batch_size=16))]
    with two_devices.scope():
        results.append(gradients(make(digits)))
    for result in results:
        for name, value in second.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(result[name], value, atol=2e-3 * scale, err_msg=name)


def test_mixed_partials_are_symmetric_on_the_supernet(digits):
    """u . (d/dw dL/dm along v) = v . (d/dm dL/dw along u), the second one by reverse mode twice."""
    loop = make(digits)
    step, rng = loop.updates.step, np.random.default_rng(2)
    images, labels = digits.train.batch(0, 32, 5)
    images, labels = digits.normalize(images), tf.constant(labels)
    masks = tf.constant(rng.random((4, 9)), tf.float32)
    weights = [tf.convert_to_tensor(v.value) for v in loop.step.variables]
    v = [tf.constant(rng.normal(size=w.shape), tf.float32) for w in weights]
    u = rng.normal(size=masks.shape).astype(np.float32)
    forward = np.sum(u * step._mixed(weights, v, images, labels, masks).numpy())
    with tf.GradientTape() as outer:
        outer.watch(masks)
        with tf.GradientTape() as inner:
            inner.watch(weights)
            loss = step._loss(weights, images, labels, masks)[0]
        gradient = inner.gradient(loss, weights, unconnected_gradients="zero")
        along = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradient, v)])
    backward = np.sum(u * outer.gradient(along, masks).numpy())
    assert forward == pytest.approx(backward, rel=1e-3) and abs(forward) > 1e-3


@pytest.mark.slow
def test_a_resumed_training_of_the_second_order_is_the_same_to_the_bit(digits, tmp_path):
    def train(steps, name):
        supernet = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10, seed=3)
        learner = Darts(SPACE, DartsSettings(order=2, architecture_learning_rate=0.05))
        settings = ost.TrainSettings(batch_size=32, ghost_batch_size=8)
        device = DeviceSettings(checkpoint_steps=2)
        ost.fit_supernet(supernet, digits, learner, steps, settings, 5, tmp_path / name,
                         device=device)  # fmt: skip
        return np.concatenate([np.ravel(v) for v in (*supernet.variables, *learner.variables)])

    train(2, "resumed")
    np.testing.assert_array_equal(train(4, "resumed"), train(4, "whole"))
