"""A stand-alone model with the shared weights is the candidate; its averages are NumPy's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import random_images, randomize_betas

import oneshot_tf as ost
from oneshot_tf.data.in_memory import Split
from oneshot_tf.evaluation.inherited import recalibrate, with_shared_weights
from oneshot_tf.evaluation.shared_weights import evaluate_standalone
from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm

CELL = "prev1+prev2:sep3x3+max3x3 | prev1+block0:conv1x7_7x1+identity"


def as_they_are(images):
    return tf.cast(images, tf.float32)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_on_the_batch_of_its_statistics_it_is_the_supernet(small_space, dtype):
    supernet = ost.Supernet(small_space, ost.Stack(3, 4), 5, seed=1, dtype=dtype)
    randomize_betas(supernet)
    architecture = ost.Architecture.from_text(CELL)
    net = with_shared_weights(supernet, architecture)
    twin = ost.Supernet(small_space, ost.Stack(3, 4), 5)  # in float32, as what is served
    for ours, theirs in zip(twin.variables, supernet.variables):
        ours.assign(theirs.value)
    images = random_images(24)
    split = Split(images, np.zeros(24, np.int32))
    assert recalibrate(net, split, as_they_are, 24, 24) == 24
    right = twin(images, small_space.masks([architecture]), skip=False)
    np.testing.assert_allclose(net(images, training=False), right, atol=1e-4)
    assert np.abs(right).max() > 0.1 and net.compute_dtype == "float32"
    for norm in net._flatten_layers():
        assert not isinstance(norm, GhostBatchNorm) or norm.momentum == 0.95


def test_averages_are_those_of_numpy_over_ghost_batches(small_space, small_supernet):
    """Of the first batch norm, which sees the stem; 100 images are three ghost batches of 32."""
    net = with_shared_weights(small_supernet, ost.Architecture.from_text(CELL))
    images = random_images(100)
    split = Split(images, np.zeros(100, np.int32))
    for _ in range(2):  # earlier averages leave no trace
        assert recalibrate(net, split, as_they_are, 2_000, 32) == 96
        order = np.random.default_rng(0).permutation(100)[:96]
        seen = net.stem(images[order]).numpy().reshape(3, -1, 4)
        norm = next(each for each in net.cells[0].norms if each is not None)
        np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=1).mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, seen.var(axis=1).mean(axis=0), rtol=1e-4)
        for average in (v for v in net.variables if "moving" in v.path):
            average.assign(keras.ops.ones_like(average) * 7)


def test_ghost_batches_mix_the_classes(small_space, small_supernet):
    """The images of a folder are sorted by class. Their averages are those of shuffled images."""
    net = with_shared_weights(small_supernet, ost.Architecture.from_text(CELL))
    images = np.concatenate([np.full((64, 8, 8, 3), v, np.float32) for v in (-3, 3)])
    recalibrate(net, Split(images, np.zeros(128, np.int32)), as_they_are, 128, 32)
    norm = next(each for each in net.cells[0].norms if each is not None)
    every = net.stem(images).numpy().reshape(-1, 4).var(axis=0)
    np.testing.assert_allclose(norm.moving_variance, every, rtol=0.15)


def test_numbers_that_cannot_be(small_space, small_supernet):
    net = with_shared_weights(small_supernet, ost.Architecture.from_text(CELL))
    split = Split(random_images(5), np.zeros(5, np.int32))
    assert recalibrate(net, split, as_they_are) == 5  # fewer than a ghost batch
    for wrong in ((split.take(slice(0, 0)), 9, 9), (split, 0, 9), (split, 9, 0)):
        with pytest.raises(ost.InputError, match="must be at least 1"):
            recalibrate(net, wrong[0], as_they_are, *wrong[1:])


@pytest.mark.slow
def test_what_is_served_is_nearly_as_accurate_as_the_candidate(digits, tmp_path):
    space = ost.bender2018(num_blocks=1)
    supernet = ost.Supernet(space, ost.Stack(1, 6), num_classes=10)
    train = ost.TrainSettings(batch_size=64, augmentation="none")
    sampler = ost.PathDropout(space, 0.1, num_steps=300)
    ost.fit_supernet(supernet, digits, sampler, 300, train)
    architecture = ost.Architecture.from_text("prev1+prev2:sep3x3+max3x3")
    (candidate,) = ost.evaluate(supernet, [architecture], digits)
    net = with_shared_weights(supernet, architecture)
    before = evaluate_standalone(net, digits.validation, digits.normalize).accuracy
    recalibrate(net, digits.train, digits.normalize)
    folder = ost.write_saved_model(net, digits, tmp_path / "e")
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    answer = serve(images=tf.constant(digits.validation.images))
    served = np.mean(answer["class_index"].numpy() == digits.validation.labels)
    assert candidate.accuracy > 0.4 and abs(served - candidate.accuracy) < 0.08
    assert before < served - 0.1  # without averages the weights are of little use
