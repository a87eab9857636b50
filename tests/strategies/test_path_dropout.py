"""Path dropout: rates, the chance that all paths vanish, schedules, independence."""

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost


def draw(sampler, ghosts, step=0, seed=0):
    return sampler.sample(ghosts, step, seed).numpy()


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.05, 0.1, 0.3, 1.0])
def test_all_paths_into_a_node_vanish_with_chance_r_for_every_k(space, rate):
    sampler = ost.PathDropout(space, rate, "constant")
    rates = sampler.rates(0).numpy()
    for node in (list(d.paths) for d in space.decisions):
        assert np.prod(rates[node].astype(np.float64)) == pytest.approx(rate, rel=1e-5)


def test_the_papers_examples(space):
    """Section 3.2: r = 0.05 drops at 0.22 for k = 2 and 0.65 for k = 7."""
    rates = ost.PathDropout(space, 0.05, "constant").rates(0).numpy()
    assert rates[0] == pytest.approx(0.22, abs=0.005)
    assert rates[2] == pytest.approx(0.65, abs=0.005)


def test_sampled_frequencies(space):
    ghosts, rate = 40_000, 0.1
    masks = draw(ost.PathDropout(space, rate, "constant"), ghosts)
    assert set(np.unique(masks)) == {0.0, 1.0}
    for node in (list(d.paths) for d in space.decisions):
        expected = rate ** (1 / len(node))
        error = np.sqrt(expected * (1 - expected) / ghosts)
        np.testing.assert_allclose(1 - masks[:, node].mean(axis=0), expected, atol=4.5 * error)
        none = (masks[:, node].sum(axis=1) == 0).mean()
        assert none == pytest.approx(rate, abs=4.5 * np.sqrt(rate * (1 - rate) / ghosts))


def test_paths_are_independent_of_each_other_and_between_ghost_batches(space):
    masks = draw(ost.PathDropout(space, 0.1, "constant"), 40_000)
    limit = 4.8 / np.sqrt(40_000)
    correlation = np.corrcoef(masks.T) - np.eye(42)
    assert np.abs(correlation).max() < limit
    between = [np.corrcoef(masks[:-1, p], masks[1:, p])[0, 1] for p in range(42)]
    assert np.abs(between).max() < limit


def test_the_linear_schedule_rises_from_nothing_to_the_final_rate(space):
    sampler = ost.PathDropout(space, 0.1, "linear", num_steps=1000)
    final = ost.PathDropout(space, 0.1, "constant").rates(0).numpy()
    assert draw(sampler, 64, step=0).all()
    for step, share in ((0, 0), (250, 0.25), (500, 0.5), (1000, 1), (2000, 1)):
        np.testing.assert_allclose(sampler.rates(step), final * share, rtol=1e-5)
    middle = draw(sampler, 40_000, step=500).mean(axis=0)
    np.testing.assert_allclose(1 - middle, final / 2, atol=0.012)


def test_the_constant_schedule_is_constant(space):
    sampler = ost.PathDropout(space, 0.3, "constant")
    np.testing.assert_array_equal(sampler.rates(0), sampler.rates(10_000))


def test_a_pure_function_of_seed_and_step(space):
    sampler = ost.PathDropout(space, 0.1, "constant")
    np.testing.assert_array_equal(draw(sampler, 8, 3, 1), draw(sampler, 8, 3, 1))
    assert (draw(sampler, 8, 3, 1) != draw(sampler, 8, 4, 1)).any()
    assert (draw(sampler, 8, 3, 1) != draw(sampler, 8, 3, 2)).any()


def test_same_draws_when_compiled_by_xla(space):
    sampler = ost.PathDropout(space, 0.1, "linear", num_steps=10)
    compiled = tf.function(lambda step: sampler.sample(64, step, 7), jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(6)), draw(sampler, 64, 6, 7))


@pytest.mark.parametrize(
    "arguments", [(-0.1, "linear", 5), (1.5, "linear", 5), (float("nan"), "constant"),
                  (0.1, "cosine", 5), (0.1, "linear", 0), (0.1, "linear")]
)  # fmt: skip
def test_bad_arguments(space, arguments):
    with pytest.raises(ost.InputError):
        ost.PathDropout(space, *arguments)
