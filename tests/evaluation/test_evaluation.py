"""Candidate scores against a loop written out plainly."""

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.cost.counts import activation_bytes
from oneshot_tf.evaluation.shared_weights import plan_chunks, score_and_answers


@pytest.fixture(scope="module")
def supernet(small_space):
    return ost.Supernet(small_space, ost.Stack(2, 4), num_classes=10, seed=3)


@pytest.mark.parametrize("count, size", [(100, 32), (64, 32), (20, 32), (300, 16)])
def test_every_image_is_counted_once_in_ghost_batches(supernet, small_space, digits, count, size):
    """The last ghost batch is filled up from the beginning; what fills it is not counted."""
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
        score = ost.CandidateEvaluator(supernet, split, digits.normalize, size)([a])[0]
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
    net = ost.Standalone(small_space, a, ost.Stack(2, 4), num_classes=10)
    split = digits.train.take(slice(0, 300))
    score = ost.evaluate_standalone(net, split, digits.normalize)
    logits = np.concatenate([net(digits.normalize(i[None])) for i in split.images[:20]])
    few = ost.evaluate_standalone(net, split.take(slice(0, 20)), digits.normalize)
    assert score.num_images == 300
    assert few.accuracy == np.mean(np.argmax(logits, axis=1) == split.labels[:20])


