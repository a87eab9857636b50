"""One-shot and stand-alone nets: operations, masks, gradients, messages."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_weights, random_images, randomize_betas
from reference import Reference

import oneshot_tf as ost
from oneshot_tf.nn.convolutions import depthwise_convolve

ROOT = pathlib.Path(__file__).parents[2]
DEAD_CELLS = "prev2:sep3x3+max3x3 | prev2+block0:avg3x3"  # nothing reads the cell before the last


def architectures(space, count, seed):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)] + [ost.Architecture.from_text(DEAD_CELLS)]


def test_supernet_under_masks_is_the_plainly_written_net(small_space, small_supernet):
    """Concatenation, 1x1, operations, sums, joins, BN-ReLU-Conv, against `reference.py`."""
    every = architectures(small_space, 8, seed=0) + [small_space.all_on()]
    for i, a in enumerate(every):
        images = random_images(12, seed=i)
        logits = small_supernet(images, small_space.masks([a]))
        expected = Reference(small_supernet, a, num_cells=3)(images)
        np.testing.assert_allclose(logits, expected, atol=1e-5, err_msg=str(a))


def test_six_cells_of_the_papers_space_are_the_plainly_written_net(space):
    supernet = ost.Supernet(space, ost.Stack(6, 2), num_classes=5, seed=4)
    randomize_betas(supernet)
    a = space.sample(np.random.default_rng(2))
    images = random_images(8, size=16)
    logits = supernet(images, space.masks([a]), True)
    np.testing.assert_allclose(logits, Reference(supernet, a, 6)(images), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_supernet_under_masks_is_the_standalone_net(small_space, small_supernet, training):
    """Nothing is retrained: the shared weights are copied. Two ghost batches."""
    images = random_images(16)
    for a in architectures(small_space, 5, seed=1):
        net = ost.Standalone(small_space, a, ost.Stack(3, 4), num_classes=5)
        copy_weights(small_supernet, net)
        masks = small_space.masks([a, a])
        np.testing.assert_allclose(
            small_supernet(images, masks, training),
            net(images, training=True, num_ghosts=2),
            atol=1e-5,
            err_msg=str(a),
        )


def test_many_architectures_at_once_are_each_alone(small_space, small_supernet):
    every = architectures(small_space, 7, seed=2)
    images = random_images(4 * len(every))
    for training in (False, True):
        together = small_supernet(images, small_space.masks(every), training).numpy()
        for i, a in enumerate(every):
            alone = small_supernet(images[4 * i : 4 * i + 4], small_space.masks([a]), training)
            np.testing.assert_allclose(together[4 * i : 4 * i + 4], alone, atol=1e-5)


@pytest.mark.parametrize("graph", [False, True])
def test_skipped_paths_are_computed_and_zeroed_paths(small_space, small_supernet, graph):
    """Outputs within 1e-5, each variable's gradient within 1e-4 of its largest entry.

    Masks of all kinds: random, mixtures, all on, none on, an architecture.
    """
    rng = np.random.default_rng(3)
    images, labels = random_images(16), tf.constant(np.arange(16) % 5)

    def run(masks, skip):
        with tf.GradientTape() as tape:
            logits = small_supernet(images, masks, True, num_ghosts=2, skip=skip)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = [v.value for v in small_supernet.trainable_variables]
        return logits, tape.gradient(loss, variables, unconnected_gradients="zero")

    run = tf.function(run) if graph else run
    some = (
        rng.random((5, 1, small_space.num_paths)) < [[[0.8]], [[0.5]], [[0.3]], [[1]], [[0]]]
    ) * 1
    mixture = rng.random((1, small_space.num_paths)) * some[1]
    every = [*some, mixture, small_space.masks(architectures(small_space, 1, seed=8)[:1])]
    for masks in every:
        masks = tf.constant(masks, tf.float32)
        (skipped, gradients), (dense, witness) = run(masks, True), run(masks, False)
        np.testing.assert_allclose(skipped, dense, atol=1e-5)
        for variable, g, w in zip(small_supernet.trainable_variables, gradients, witness):
            scale = max(np.abs(w).max(), 1e-3)
            np.testing.assert_allclose(g / scale, w / scale, atol=1e-4, err_msg=variable.path)


def test_masks_get_the_same_gradient_where_they_are_not_zero(small_space, small_supernet):
    masks = tf.constant(small_space.masks(architectures(small_space, 1, seed=9)[:1])) * 0.7
    images, gradients = random_images(8), []
    for skip in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(masks)
            loss = tf.reduce_sum(small_supernet(images, masks, True, skip=skip)[:, 0])
        gradients.append(tape.gradient(loss, masks) * tf.cast(masks > 0, tf.float32))
    assert np.abs(gradients[1]).max() > 0
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size, width", [(16, 5), (8, 7), (9, 7), (4, 7), (8, 3)])
def test_the_depthwise_gradient_by_columns_is_tensorflows(size, width):
    rng = np.random.default_rng(width)
    x = tf.constant(rng.standard_normal((3, size, size + 1, 4)), tf.float32)
    kernel = tf.constant(rng.standard_normal((width, width, 4, 1)), tf.float32)
    weights = rng.standard_normal(x.shape).astype(np.float32)
    gradients = []
    for function in (
        depthwise_convolve,
        lambda x, k: tf.nn.depthwise_conv2d(x, k, [1] * 4, "SAME"),
    ):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(function(x, kernel) * weights)
        gradients.append([loss, *tape.gradient(loss, [x, kernel])])
    for ours, theirs in zip(*gradients):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


CONVOLUTIONS = """if True:
    import numpy as np, tensorflow as tf
    from oneshot_tf.nn.convolutions import convolve
    rng = np.random.default_rng(0)
    for n in (8, 32, 64):
        for size, stride in ((8, 2), (9, 2), (8, 4), (7, 4), (8, 1)):
            x, k = rng.normal(size=(n, size, size, 4)), rng.normal(size=(1, 1, 4, 8))
            kept = x[:, ::stride, ::stride]
            weights = rng.normal(size=(*kept.shape[:3], 8))
            with tf.GradientTape() as tape:
                images, kernel = tf.constant(x, tf.float32), tf.constant(k, tf.float32)
                tape.watch([images, kernel])
                y = convolve(images, kernel, stride)
                loss = tf.reduce_sum(y * tf.cast(weights, tf.float32))
            dx, dk = tape.gradient(loss, [images, kernel])
            expected = np.zeros_like(x)
            expected[:, ::stride, ::stride] = weights @ k[0, 0].T
            np.testing.assert_allclose(y, kept @ k[0, 0], atol=1e-4)
            np.testing.assert_allclose(dx, expected, atol=1e-4)
            by_hand = np.einsum("nhwc,nhwd->cd", kept, weights)
            np.testing.assert_allclose(dk[0, 0], by_hand, atol=1e-3)
