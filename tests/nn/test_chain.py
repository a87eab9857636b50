"""Models of chains: what holds for cells holds for them."""

import numpy as np
import pytest
import tensorflow as tf
from chains import MIXED, plain_logits
from conftest import copy_weights, random_images, randomize_betas

import oneshot_tf as ost
from oneshot_tf.cost import counts
from oneshot_tf.nn.operations import run_stages
from oneshot_tf.timing.units import units_of

STACK = ost.Stack(1, 4, 0, 1)


@pytest.fixture(scope="module")
def supernet():
    net = ost.Supernet(MIXED, STACK, num_classes=5, seed=1)
    randomize_betas(net)
    for beta in (v for v in net.trainable_variables if "beta" in v.path):
        beta.assign(np.concatenate([np.abs(beta[:1]), beta[1:]]))
    return net


def members(count, seed=0):
    rng = np.random.default_rng(seed)
    return [MIXED.sample(rng) for _ in range(count)]


def test_the_model_under_masks_is_the_plainly_written_net(supernet):
    for i, a in enumerate([*members(6), MIXED.all_on()]):
        images = random_images(12, seed=i)
        logits = supernet(images, MIXED.masks([a]))
        expected = plain_logits(supernet, a, images)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4, err_msg=str(a))


@pytest.mark.parametrize("training", [False, True])
def test_the_model_under_masks_is_the_standalone_net(supernet, training):
    images = random_images(16)
    for a in members(5, seed=1):
        net = ost.Standalone(MIXED, a, STACK, num_classes=5)
        copy_weights(supernet, net)
        np.testing.assert_allclose(
            supernet(images, MIXED.masks([a, a]), training),
            net(images, training=True, num_ghosts=2),
            atol=1e-5,
            err_msg=str(a),
        )


@pytest.mark.parametrize("graph", [False, True])
def test_skipped_paths_are_computed_and_zeroed_paths(supernet, graph):
    rng = np.random.default_rng(3)
    images, labels = random_images(16), tf.constant(np.arange(16) % 5)

    def run(masks, skip):
        with tf.GradientTape() as tape:
            logits = supernet(images, masks, True, num_ghosts=2, skip=skip)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = [v.value for v in supernet.trainable_variables]
        return logits, tape.gradient(loss, variables, unconnected_gradients="zero")

    run = tf.function(run) if graph else run
    some = (rng.random((4, 1, MIXED.num_paths)) < [[[0.7]], [[0.4]], [[1]], [[0]]]) * 1.0
    for masks in [*some, rng.random((1, MIXED.num_paths)) * some[0], MIXED.masks(members(1))]:
        masks = tf.constant(masks, tf.float32)
        (skipped, gradients), (dense, witness) = run(masks, True), run(masks, False)
        np.testing.assert_allclose(skipped, dense, atol=1e-5)
        for variable, g, w in zip(supernet.trainable_variables, gradients, witness):
            scale = max(np.abs(w).max(), 0.1)
            np.testing.assert_allclose(g / scale, w / scale, atol=1e-4, err_msg=variable.path)


def test_a_kernel_is_in_use_exactly_where_it_has_a_gradient(supernet):
    images, labels = random_images(8, size=12), np.arange(8) % 5
    kernels = [kernel.value for kernel in supernet.kernels]

    @tf.function
    def look(masks):
        with tf.GradientTape() as tape:
            logits = supernet(images, masks, training=True, skip=False)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        norms = [tf.norm(g) / tf.norm(k) for g, k in zip(tape.gradient(loss, kernels), kernels)]
        return tf.stack(norms), supernet.usage(masks)[0]

    rng = np.random.default_rng(0)
    kept = rng.choice([0.2, 0.5, 0.9], size=(200, 1, 1))
    rows = (rng.random((200, 1, MIXED.num_paths)) < kept).astype(np.float32)
    norms, used = (np.array(part) for part in zip(*map(look, rows)))
    assert 0.2 < used.mean() < 0.8
    assert norms[used == 1].min() > 1e-5
    # Batch norms of constants leave rounding errors: sums of many gradients that add up to 0.
    assert norms[used == 0].max() < 2e-3 and np.quantile(norms[used == 0], 0.99) < 3e-6


@pytest.mark.parametrize("filters, stride", [(4, 1), (6, 2)])
def test_counted_costs_are_those_of_built_models(filters, stride):
    """Multiply-adds: each kernel's size, times the pixels of the output that it makes."""
    stack = ost.Stack(1, filters, 0, stride)
    for a in [*members(6), MIXED.all_on()]:
        net = ost.Standalone(MIXED, a, stack, num_classes=5)
        parameters, multiply_adds = counts.costs(MIXED, [a], stack, 5, 9)
        assert parameters[0] == sum(int(np.prod(v.shape)) for v in net.trainable_variables)
        side = -(-9 // stride)
        products = int(np.prod(net.stem.conv.kernel.shape)) * side**2
        for layer in net.body.chain:
            after = -(-side // layer.plan.stride)
            for operation in filter(None, layer.operations):
                for conv in operation.convs:
                    pixels = side if conv is operation.expand else after
                    products += int(np.prod(conv.kernel.shape)) * pixels**2
            side = after
        products += int(np.prod(net.body.head.kernel.shape)) * side**2
        products += int(np.prod(net.classifier.kernel.shape))
        assert multiply_adds[0] == products, str(a)


def test_units_together_are_the_model():
    """Units of different names; the stages of an operation are its expansion and the rest."""
    net = ost.Standalone(MIXED, MIXED.all_on(), STACK, num_classes=5)
    units = units_of(net, image_size=8)
    assert len({unit.name for unit in units}) == len(units)
    for unit in units:
        assert unit.function(tf.ones([2, *unit.shape])).shape[0] == 2
    operation = net.body.chain[1].operations[0]
    by_name = {unit.name: unit for unit in units}
    x = tf.constant(np.random.default_rng(0).normal(size=[2, 8, 8, 4]), tf.float32)
    inner = by_name["expansion 8x8x4 to 8"].function(x)
    y = by_name["mobile 3x3 8x8x8 to 6 by 2"].function(inner)
    np.testing.assert_array_equal(y, run_stages(operation.stages(), x))


def test_saved_and_loaded(supernet, tmp_path):
    import keras

    images = random_images(4)
    net = ost.Standalone(MIXED, members(1)[0], STACK, num_classes=5)
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(net(images), again(images))
    copy = ost.Supernet.from_config(supernet.get_config())
    assert copy.space == MIXED and copy.count_params() == supernet.count_params()


def test_only_operations_of_residual_layers_can_be_dropped():
    net = ost.Standalone(MIXED, MIXED.all_on(), STACK, num_classes=5)
    layers = [layer for layer, _ in net.droppable]
    assert layers == [0, 2, 2, 3, 3] and net.path_depths == [0.25, 0.75, 0.75, 1.0, 1.0]
    images = random_images(4)
    nothing = net(images, path_factors=tf.zeros([4, 5]))
    ones = net(images, path_factors=tf.ones([4, 5]))
    np.testing.assert_allclose(ones, net(images), atol=1e-6)
    assert np.abs(nothing - ones).max() > 1e-3
