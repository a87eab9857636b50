"""The dominant eigenvalue of the architecture Hessian."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.learning.curvature import Curvature
from oneshot_tf.learning.loop import Loop
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.strategies import Darts, DartsSettings

SPACE = ost.bender2018(num_blocks=1)


class Quadratic(Curvature):
    """The loss is a' A a / 2, where the masks are the logits a."""

    def _loss(self, masks, images, labels):
        products = tf.reduce_sum(masks * tf.matmul(masks, self.matrix), axis=1)
        return tf.reduce_sum(products) / 2 / 4


@pytest.mark.parametrize("micro_batches", [1, 4])
@pytest.mark.parametrize("eigenvalues", [[3.0, 1.0, 0.5], [-3.0, 1.0, 0.5], [0.0, 0.0, 0.0]])
def test_the_eigenvalue_of_a_known_matrix(eigenvalues, micro_batches):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    learner = types.SimpleNamespace(
        logits=tf.constant([0.3, -0.2, 0.1]),
        mixture=lambda logits, ghosts: tf.repeat(logits[tf.newaxis], ghosts, axis=0),
    )
    train = types.SimpleNamespace(
        strategy=tf.distribute.get_strategy(), replicas=1, batch_size=4, ghost_batch_size=1,
        micro_batches=micro_batches, seed=0,
    )  # fmt: skip
    prepare = lambda images, *_: images  # noqa: E731
    curvature = Quadratic(types.SimpleNamespace(train=train, learner=learner, prepare=prepare))
    curvature.matrix = tf.constant(basis @ np.diag(eigenvalues) @ basis.T, tf.float32)
    found = curvature(tf.zeros([4, 1]), tf.zeros([4], tf.int32), 0)
    assert found == pytest.approx(eigenvalues[0], rel=1e-4)


def make(digits, device_batch_size=64, curvature_steps=0, steps=3, directory=None):
    supernet = ost.Supernet(SPACE, ost.Stack(1, 4), num_classes=10, seed=3)
    settings = ost.TrainSettings(
        batch_size=32, ghost_batch_size=8, device_batch_size=device_batch_size
    )
    chosen = DartsSettings(architecture_learning_rate=0.1, curvature_steps=curvature_steps)
    loop = Loop(supernet, digits, Darts(SPACE, chosen), steps, settings, 5, directory)
    loop.device = DeviceSettings(log_steps=1)
    return loop


def eigenvalue(loop):
    loop._open(None)
    return loop.learnt_so_far(3)["dominant_eigenvalue"]


@pytest.mark.slow
def test_it_is_that_of_the_whole_hessian(digits):
    """The whole Hessian comes from reverse mode twice, column by column."""
    loop = make(digits)
    found = eigenvalue(loop)
    images, labels = loop.updates.batch(2, 2)
    images = loop.updates.step.prepare(images, 0, 32, tf.constant(2))
    learner, net = loop.learner, loop.step.net
    logits = tf.convert_to_tensor(learner.logits)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            outputs = net(images, learner.mixture(logits, 4), training=True, skip=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
            loss = tf.reduce_mean(losses)
        gradient = inner.gradient(loss, logits)
        columns = tf.unstack(gradient)
    hessian = np.array([outer.gradient(column, logits) for column in columns])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-5)
    values = np.linalg.eigvalsh(hessian)
    assert found == pytest.approx(values[np.abs(values).argmax()], rel=0.02)
    assert abs(found) > 1e-4


@pytest.mark.slow
def test_micro_batches_and_devices_do_not_matter(digits, two_devices):
    whole = eigenvalue(make(digits))
    assert eigenvalue(make(digits, device_batch_size=16)) == pytest.approx(whole, rel=1e-3)
    with two_devices.scope():
        assert eigenvalue(make(digits)) == pytest.approx(whole, rel=1e-3)


def test_decisions_have_it_when_asked_and_at_the_end_with_the_cost(digits, tmp_path):
    loop = make(digits, curvature_steps=2, steps=5, directory=tmp_path)
    loop.run(DeviceSettings(log_steps=1), "training")
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "dominant_eigenvalue" in line] == [2, 4, 5]
    last = ost.Architecture.from_text(lines[-1]["architecture"])
    net = ost.Standalone(SPACE, last, ost.Stack(1, 4), num_classes=10)
    net.build((None, digits.image_size, digits.image_size, 3))
    assert lines[-1]["parameters"] == sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    assert lines[-1]["multiply_adds"] > 0