"""


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_strided_1x1_convolutions_and_their_gradients_equal_numpy(kernels):
    """Without and with oneDNN's kernels, whose own gradient here is wrong on some CPUs."""
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": kernels, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", CONVOLUTIONS], env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_dense_step_compiles_with_xla(small_space, small_supernet):
    """Static shapes and no conditionals: what accelerators with XLA need. Same numbers."""
    images = random_images(8)
    masks = tf.constant(small_space.masks(architectures(small_space, 2, seed=4)[:2]))

    def forward(images, masks):
        return small_supernet(images, masks, True, skip=False)

    compiled = tf.function(forward, jit_compile=True)(images, masks)
    np.testing.assert_allclose(compiled, forward(images, masks), atol=1e-4)


def test_what_skips_needs_one_row(small_space, small_supernet):
    masks = small_space.masks(architectures(small_space, 2, seed=4)[:2])
    with pytest.raises(ost.InputError, match="2 rows"):
        small_supernet(random_images(8), masks, skip=True)


def test_mixture_weights_weight_the_sum(small_space, small_supernet):
    """Masks of 0.5 on the two operations of a block give the mean of their outputs' sum."""
    images = random_images(4)
    a = ost.Architecture.from_text("prev1:identity | prev1:identity")
    masks = small_space.masks([a])
    twice = masks.copy()
    twice[:, small_space.input_paths(0)[1]] = 0.5
    twice[:, small_space.operation_paths(0)[0]] = 2.0
    np.testing.assert_allclose(
        small_supernet(images, masks), small_supernet(images, twice), atol=1e-5
    )