def test_answers_are_those_that_the_score_counts(digits):
    cell = ost.Architecture.from_text("prev1:max3x3")
    net = ost.Standalone(ost.bender2018(num_blocks=1), cell, ost.Stack(1, 4), num_classes=10)
    split = digits.train.take(slice(0, 300))
    score, answers = score_and_answers(net, split, digits.normalize)
    chances = tf.nn.softmax(net(digits.normalize(split.images))).numpy()
    np.testing.assert_array_equal(answers.labels, split.labels)
    np.testing.assert_array_equal(answers.predicted, chances.argmax(axis=1))
    np.testing.assert_allclose(answers.probability, chances.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(answers.of_label, chances[np.arange(300), split.labels], atol=1e-5)
    assert score.accuracy == np.mean(answers.predicted == split.labels)


def test_no_images(supernet, digits):
    with pytest.raises(ost.InputError, match="at least 1 image"):
        ost.CandidateEvaluator(supernet, digits.train.take([]), digits.normalize)


def test_memory_bounds_the_parts_and_what_is_in_flight(small_space, digits):
    """More memory, larger calls; never above it; too little is said before anything is tried."""
    net = ost.Supernet(small_space, ost.Stack(3, 16), num_classes=10)
    ghost = 32 * activation_bytes(small_space, net.stack, 8)
    plans = [plan_chunks(net, digits.train, 32, ghosts * ghost / 1e9) for ghosts in (1, 2, 5, 1000)]
    assert plans[0] == (1, 1)
    for (ghosts, in_flight), fitting in zip(plans, (1, 2, 5, 1000)):
        assert 1 <= ghosts * in_flight <= fitting
    assert plans[3][0] > 1
    with pytest.raises(ost.InputError, match="max_memory_gb=1e-06"):
        plan_chunks(net, digits.train, 32, 1e-6)


def test_scores_do_not_depend_on_the_memory(supernet, small_space, digits):
    every = [small_space.sample(np.random.default_rng(s)) for s in range(3)]
    ghost = 32 * activation_bytes(small_space, ost.Stack(2, 4), 8) / 1e9
    small = ost.evaluate(supernet, every, digits, max_memory_gb=1.01 * ghost)
    for a, b in zip(small, ost.evaluate(supernet, every, digits)):
        assert a.accuracy == b.accuracy
        assert a.cross_entropy == pytest.approx(b.cross_entropy, rel=1e-5)


def test_outcomes_of_chunks_are_those_of_all_images(supernet, small_space, digits):
    evaluator = ost.CandidateEvaluator(
        supernet, digits.train.take(slice(0, 300)), digits.normalize, 32, largest_chunk=64
    )
    assert evaluator.chunk_size == 64 and evaluator.num_chunks == 5
    every = [small_space.sample(np.random.default_rng(s)) for s in range(3)]
    hits, losses = evaluator.outcomes(every)
    assert hits.shape == losses.shape == (3, 300)
    some = evaluator.outcomes(every[1:], chunks=range(1, 3))
    np.testing.assert_array_equal(some[0], hits[1:, 64:192])
    np.testing.assert_allclose(some[1], losses[1:, 64:192], rtol=1e-5)


def test_divergence_is_the_symmetrised_kl_divergence(supernet, small_space, digits):
    """Against sums written out; zero for the reference itself."""
    images = digits.train.images[:64]
    reference, a = small_space.all_on(), small_space.sample(np.random.default_rng(1))
    evaluator = ost.DivergenceEvaluator(
        supernet, images, digits.normalize, small_space.masks([reference]), 32
    )
    same, value = evaluator([reference, a])
    p, q = (
        tf.nn.softmax(
            supernet(digits.normalize(images), small_space.masks([b]), num_ghosts=2)
        ).numpy()
        for b in (reference, a)
    )
    expected = np.sum(p * np.log(p / q) + q * np.log(q / p), axis=1).mean()
    assert same == pytest.approx(0.0, abs=1e-9)
    assert value == pytest.approx(expected, rel=1e-4) and value > 1e-3
    with pytest.raises(ost.InputError, match="multiple"):
        ost.DivergenceEvaluator(
            supernet, images, digits.normalize, small_space.masks([reference]), 48
        )


def poisoned(net, name, value):
    """The net, one of whose kernels has this value everywhere."""
    kernel = next(v for v in net.trainable_variables if name in v.path)
    kernel.assign(np.full(kernel.shape, value))
    return net


def test_outcomes_that_are_not_finite_name_the_architecture(small_space, digits):
    """NaN would be class 0 for argmax, and so an accuracy of a tenth."""
    net = ost.Supernet(small_space, ost.Stack(1, 4), num_classes=10)
    split = digits.train.take(slice(0, 64))
    prev1 = ost.Architecture.from_text("prev1:sep3x3 | block0:sep3x3")
    prev2 = ost.Architecture.from_text("prev2:sep3x3 | block0:sep3x3")
    evaluator = ost.CandidateEvaluator(net, split, digits.normalize)
    divergence = ost.DivergenceEvaluator(
        net, split.images, digits.normalize, small_space.masks([prev2]), 32
    )
    poisoned(net, "cell0_block0_prev1", np.nan)
    assert np.isfinite([evaluator([prev2])[0].cross_entropy, divergence([prev2])[0]]).all()
    words = r"1 of 2 .*for example prev1:sep3x3 \| block0:sep3x3\. .*lower --learning_rate"
    for each in (evaluator, divergence):
        with pytest.raises(ost.InputError, match=words):
            each([prev2, prev1])
    poisoned(net, "stem", np.inf)
    with pytest.raises(ost.InputError, match="nearly all paths on"):
        divergence.recompute()
    alone = poisoned(ost.Standalone(small_space, prev1, ost.Stack(1, 4), 10), "stem", np.nan)
    with pytest.raises(ost.InputError, match="model prev1:sep3x3 .*cross-entropy of nan"):
        ost.evaluate_standalone(alone, split, digits.normalize)


def test_a_standalone_net_is_scored_in_float32(small_space, digits):
    """As the served model computes, whatever the net was trained in."""
    a = small_space.sample(np.random.default_rng(6))
    split = digits.train.take(slice(0, 100))
    nets = [ost.Standalone(small_space, a, ost.Stack(2, 4), 10, 3, dtype=dtype)
            for dtype in ("mixed_bfloat16", "float32")]  # fmt: skip
    mixed, plain = (ost.evaluate_standalone(net, split, digits.normalize) for net in nets)
    assert mixed == plain
    logits = nets[0](digits.normalize(split.images)).numpy()
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(split.labels, logits).numpy().mean()
    assert abs(entropy - plain.cross_entropy) > 1e-5  # the other precision would show
