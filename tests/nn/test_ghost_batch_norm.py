"""Ghost batch norm against NumPy and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.nn import ghost_batch_norm


def images(shape, seed=0):
    """Ghost batches of different means and spreads: constant ones would pass with wrong groups."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * rng.uniform(0.5, 3, size=(shape[0], 1, 1, shape[3]))
    return (x + rng.normal(size=(shape[0], 1, 1, shape[3]))).astype(np.float32)


def by_numpy(x, beta, gamma, ghosts, epsilon):
    out = []
    for part in np.split(x.astype(np.float64), ghosts):
        mean, variance = part.mean(axis=(0, 1, 2)), part.var(axis=(0, 1, 2))
        out.append((part - mean) / np.sqrt(variance + epsilon) * gamma + beta)
    return np.concatenate(out)


@pytest.mark.parametrize("ghosts", [1, 2, 4, 8])
@pytest.mark.parametrize("formulation", ["_normalize_moments", "_normalize_fused"])
def test_both_formulations_equal_numpy(ghosts, formulation):
    x = images((16, 5, 5, 3))
    beta, gamma = np.float32([0.3, -1, 2]), np.float32([1, 0.5, 3])
    normalize = getattr(ghost_batch_norm, formulation)
    y, mean, variance = normalize(tf.constant(x), beta, gamma, ghosts, 1e-3)
    np.testing.assert_allclose(y, by_numpy(x, beta, gamma, ghosts, 1e-3), atol=2e-5)
    parts = np.split(x, ghosts)
    np.testing.assert_allclose(mean, np.mean([p.mean((0, 1, 2)) for p in parts], 0), atol=1e-5)
    np.testing.assert_allclose(variance, np.mean([p.var((0, 1, 2)) for p in parts], 0), rtol=1e-4)


def test_the_formulations_have_the_same_gradients():
    x = tf.constant(images((8, 4, 4, 3)))
    weights = tf.constant(images((8, 4, 4, 3), seed=1))
    beta, gamma = tf.constant([0.3, -1, 2]), tf.constant([1, 0.5, 3])
    gradients = []
    for normalize in (ghost_batch_norm._normalize_moments, ghost_batch_norm._normalize_fused):
        with tf.GradientTape() as tape:
            tape.watch([x, beta, gamma])
            loss = tf.reduce_sum(normalize(x, beta, gamma, 2, 1e-3)[0] * weights)
        gradients.append(tape.gradient(loss, [x, beta, gamma]))
    for a, b in zip(*gradients):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, ghosts", [(4, 1), (32, 1)])  # one of each formulation
def test_one_ghost_batch_is_keras_batch_norm_in_training(size, ghosts):
    x = images((16, size, size, 8))
    ours = ost.GhostBatchNorm(epsilon=1e-3)
    theirs = keras.layers.BatchNormalization(epsilon=1e-3)
    y = ours(x, num_ghosts=ghosts)
    expected = theirs(x, training=True)
    ours.beta.assign(np.arange(8.0))
    theirs.beta.assign(np.arange(8.0))
    np.testing.assert_allclose(ours(x), theirs(x, training=True), atol=2e-5)
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_a_ghost_batch_does_not_see_the_others():
    x = images((8, 4, 4, 3))
    layer = ost.GhostBatchNorm()
    before = layer(x, num_ghosts=2).numpy()
    changed = x.copy()
    changed[4:] *= 7
    after = layer(changed, num_ghosts=2).numpy()
    np.testing.assert_array_equal(before[:4], after[:4])
    assert np.abs(before - layer(x, num_ghosts=1)).max() > 0.1


def test_without_moving_averages_training_makes_no_difference():
    x = images((8, 4, 4, 3))
    layer = ost.GhostBatchNorm()
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert len(layer.non_trainable_variables) == 0


def test_moving_averages_approach_the_statistics_and_serve_single_images():
    x = images((64, 4, 4, 3))
    layer = ost.GhostBatchNorm(moving_averages=True, momentum=0.5)
    for _ in range(40):
        layer(x, num_ghosts=2, training=True)
    np.testing.assert_allclose(layer.moving_mean, x.mean((0, 1, 2)), atol=1e-5)
    halves = np.mean([p.var((0, 1, 2)) for p in np.split(x, 2)], axis=0)
    np.testing.assert_allclose(layer.moving_variance, halves, rtol=1e-4)
    batch = layer(x, training=False).numpy()
    single = np.concatenate([layer(i[None], training=False) for i in x])
    np.testing.assert_allclose(batch, single, atol=1e-6)


def test_ghost_batches_must_divide_the_batch():
    with pytest.raises(ost.InputError, match="6 images cannot be cut into 4"):
        ost.GhostBatchNorm()(images((6, 2, 2, 3)), num_ghosts=4)


def test_turns_move_the_averages_as_the_whole_batch_does():
    x = images((24, 4, 4, 3))
    whole, turns = (ost.GhostBatchNorm(moving_averages=True) for _ in range(2))
    for _ in range(3):
        whole(x, num_ghosts=6, training=True)
        for t in range(3):
            turns(x[8 * t : 8 * t + 8], num_ghosts=2, training=True, micro_batch=(t, 3))
    np.testing.assert_allclose(whole.moving_mean, turns.moving_mean, atol=1e-6)
    np.testing.assert_allclose(whole.moving_variance, turns.moving_variance, rtol=1e-5)


def test_statistics_are_float32_under_mixed_precision():
    x = 300 + images((32, 4, 4, 3))  # bfloat16 statistics would be off by 1
    layer = ost.GhostBatchNorm(dtype="mixed_bfloat16", moving_averages=True, momentum=0.0)
    y = layer(x, training=True)
    assert y.dtype == tf.bfloat16 and layer.beta.dtype == "float32"
    rounded = tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy()
    np.testing.assert_allclose(layer.moving_mean, rounded.mean((0, 1, 2)), rtol=1e-5)
    served = tf.cast(layer(x, training=False), tf.float32)
    np.testing.assert_allclose(served, tf.cast(y, tf.float32), atol=0.05)
