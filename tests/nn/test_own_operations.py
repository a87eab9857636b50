"""Operations that users make of Keras layers: equal to plain nets, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_weights, random_images, randomize_betas

import oneshot_tf as ost
from oneshot_tf.cost import counts
from oneshot_tf.timing.units import units_of

STACK = ost.Stack(1, 4)


def sep3(width, stride):
    return keras.Sequential(
        [
            ost.GhostBatchNorm(scale=False),
            keras.layers.ReLU(),
            keras.layers.SeparableConv2D(width, 3, stride, padding="same"),
        ]
    )


def conv5(width, stride):
    return keras.layers.Conv2D(width, 5, stride, padding="same", use_bias=False)


def space():
    menu = {"sep3": sep3, "conv5": conv5, "skip": None, "mb2k3": None}
    return ost.ChainSpace((ost.Layer(menu, 6, stride=2), ost.Layer(menu, 6, repeats=2)), filters=4)


SPACE = space()


@pytest.fixture(scope="module")
def supernet():
    net = ost.Supernet(SPACE, STACK, num_classes=5, seed=1)
    randomize_betas(net)
    return net


def members(count, seed=0):
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def test_a_one_shot_model_under_masks_is_the_net_of_the_users_layers(supernet):
    """Two ghost batches; the layers are called one after another, as the user would."""
    a = SPACE.parse("sep3 | conv5 | sep3")
    images = random_images(8)
    layers = [layer.operations[0 if name == "sep3" else 1].layer
              for layer, name in zip(supernet.body.chain, ("sep3", "conv5", "sep3"))]  # fmt: skip
    logits = []
    for half in (images[:4], images[4:]):
        x = supernet.body.norm(supernet.stem(half))
        x = layers[0](x)
        x = x + layers[1](x)
        x = x + layers[2](x)
        x = tf.reduce_mean(tf.nn.relu(supernet.last_norm(x)), axis=[1, 2])
        logits.append(supernet.classifier(x))
    expected = np.concatenate(logits)
    for skip in (False, True):
        found = supernet(images, SPACE.masks([a]), num_ghosts=2, skip=skip)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_is_the_standalone_net(supernet):
    images = random_images(16)
    for a in members(5, seed=1):
        net = ost.Standalone(SPACE, a, STACK, num_classes=5)
        copy_weights(supernet, net)
        np.testing.assert_allclose(
            supernet(images, SPACE.masks([a, a])),
            net(images, training=True, num_ghosts=2), atol=1e-5, err_msg=str(a),
        )  # fmt: skip


@pytest.mark.parametrize("graph", [False, True])
def test_skipped_paths_are_computed_and_zeroed_paths(supernet, graph):
    images, labels = random_images(8), tf.constant(np.arange(8) % 5)

    def run(masks, skip):
        with tf.GradientTape() as tape:
            logits = supernet(images, masks, True, num_ghosts=2, skip=skip)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = [v.value for v in supernet.trainable_variables]
        return logits, tape.gradient(loss, variables, unconnected_gradients="zero")

    run = tf.function(run) if graph else run
    for a in members(4, seed=2):
        masks = tf.constant(SPACE.masks([a]))
        (skipped, gradients), (dense, witness) = run(masks, True), run(masks, False)
        np.testing.assert_allclose(skipped, dense, atol=1e-5)
        for variable, g, w in zip(supernet.trainable_variables, gradients, witness):
            scale = max(np.abs(w).max(), 0.1)
            np.testing.assert_allclose(g / scale, w / scale, atol=1e-4, err_msg=variable.path)
        used = supernet.usage(masks)[0].numpy() > 0
        paths = [kernel.path for kernel in supernet.kernels]
        moved = {v.path for v, w in zip(supernet.trainable_variables, witness) if np.any(w)}
        assert {p for p, on in zip(paths, used) if on} == moved & set(paths)


def test_costs_are_counted(supernet):
    """A separable convolution and a 5x5 one, by hand, on 8x8 and 4x4 pixels."""
    (parameters,), (products,) = counts.costs(
        SPACE, [SPACE.parse("conv5 | sep3 | skip")], STACK, 5, 8
    )
    kernels = 27 * 4, 25 * 4 * 6, 9 * 6 + 6 * 6, 6 * 5
    norms, biases = 4 + 6 + 6, 6 + 5  # of the stem, of sep3, the last one
    assert parameters == sum(kernels) + norms + biases
    assert products == kernels[0] * 64 + kernels[1] * 16 + kernels[2] * 16 + kernels[3]
    for a in members(3, seed=3):
        net = ost.Standalone(SPACE, a, STACK, num_classes=5)
        built = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
        assert counts.parameters(SPACE, [a], STACK, 5)[0] == built
    whole = ost.Standalone(SPACE, SPACE.all_on(), STACK, num_classes=5)
    units = units_of(whole, image_size=8)
    assert {"sep3", "conv5", "mobile", "expansion"} <= {unit.name.split()[0] for unit in units}


def test_the_seed_gives_the_weights_and_names_whatever_was_built_before():
    one = ost.Supernet(SPACE, STACK, num_classes=5, seed=3)
    keras.layers.Conv2D(3, 1).build((None, 4, 4, 3))
    two, other = (ost.Supernet(SPACE, STACK, num_classes=5, seed=s) for s in (3, 4))
    assert [v.path for v in one.variables] == [v.path for v in two.variables]
    assert len({v.path for v in one.variables}) == len(one.variables)
    for a, b in zip(one.variables, two.variables):
        np.testing.assert_array_equal(a, b, err_msg=a.path)
    kernel = [v.path for v in one.variables].index(
        next(v.path for v in one.variables if "conv5" in v.path)
    )
    assert np.any(np.array(one.variables[kernel]) != np.array(other.variables[kernel]))


def test_training_moves_the_averages_of_a_standalone_net(digits):
    net = ost.Standalone(SPACE, SPACE.parse("sep3 | sep3 | skip"), STACK, num_classes=10)
    averages = [v for v in net.non_trainable_variables if "sequential" in v.path]
    assert len(averages) == 4
    before = [np.array(v) for v in averages]
    ost.fit_standalone(net, digits, 3, ost.TrainSettings(batch_size=32))
    assert all(np.any(np.array(v) != b) for v, b in zip(averages, before))
    images = random_images(4)
    np.testing.assert_allclose(net(images)[:1], net(images[:1]), atol=1e-5)


class Mixes(keras.layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


@pytest.mark.parametrize(
    "make, part",
    [
        (lambda w: keras.layers.Conv2D(w + 1, 3, padding="same"), r"to \[B, 8, 8, 4\]; got"),
        (lambda w: keras.layers.Conv2D(w, 3), r"got \['B', 6, 6, 4\]"),
        (lambda w: keras.layers.BatchNormalization(), "ost.GhostBatchNorm in place of"),
        (lambda w: keras.layers.Dropout(0.5), "must not be random"),
        (lambda w: Mixes(), "influence each other"),
        (lambda w: lambda x: x, "must be a Keras layer; got a function"),
        (lambda w: keras.layers.Conv1D(w, 3), "cannot be called"),
    ],
)
def test_what_cannot_be_a_path_is_refused_by_name(make, part):
    chain = ost.ChainSpace((ost.Layer({"mine": make, "skip": None}, 4),), filters=4)
    with pytest.raises(ost.InputError, match=f"operation 'mine'.*{part}"):
        ost.Supernet(chain, STACK, num_classes=5)


def test_bad_menus_are_refused():
    for menu, part in (
        ({"Mine": conv5}, "lower-case"),
        ({"mb3k3": conv5}, "not taken"),
        ({"mine": 3}, "must have a function"),
        ({"mine": None}, "or have functions of their own"),
    ):
        with pytest.raises(ost.InputError, match=part):
            ost.Layer(menu, 4)
    with pytest.raises(ost.InputError, match=r"make\(width, stride\)"):
        wide = {"mine": lambda width: conv5(width, 1)}
        chain = ost.ChainSpace((ost.Layer(wide, 4, stride=2),), filters=4)
        ost.Supernet(chain, STACK, num_classes=5)
    with pytest.raises(ost.InputError, match="of its own.*sep3"):
        ost.ChainSpace.from_dict(SPACE.to_dict())


def swish(width):
    return keras.Sequential(
        [keras.layers.Activation("swish"), keras.layers.Conv2D(width, 3, padding="same")]
    )


def test_choice_blocks_of_cells_take_the_users_layers_too():
    """Masks equal stand-alone nets, skipped or not; costs are counted; the cell's text names it."""
    cells = ost.CellSpace(2, {"identity": None, "swish": swish, "sep3x3": None})
    stack, rng = ost.Stack(2, 4), np.random.default_rng(0)
    net = ost.Supernet(cells, stack, num_classes=5, seed=1)
    randomize_betas(net)
    images = random_images(8)
    for a in [cells.parse("prev1:swish | block0+prev2:identity+swish"), cells.sample(rng)]:
        alone = ost.Standalone(cells, a, stack, num_classes=5)
        copy_weights(net, alone)
        expected = alone(images, training=True, num_ghosts=2)
        for skip in (False, True):
            found = net(images, cells.masks([a]), num_ghosts=2, skip=skip)
            np.testing.assert_allclose(found, expected, atol=1e-5)
        built = sum(int(np.prod(v.shape)) for v in alone.trainable_variables)
        assert counts.parameters(cells, [a], stack, 5)[0] == built
    kernels = [k.path for k in net.kernels if "swish" in k.path]
    assert len(kernels) == 4 and not any(net.usage(np.zeros([1, cells.num_paths]))[0][1:-1])
    assert len(units_of(ost.Standalone(cells, cells.all_on(), stack, 5), image_size=8)) > 8
    for make, part in ((lambda w: keras.layers.Conv2D(w, 2), r"got \['B', 7, 7, 4\]"), (3, "make")):
        with pytest.raises(ost.InputError, match=part):
            ost.Supernet(ost.CellSpace(1, {"mine": make}, 1), ost.Stack(1, 4))
    with pytest.raises(ost.InputError, match="of its own.*swish"):
        ost.CellSpace.from_dict(cells.to_dict())


def test_spaces_of_the_same_functions_are_equal():
    assert space() == SPACE and hash(space()) == hash(SPACE)
    assert SPACE.parse("sep3 | skip | mb2k3") in SPACE.architectures(
        SPACE.masks([SPACE.parse("sep3 | skip | mb2k3")])
    )
