"""Baselines: counted exactly, sized as asked, ordinary Keras models, trained by the same loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import random_images

import oneshot_tf as ost
from oneshot_tf.cost.baselines import BASELINES, Baseline, of_size, of_text
from oneshot_tf.nn.baselines import BaselineModel
from oneshot_tf.settings import FinalSettings

CASES = [(kind, *sizes) for kind in BASELINES for sizes in [(3, 0, 1), (4, 2, 1), (2, 3, 4)]]


@pytest.mark.parametrize("kind, width, reductions, stem", CASES)
def test_counts_are_those_of_a_built_model(kind, width, reductions, stem):
    """Parameters from the variables; multiply-adds from the convolutions of a traced call."""
    net = BaselineModel(kind, width, reductions, stem, num_classes=5)
    baseline, stack = Baseline(kind, width), net.stack
    trained = sum(np.prod(v.shape) for v in net.trainable_variables)
    assert baseline.parameters(stack, 5) == trained
    size = 20
    graph = tf.function(lambda x: net(x)).get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    found = 0
    for operation in graph.graph.get_operations():
        kernel = [t.shape for t in operation.inputs][-1:]
        pixels = operation.outputs[0].shape if operation.outputs else None
        if operation.type == "Conv2D" or operation.type == "DepthwiseConv2dNative":
            found += int(np.prod(kernel[0])) * pixels[1] * pixels[2]
        elif operation.type == "MatMul":
            found += int(np.prod(kernel[0])) * pixels[0]
    assert baseline.multiply_adds(stack, 5, size) == found
    assert len(net.kernels) == sum("kernel" in v.path for v in net.variables)


def test_a_plain_cnn_by_hand():
    """W = 2, one reduction: 3-2, 2-2, 2-2, 2-4, 4-4 channels; 7 classes; 8x8 pixels."""
    baseline, stack = Baseline("plain_cnn", 2), ost.Stack(2, 9, num_reductions=1)
    weights = [9 * 3 * 2, 9 * 2 * 2, 9 * 2 * 2, 9 * 2 * 4, 9 * 4 * 4]
    assert baseline.parameters(stack, 7) == sum(weights) + 2 * (2 + 2 + 2 + 4 + 4) + 4 * 7 + 7
    assert (
        baseline.multiply_adds(stack, 7, 8) == 64 * sum(weights[:3]) + 16 * sum(weights[3:]) + 4 * 7
    )


@pytest.mark.parametrize("kind", BASELINES)
def test_the_width_is_the_nearest_of_all(kind):
    stack = ost.Stack(6, 16)
    sizes = [Baseline(kind, w).parameters(stack, 10) for w in range(1, 80)]
    assert sizes == sorted(sizes)
    for target in (1, 5_000, 100_000, 300_000, sizes[40]):
        best = int(np.argmin(np.abs(np.array(sizes) - target))) + 1
        assert of_size(kind, target, stack, 10) == Baseline(kind, best)
    found = of_size(kind, 300_000, stack, 10).parameters(stack, 10)
    assert abs(found / 300_000 - 1) < 0.05


def test_texts():
    assert of_text("plain_cnn:24") == Baseline("plain_cnn", 24)
    for text in ("plain_cnn", "plain_cnn:0", "plain_cnn:9999", "vgg:3", "prev1:sep3x3", "x:y:1"):
        assert of_text(text) is None


@pytest.mark.parametrize("kind", BASELINES)
def test_it_is_an_ordinary_keras_model(kind, tmp_path):
    """Saved, loaded and made again from its settings; one image alone and in a batch."""
    net = BaselineModel(kind, 4, num_classes=5, seed=3)
    images = random_images(6)
    for _ in range(3):
        net(images, training=True, num_ghosts=2)
    logits = net(images).numpy()
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded(images), logits)
    np.testing.assert_allclose(net(images[:1]), logits[:1], atol=1e-5)
    twin = BaselineModel.from_config(net.get_config())
    for one, other in zip(twin.trainable_variables, net.trainable_variables):
        np.testing.assert_array_equal(one, other)
    other_seed = BaselineModel(kind, 4, num_classes=5, seed=4)
    assert np.abs(other_seed.kernels[0].numpy() - net.kernels[0].numpy()).max() > 1e-3


def test_residual_blocks_can_be_dropped():
    """Image by image. The second block of each resolution adds to its input; no other does."""
    net, images = BaselineModel("mobile_net", 4, num_classes=5), random_images(4)
    assert [block.residual for block in net.blocks] == [0, 1, 1, 0, 1, 0, 1, 0]
    assert net.path_depths == [n / 8 for n in (2, 3, 5, 7)]
    assert BaselineModel("plain_cnn", 4).path_depths == []
    factors, plain = np.ones([4, 4], np.float32), net(images).numpy()
    np.testing.assert_array_equal(net(images, path_factors=factors), plain)
    factors[1, 3] = 0.0
    some = net(images, path_factors=factors).numpy()
    np.testing.assert_array_equal(some[[0, 2, 3]], plain[[0, 2, 3]])
    assert np.abs(some[1] - plain[1]).max() > 1e-4


def trained(kind, data, num_steps, device_batch_size=64):
    final = FinalSettings(weight_average=0.9, drop_path_keep=0.9, class_weights="balanced")
    net = BaselineModel(kind, 8, num_reductions=1)
    settings = ost.TrainSettings(
        batch_size=64, augmentation="none", device_batch_size=device_batch_size
    )
    ost.fit_standalone(net, data, num_steps, settings, 1, final=final)
    return net


@pytest.mark.parametrize("kind", BASELINES)
def test_the_same_loop_trains_it_and_it_learns(digits, kind):
    net = trained(kind, digits, 100)
    score = ost.evaluate_standalone(net, digits.validation, digits.normalize)
    assert score.accuracy > 0.7


@pytest.mark.parametrize("kind", BASELINES)
def test_it_trains_the_same_in_turns(digits, kind):
    whole, turns = (trained(kind, digits, 4, size).variables for size in (64, 32))
    for one, other in zip(whole, turns):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_mixed_precision_is_scored_in_float32(digits):
    nets = [BaselineModel("mobile_net", 4, seed=3, dtype=d) for d in ("mixed_bfloat16", "float32")]
    scores = [ost.evaluate_standalone(n, digits.validation, digits.normalize) for n in nets]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    "arguments, part",
    [
        (("vgg", 4), "`kind` must be one of plain_cnn, mobile_net; got 'vgg'"),
        (("plain_cnn", 0), "`width` must be a whole number from 1 to 4,096; got 0"),
        (("plain_cnn", 4, 2, 3), "`stem_stride`"),
        (("plain_cnn", 4, 2, 1, 1), "`num_classes` must be"),
    ],
)
def test_what_cannot_be_built(arguments, part):
    with pytest.raises(ost.InputError, match=part):
        BaselineModel(*arguments)


def test_images_of_another_shape():
    with pytest.raises(ost.InputError, match=r"must have the shape \[B, H, W, 3\]"):
        BaselineModel("plain_cnn", 2)(tf.zeros([1, 8, 8, 1]))
