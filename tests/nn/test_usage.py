"""Which weights are in use: exactly, and what L2 makes of it."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import random_images, randomize_betas

import oneshot_tf as ost


def test_unused_weights_get_no_gradient_and_no_l2(small_space, small_supernet):
    kernels = small_supernet.kernels
    images, labels = random_images(16), np.arange(16) % 5
    rng = np.random.default_rng(6)
    dead_cells = (
        "prev2:sep3x3+max3x3 | prev2+block0:avg3x3"  # nothing reads the cell before the last
    )
    every = [small_space.sample(rng) for _ in range(3)]
    for a in [*every, ost.Architecture.from_text(dead_cells)]:
        masks = tf.constant(small_space.masks([a, a]))
        usage = small_supernet.usage(masks)
        with tf.GradientTape(persistent=True) as tape:
            logits = small_supernet(images, masks, True)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            l2 = ost.masked_l2(kernels, usage)
        for target in (loss, l2):
            gradients = tape.gradient(target, [k.value for k in kernels])
            moved = np.array([np.abs(g).max() > 0 for g in gradients])
            np.testing.assert_array_equal(moved, usage[0].numpy() > 0, err_msg=str(a))


def test_a_kernel_is_in_use_exactly_where_it_has_a_gradient(small_space):
    """200 random rows on three cells, random betas, everything computed: no path is skipped.

    Norms of gradients, relative to the kernels': rounding leaves up to 1e-6 where there is none.
    Each layer has a positive beta: without one, a layer that reads a constant has only zeros.
    """
    net = ost.Supernet(small_space, ost.Stack(3, 4), num_classes=5, seed=1)
    randomize_betas(net)
    for beta in (v for v in net.trainable_variables if "beta" in v.path):
        beta.assign(np.concatenate([np.abs(beta[:1]), beta[1:]]))
    images, labels = random_images(8, size=12), np.arange(8) % 5
    kernels = [kernel.value for kernel in net.kernels]

    @tf.function
    def look(masks):
        with tf.GradientTape() as tape:
            logits = net(images, masks, training=True, skip=False)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        norms = [tf.norm(g) / tf.norm(k) for g, k in zip(tape.gradient(loss, kernels), kernels)]
        return tf.stack(norms), net.usage(masks)[0]

    rng = np.random.default_rng(0)
    kept = rng.choice([0.1, 0.2, 0.4, 0.7], size=(200, 1, 1))
    rows = (rng.random((200, 1, small_space.num_paths)) < kept).astype(np.float32)
    norms, used = (np.array(part) for part in zip(*map(look, rows)))
    assert 0.2 < used.mean() < 0.8
    assert norms[used == 1].min() > 1e-5
    assert norms[used == 0].max() < 3e-6


def test_masked_l2_with_all_paths_on_is_plain_l2(small_space, small_supernet):
    kernels = small_supernet.kernels
    usage = small_supernet.usage(np.ones((3, small_space.num_paths), np.float32))
    assert usage.shape == (3, len(kernels)) and usage.numpy().all()
    plain = sum(float(np.sum(np.square(k.numpy()))) for k in kernels) / 2
    assert float(ost.masked_l2(kernels, usage)) == pytest.approx(plain, rel=1e-5)
    assert float(ost.masked_l2(kernels)) == pytest.approx(plain, rel=1e-5)


def test_masked_l2_counts_a_weight_with_the_share_of_ghost_batches_that_use_it():
    kernels = [tf.constant([3.0, 4.0]), tf.constant([2.0])]  # halves of squares: 12.5 and 2
    usage = tf.constant([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert float(ost.masked_l2(kernels, usage)) == pytest.approx(12.5 * 0.5 + 2 * 0.25)


def test_a_weight_of_several_paths_is_used_where_any_is(small_space, small_supernet):
    """The join of prev1 in a reducing cell serves both blocks: in use where either reads it."""
    index = [k.path.endswith("cell1_prev1_join/kernel") for k in small_supernet.kernels].index(True)
    neither, first, second, both = (
        "prev2:identity | block0:identity",
        "prev1:identity | block0:identity",
        "prev2:identity | prev1:identity",
        "prev1:identity | prev1:identity",
    )
    masks = small_space.masks(map(ost.Architecture.from_text, (neither, first, second, both)))
    usage = small_supernet.usage(masks).numpy()[:, index]
    np.testing.assert_array_equal(usage, [0, 1, 1, 1])