def test_a_dropped_path_is_truly_gone(small_space, small_supernet):
    """Whatever the weights of what is not used: same logits, to the bit."""
    a = small_space.sample(np.random.default_rng(5))
    masks, images = small_space.masks([a]), random_images(8)
    usage = small_supernet.usage(masks).numpy()[0]
    before = [small_supernet(images, masks, training).numpy() for training in (False, True)]
    unused = [k for k, used in zip(small_supernet.kernels, usage) if not used]
    assert len(unused) > 20
    saved = [k.numpy() for k in unused]
    try:
        for kernel in unused:
            kernel.assign(100 * tf.random.stateless_normal(kernel.shape, [1, 2]))
        after = [small_supernet(images, masks, training).numpy() for training in (False, True)]
    finally:
        for kernel, value in zip(unused, saved):
            kernel.assign(value)
    np.testing.assert_array_equal(before, after)


def test_every_variable_gets_a_gradient_when_all_paths_are_on(small_space, small_supernet):
    images, labels = random_images(16), np.arange(16) % 5
    with tf.GradientTape() as tape:
        logits = small_supernet(images, np.ones((2, small_space.num_paths), np.float32), True)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    variables = small_supernet.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables])):
        assert np.abs(gradient).max() > 0, variable.path


def test_all_paths_dropped_still_gives_finite_logits(small_space, small_supernet):
    masks = np.zeros((1, small_space.num_paths), np.float32)
    for training in (False, True):
        assert np.isfinite(small_supernet(random_images(4), masks, training)).all()


def test_batch_statistics_are_those_of_the_ghost_batch(small_space, small_supernet):
    """Also in evaluation: images of another ghost batch change nothing, of the same one do."""
    a = small_space.sample(np.random.default_rng(7))
    images = random_images(8)
    other = images.copy()
    other[4:] += 3.0 * random_images(4, seed=9)
    two, one = small_space.masks([a, a]), small_space.masks([a])
    kept = small_supernet(images, two)[:4] - small_supernet(other, two)[:4]
    mixed = small_supernet(images, one)[:4] - small_supernet(other, one)[:4]
    assert np.abs(kept).max() == 0
    assert np.abs(mixed).max() > 1e-3


def test_a_standalone_net_classifies_one_image_as_in_a_batch(small_space):
    a = small_space.sample(np.random.default_rng(8))
    net = ost.Standalone(small_space, a, ost.Stack(3, 4), num_classes=5)
    randomize_betas(net)
    images = random_images(8)
    for _ in range(10):
        net(images, True, num_ghosts=2)
    batch = net(images).numpy()
    single = np.concatenate([net(image[None]) for image in images])
    np.testing.assert_allclose(batch, single, atol=1e-5)


def test_same_seed_same_weights(small_space):
    nets = [ost.Supernet(small_space, ost.Stack(2, 4), 5, seed=seed) for seed in (0, 0, 1)]
    first, second, other = ([v.numpy() for v in net.trainable_variables] for net in nets)
    assert all((a == b).all() for a, b in zip(first, second))
    assert any((a != b).any() for a, b in zip(first, other))


def test_names_of_variables_are_distinct(small_supernet):
    paths = [v.path for v in small_supernet.variables]
    assert len(set(paths)) == len(paths)


def test_mixed_precision_is_close_to_float32(small_space):
    a = small_space.sample(np.random.default_rng(9))
    masks, images = small_space.masks([a]), random_images(32)
    exact = ost.Supernet(small_space, ost.Stack(2, 8), 5)(images, masks)
    mixed = ost.Supernet(small_space, ost.Stack(2, 8), 5, dtype="mixed_bfloat16")(images, masks)
    assert mixed.dtype == tf.float32
    error = np.abs(exact - mixed)
    assert 0 < error.max() < 0.15 * np.abs(exact).max()


@pytest.mark.parametrize(
    "images, masks, part",
    [(8, (3, 19), "multiple"), (8, (2, 18), "19"), (8, (0, 19), "multiple")],
)
def test_bad_masks(small_supernet, images, masks, part):
    with pytest.raises(ost.InputError, match=part):
        small_supernet(random_images(images), np.ones(masks, np.float32))


@pytest.mark.parametrize("setting", ["num_cells", "filters", "num_classes"])
def test_bad_sizes(small_space, setting):
    sizes = {"num_cells": 1, "filters": 2, "num_classes": 3, setting: 0}
    with pytest.raises(ost.InputError, match=setting):
        ost.Supernet(small_space, num_classes=sizes.pop("num_classes"), stack=ost.Stack(**sizes))
