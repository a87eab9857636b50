"""Candidate scores against a loop written out plainly."""

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost


@pytest.fixture(scope="module")
def supernet(small_space):
    return ost.Supernet(small_space, num_cells=2, filters=4, num_classes=10, seed=3)


@pytest.mark.parametrize("count, size", [(100, 32), (64, 32), (20, 32), (300, 16)])
def test_every_image_is_counted_once_in_ghost_batches(supernet, small_space, digits, count, size):
    """The last ghost batch is filled up from the beginning; what fills it isn't counted."""
    split = digits.train.take(slice(0, count))
    for seed in range(2):
        a = small_space.sample(np.random.default_rng(seed))
        hits, losses = [], []
        for start in range(0, count, size):
            rows = np.arange(start, start + size) % count
            logits = supernet(digits.normalize(split.images[rows]), small_space.masks([a]), True)
            real = min(size, count - start)
            labels = split.labels[rows]
            hits += list(np.argmax(logits, axis=1)[:real] == labels[:real])
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            losses += list(entropy.numpy()[:real])
        score = ost.CandidateEvaluator(supernet, split, digits.normalize, size)(a)
        assert score.num_images == count == len(hits)
        assert score.accuracy == pytest.approx(np.mean(hits), abs=1e-9)
        assert score.cross_entropy == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_score_does_not_depend_on_what_else_is_evaluated(supernet, small_space, digits):
    rng = np.random.default_rng(5)
    every = [small_space.sample(rng) for _ in range(4)]
    together = ost.evaluate(supernet, every, digits)
    assert together[2:] == ost.evaluate(supernet, every[2:], digits)


def test_a_standalone_net_is_scored_image_by_image(small_space, digits):
    a = small_space.sample(np.random.default_rng(6))
    net = ost.Standalone(small_space, a, num_cells=2, filters=4, num_classes=10)
    split = digits.train.take(slice(0, 300))
    score = ost.evaluate_standalone(net, split, digits.normalize)
    logits = np.concatenate([net(digits.normalize(i[None])) for i in split.images[:20]])
    few = ost.evaluate_standalone(net, split.take(slice(0, 20)), digits.normalize)
    assert score.num_images == 300
    assert few.accuracy == np.mean(np.argmax(logits, axis=1) == split.labels[:20])


def test_no_images(supernet, digits):
    with pytest.raises(ost.InputError, match="0 images"):
        ost.CandidateEvaluator(supernet, digits.train.take([]), digits.normalize)
