"""Controllers: gradients against enumeration, baselines, PPO at ratio 1, what ENAS learns."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.space.decisions import subsets
from oneshot_tf.strategies import PROPOSERS, Enas, EnasSettings, Outcome
from oneshot_tf.strategies.controller import Controller, clipped, reinforce
from oneshot_tf.strategies.draws import uniform

SPACE = ost.bender2018(num_blocks=1)
NINE = (subsets("first", (0, 1)), subsets("second", (2, 3)))  # 3 x 3 options
ALL = tf.constant(list(itertools.product(range(3), range(3))), tf.int32)


@pytest.fixture(scope="module")
def controller():
    return Controller(NINE, units=5, layers=2, scale=2.0)


@pytest.fixture(scope="module")
def weights(controller):
    return [tf.constant(w) for w in controller.initial(1)]


def gradient_of(loss, weights):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        value = loss()
    found = tape.gradient(value, weights, unconnected_gradients="zero")
    return np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in found])


def test_probabilities_add_up_and_draws_have_them(controller, weights):
    logs, entropies = controller.score(weights, ALL)
    p = np.exp(logs.numpy())
    assert p.sum() == pytest.approx(1.0, abs=1e-5) and np.ptp(p) > 0.02
    genes = controller.draw(weights, uniform([40_000, 2], 0, 0, 0)).numpy()
    shares = np.bincount(genes @ [3, 1], minlength=9) / 40_000
    np.testing.assert_allclose(shares, p, atol=4 * 0.5 / 40_000**0.5)
    # The mean of the entropies on the way is the entropy of the architectures.
    assert float(p @ entropies.numpy()) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-4)
    first = np.exp(logs.numpy()).reshape(3, 3)
    best = controller.best(weights).numpy()[0]
    assert best[0] == first.sum(axis=1).argmax() and best[1] == first[best[0]].argmax()


def test_reinforce_is_unbiased_and_a_baseline_lowers_the_variance(controller, weights):
    """The mean of 10,000 estimates against the exact gradient, within 4 standard errors."""
    rewards = tf.constant(np.random.default_rng(2).random(9) + 3.0, tf.float32)

    def mean_reward():
        return -tf.reduce_sum(tf.exp(controller.score(weights, ALL)[0]) * rewards)

    exact = gradient_of(mean_reward, weights)
    # The gradient of log p of each of the nine, from which every estimate is made.
    each = np.stack([
        gradient_of(lambda i=i: controller.score(weights, ALL[i : i + 1])[0][0], weights)
        for i in range(9)
    ])  # fmt: skip
    p = np.exp(controller.score(weights, ALL)[0].numpy())
    drawn = np.random.default_rng(3).choice(9, 10_000, p=p / p.sum())
    variances = []
    for baseline in (0.0, float(p @ rewards.numpy())):
        estimates = -each[drawn] * (rewards.numpy()[drawn] - baseline)[:, None]
        errors = estimates.std(axis=0) / 100
        assert (np.abs(estimates.mean(axis=0) - exact) <= 4 * errors + 1e-5).all()
        variances.append(estimates.var(axis=0).sum())
        # `reinforce` is the mean of these estimates.
        found = gradient_of(
            lambda b=baseline, few=drawn[:50]: reinforce(
                controller.score(weights, tf.gather(ALL, few))[0], tf.gather(rewards, few), b
            ),
            weights,
        )  # fmt: skip
        np.testing.assert_allclose(found, estimates[:50].mean(axis=0), rtol=1e-3, atol=1e-4)
    assert variances[1] < 0.1 * variances[0]


def test_ppo_is_reinforce_at_ratio_1_and_clipped_samples_give_nothing(controller, weights):
    advantages = tf.constant(np.random.default_rng(4).normal(size=9), tf.float32)
    before = controller.score(weights, ALL)[0]

    def ppo(shift):
        return lambda: clipped(controller.score(weights, ALL)[0], before - shift, advantages, 0.2)

    plain = gradient_of(lambda: reinforce(controller.score(weights, ALL)[0], advantages, 0.0),
                        weights)  # fmt: skip
    np.testing.assert_allclose(gradient_of(ppo(0.0), weights), plain, rtol=1e-3, atol=1e-6)
    # A ratio above 1.2 gives a gradient only where the advantage is negative.
    worse = tf.where(advantages < 0, advantages, 0.0)
    kept = gradient_of(
        lambda: reinforce(controller.score(weights, ALL)[0], worse * tf.exp(0.3), 0.0), weights
    )
    np.testing.assert_allclose(gradient_of(ppo(0.3), weights), kept, rtol=1e-3, atol=1e-6)
    # One below 0.8 gives a gradient only where the advantage is positive.
    better = tf.where(advantages > 0, advantages, 0.0)
    kept = gradient_of(
        lambda: reinforce(controller.score(weights, ALL)[0], better * tf.exp(-0.3), 0.0), weights
    )
    np.testing.assert_allclose(gradient_of(ppo(-0.3), weights), kept, rtol=1e-3, atol=1e-6)


def test_logits_stay_within_the_tanh_constant():
    controller = Controller(NINE, units=5, scale=100.0, tanh_constant=0.5)
    weights = [tf.constant(w) for w in controller.initial(0)]
    p = np.exp(controller.score(weights, ALL)[0].numpy()).reshape(3, 3).sum(axis=1)
    assert p.max() / p.min() <= np.exp(1.0) + 1e-3


# ---------------------------------------------------------------------------- proposers


def search(name, score, batches, space=SPACE, seed=0, **values):
    """What a proposer draws, batch by batch."""
    entry = PROPOSERS[name]
    proposer, drawn = entry.make(space, entry.settings(**values), seed), []
    for _ in range(batches):
        proposed = proposer.propose(64)
        proposer.observe(proposed, [score(a) for a in proposed])
        drawn.append(proposed)
    return proposer, drawn


def planted(architecture):
    (block,) = architecture.blocks
    return 0.2 + 0.3 * ("prev1" in block.inputs) + 0.4 * ("sep5x5" in block.operations)


@pytest.mark.parametrize("name, batches", [("nas_rl", 120), ("ppo", 40)])
def test_a_search_learns_what_is_planted(name, batches):
    proposer, drawn = search(name, planted, batches, controller_learning_rate=0.02)
    means = [np.mean([planted(a) for a in batch]) for batch in drawn]
    assert np.mean(means[-5:]) > means[0] + 0.15
    (remark,) = proposer.remarks()
    assert f"{batches} updates" in remark


@pytest.mark.parametrize("name", ["nas_rl", "ppo"])
def test_the_same_rewards_change_nothing_but_the_entropy(name):
    proposer, _ = search(name, lambda a: 0.5, 3, entropy_weight=0.0)
    for weight, before in zip(proposer.weights, proposer.controller.initial(0)):
        np.testing.assert_allclose(weight, before, atol=1e-6)


def test_adam_is_that_of_keras():
    proposer, _ = search("ppo", planted, 0, controller_learning_rate=0.01)
    variables = [tf.Variable(w) for w in proposer.weights]
    optimizer = keras.optimizers.Adam(0.01, epsilon=1e-8)
    rng = np.random.default_rng(5)
    for _ in range(3):
        # Not near 0, where the place of epsilon matters.
        gradients = [
            (rng.choice([-1, 1], w.shape) * rng.uniform(0.5, 2, w.shape)).astype(np.float32)
            for w in proposer.weights
        ]
        proposer._adam(gradients)
        optimizer.apply_gradients(zip(gradients, variables))
    for weight, variable in zip(proposer.weights, variables):
        np.testing.assert_allclose(weight, variable.numpy(), atol=1e-6)


def test_the_baseline_of_a_batch_is_of_earlier_batches(monkeypatch):
    proposer, _ = search("nas_rl", planted, 0, batch=1, baseline_decay=0.5)
    used, original = [], proposer._gradients

    def gradients(weights, genes, before, rewards, baseline):
        used.append((float(rewards[0]), float(baseline)))
        return original(weights, genes, before, rewards, baseline)

    proposer._gradients = gradients
    for _ in range(3):
        proposed = proposer.propose(1)
        proposer.observe(proposed, [planted(a) for a in proposed])
    (r0, b0), (r1, b1), (_, b2) = used
    assert b0 == pytest.approx(r0) and b1 == pytest.approx(r0)
    assert b2 == pytest.approx((r0 + r1) / 2)


def test_part_of_a_batch_at_a_time_is_the_same_search():
    _, whole = search("ppo", planted, 3, controller_learning_rate=0.05)
    entry = PROPOSERS["ppo"]
    proposer = entry.make(SPACE, entry.settings(controller_learning_rate=0.05), 0)
    drawn = []
    while len(drawn) < 60:
        proposed = proposer.propose(7)
        proposer.observe(proposed, [planted(a) for a in proposed])
        drawn += proposed
    assert drawn == [a for batch in whole for a in batch]


# ---------------------------------------------------------------------------- ENAS


def learn(enas, reward, updates, ghosts=16):
    """Updates with the accuracies that `reward(masks)` gives each ghost batch."""

    @tf.function
    def step(update):
        masks = enas.trial(ghosts, update, 0)
        return enas.learn(Outcome(None, tf.zeros([ghosts]), reward(masks)), update, 0)

    return [step(tf.constant(u)) for u in range(updates)]


def test_a_constant_reward_changes_nothing():
    enas = Enas(SPACE, EnasSettings(entropy_weight=0.0), 10)
    before = [w.numpy() for w in enas.weights]
    learn(enas, lambda masks: tf.fill([16], 0.3), 5)
    for weight, value in zip(enas.weights, before):
        np.testing.assert_allclose(weight.numpy(), value, atol=1e-6)


def test_a_planted_option_is_learnt():
    enas = Enas(SPACE, EnasSettings(controller_learning_rate=0.02, tanh_constant=3.0), 10)
    planted = [1, 4]  # prev1 and sep5x5
    log = learn(enas, lambda masks: tf.reduce_mean(tf.gather(masks, planted, axis=1), axis=1), 300)
    mode = enas.mode().blocks[0]
    assert "prev1" in mode.inputs and SPACE.operations[2] in mode.operations
    assert float(log[-1]["reward"]) > float(log[0]["reward"]) + 0.2
    assert float(log[-1]["controller_entropy"]) < float(log[0]["controller_entropy"])


def test_reward_and_baseline_by_hand():
    chosen = EnasSettings(entropy_weight=0.5, baseline_decay=0.9, architectures=8)
    enas = Enas(SPACE, chosen, 10)
    found = learn(enas, lambda masks: tf.reduce_mean(masks, axis=1), 3)
    rewards = [float(f["reward"]) for f in found]
    baselines = [float(f["baseline"]) for f in found]
    assert baselines[0] == pytest.approx(rewards[0])
    for i in (1, 2):
        moved = baselines[i - 1] + 0.1 * (rewards[i] - baselines[i - 1])
        assert baselines[i] == pytest.approx(moved, rel=1e-5)
    entropy = float(found[0]["controller_entropy"])
    accuracy = np.mean(Enas(SPACE, chosen, 10).trial(16, tf.constant(0), 0))
    assert rewards[0] == pytest.approx(accuracy + 0.5 * entropy, rel=1e-3)


def test_the_baseline_of_an_update_is_of_earlier_updates(monkeypatch):
    used = []

    def noted(logs, rewards, baseline):
        used.append((float(tf.reduce_mean(rewards)), float(baseline)))
        return reinforce(logs, rewards, baseline)

    monkeypatch.setattr("oneshot_tf.strategies.enas.reinforce", noted)
    enas = Enas(SPACE, EnasSettings(architectures=1, baseline_decay=0.5), 10)
    for update in range(3):
        accuracies = tf.fill([4], 0.2 + 0.1 * update)
        enas.learn(Outcome(None, tf.zeros([4]), accuracies), tf.constant(update), 0)
    (r0, b0), (r1, b1), (_, b2) = used
    assert b0 == pytest.approx(r0) and b1 == pytest.approx(r0) and r1 > r0
    assert b2 == pytest.approx((r0 + r1) / 2)


def test_the_seed_of_the_training_makes_the_controller():
    nets = [Enas(SPACE, EnasSettings(), 10) for _ in range(3)]
    for enas, seed in zip(nets, (1, 1, 2)):
        enas.begin(seed)
    first, same, other = (enas.weights[0].numpy() for enas in nets)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_phases_follow_from_the_step():
    enas = Enas(SPACE, EnasSettings(phase_steps=3, phase_updates=5), 10)
    assert [enas.updates_before(step) for step in range(8)] == [0, 0, 0, 5, 5, 5, 10, 10]
    assert Enas(SPACE, EnasSettings(), 1_500).phase_steps == 10


@pytest.mark.parametrize("ghosts, counts", [(12, [3, 2, 3, 2, 2]), (5, [1] * 5), (3, [1] * 3)])
def test_an_architecture_has_its_ghost_batches(ghosts, counts):
    enas = Enas(SPACE, EnasSettings(architectures=5), 10)
    rows = enas._rows(ghosts)
    assert sorted(np.bincount(rows)) == sorted(counts)
    masks = enas.trial(ghosts, tf.constant(0), 0).numpy()
    for row in range(len(counts)):
        assert (masks[rows == row] == masks[rows == row][0]).all()
    # Each reward is the mean over the ghost batches of its architecture.
    accuracies = np.random.default_rng(0).random(ghosts).astype(np.float32)
    found = enas.learn(Outcome(None, tf.zeros([ghosts]), accuracies), tf.constant(0), 0)
    means = [accuracies[rows == row].mean() for row in range(len(counts))]
    assert float(found["reward"]) == pytest.approx(np.mean(means), abs=2e-3)
