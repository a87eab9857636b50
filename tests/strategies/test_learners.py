"""Learners: relaxations by hand, draws by their frequencies, planted options, what is proposed."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import oneshot_tf as ost
from oneshot_tf.data import augmentation
from oneshot_tf.space.limited import LimitedSpace
from oneshot_tf.strategies import (
    LEARNERS,
    Darts,
    DartsSettings,
    Gumbel,
    GumbelSettings,
    Learnt,
    Outcome,
)
from oneshot_tf.strategies.draws import gumbel, uniform
from oneshot_tf.strategies.protocols import normalised_entropy
from oneshot_tf.strategies.relaxation import PathRelaxation, Relaxation

SPACE = ost.bender2018(num_blocks=1)  # decisions of 3 and 28 options on 2 and 7 paths


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def logits_of(learner, seed=0):
    values = np.random.default_rng(seed).normal(size=learner.logits.shape).astype(np.float32)
    learner.logits.assign(values)
    return values


def test_a_mixture_has_the_total_weight_of_the_options_with_a_path():
    relaxation = Relaxation(SPACE)
    logits = np.random.default_rng(0).normal(size=relaxation.size).astype(np.float32)
    masks = relaxation.masks(relaxation.softmax(logits)).numpy()
    parts = [softmax(part) for part in np.split(logits, [3])]
    expected = np.concatenate([p @ d.options for p, d in zip(parts, SPACE.decisions)])
    np.testing.assert_allclose(masks, expected, rtol=1e-5)
    one_hot = relaxation.masks(relaxation.one_hot(logits)).numpy()
    genes = tuple(int(part.argmax()) for part in parts)
    np.testing.assert_array_equal(one_hot, SPACE.masks([SPACE.architecture(genes)])[0])


def test_the_gradient_of_logits_is_that_of_differences():
    """d (masks . v) / d logits against central differences in float64."""
    relaxation, rng = Relaxation(SPACE), np.random.default_rng(1)
    logits, v = rng.normal(size=relaxation.size), rng.normal(size=SPACE.num_paths)
    variable = tf.Variable(logits, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(relaxation.masks(relaxation.softmax(variable)) * v.astype(np.float32))
    gradient = tape.gradient(value, variable).numpy()

    def exact(x):
        parts = [softmax(part) for part in np.split(x, [3])]
        return np.concatenate([p @ d.options for p, d in zip(parts, SPACE.decisions)]) @ v

    eye = np.eye(len(logits)) * 1e-6
    differences = [(exact(logits + e) - exact(logits - e)) / 2e-6 for e in eye]
    np.testing.assert_allclose(gradient, differences, atol=1e-5)


def test_a_softmax_over_paths_keeps_the_two_strongest():
    learner = Darts(SPACE, DartsSettings(relaxation="paths"))
    learner.logits.assign([3.0, 2.0, 0, 5, 0, 0, 4, 0, 1])
    masks = learner.sample(2, 0, 0).numpy()
    np.testing.assert_allclose(masks[0, :2], softmax([3.0, 2.0]), rtol=1e-5)
    np.testing.assert_allclose(masks[1, 2:], softmax([0, 5.0, 0, 0, 4, 0, 1]), rtol=1e-5)
    names = SPACE.operations
    assert str(learner.mode()) == f"prev1+prev2:{'+'.join(sorted((names[1], names[4])))}"
    chosen = [
        d.options[p > 0].sum(axis=1) for d, p in zip(SPACE.decisions, learner.probabilities())
    ]
    assert all((sizes == 2).all() for sizes in chosen)


def test_the_entropy_of_paths_is_1_for_equal_paths_and_0_for_two_of_them():
    learner = Darts(ost.bender2018(num_blocks=2), DartsSettings(relaxation="paths"))
    assert learner.entropy() == pytest.approx(1.0)
    decided = np.concatenate([
        np.where(np.arange(len(d.paths)) < 2, 20.0, 0.0) for d in learner.space.decisions
    ])  # fmt: skip
    learner.logits.assign(decided)
    assert learner.entropy() == pytest.approx(0.0, abs=1e-3)
    assert min(p.max() for p in learner.probabilities()) > 0.99
    assert learner.draw(50, np.random.default_rng(0)) == [learner.mode()] * 50


@pytest.mark.parametrize("make", [Relaxation, PathRelaxation])
def test_probabilities_of_options_add_up_to_one(make):
    relaxation = make(ost.bender2018(num_blocks=2))
    weights = relaxation.softmax(np.zeros(relaxation.size, np.float32)).numpy()
    for decision, found in zip(relaxation.decisions, relaxation.probabilities(weights)):
        assert found.shape == (decision.num_options,) and found.sum() == pytest.approx(1.0)


def test_entropy_by_hand():
    even, sure = np.full(4, 0.25), np.array([0.0, 1.0])
    assert normalised_entropy([even]) == pytest.approx(1.0)
    assert normalised_entropy([even, sure, np.ones(1)]) == pytest.approx(1 / 3)
    p = np.array([0.9, 0.1])
    assert normalised_entropy([p]) == pytest.approx(-(p * np.log2(p)).sum())


# ---------------------------------------------------------------------------- Gumbel


def test_draws_are_finite_and_have_the_gumbel_distribution():
    draws = gumbel([200_000], 0, 1, 2).numpy()
    assert np.isfinite(draws).all()
    assert stats.kstest(draws, stats.gumbel_r.cdf).pvalue > 0.01
    np.testing.assert_array_equal(draws, gumbel([200_000], 0, 1, tf.constant(2)))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert (gumbel([9], *other).numpy() != draws[:9]).any()


@pytest.mark.parametrize("end", [0, (1 << 23) - 1])
@pytest.mark.parametrize("masks", ["hard", "soft"])
def test_the_ends_of_the_draws_are_finite_at_the_lowest_temperature(monkeypatch, end, masks):
    ends = lambda shape, **_: tf.fill(shape, end)  # noqa: E731
    monkeypatch.setattr(tf.random, "stateless_uniform", ends)
    assert np.isfinite(gumbel([3], 0, 0, 0)).all()
    lowest = GumbelSettings(masks=masks, temperature=1e-6, final_temperature=1e-6)
    learner = Gumbel(SPACE, lowest, 10)
    logits_of(learner)
    learn(learner, np.random.default_rng(3).normal(size=SPACE.num_paths), 1)
    assert np.isfinite(learner.logits.numpy()).all()
    assert np.isfinite(learner.sample(2, 0, 0)).all()


@pytest.mark.parametrize("stream", range(3))
def test_draws_say_nothing_of_the_augmentation(stream, monkeypatch):
    """Both come from the seed and the step of the training. In one stream they would be equal."""

    def correlation():
        augmented = augmentation._draws(500, 3, 1 << 23, 3, 7).numpy()
        return np.corrcoef(augmented.ravel(), uniform([500, 3], 3, stream, 7).numpy().ravel())[0, 1]

    assert abs(correlation()) < 4 / 1_500**0.5
    monkeypatch.setattr(augmentation, "_AUGMENTATION_STREAM", 16 + stream)
    assert correlation() == pytest.approx(1.0)


def test_hard_masks_are_architectures_with_the_probabilities_of_the_logits():
    learner = Gumbel(SPACE, GumbelSettings(), 100)
    logits = logits_of(learner)
    masks = learner.sample(20_000, 50, 0).numpy()
    assert set(np.unique(masks)) == {0.0, 1.0}
    genes = np.array([SPACE.genes(a) for a in SPACE.architectures(masks)])
    for column, part in zip(genes.T, np.split(logits, [3])):
        counts = np.bincount(column, minlength=len(part))
        assert stats.chisquare(counts, 20_000 * softmax(part.astype(np.float64))).pvalue > 0.001
    expected = Relaxation(SPACE).masks(Relaxation(SPACE).softmax(logits)).numpy()
    np.testing.assert_allclose(masks.mean(axis=0), expected, atol=4 * 0.5 / 20_000**0.5)


def test_soft_masks_become_hard_as_the_temperature_falls():
    def of(masks, temperature):
        values = dict(masks=masks, temperature=temperature, final_temperature=temperature)
        learner = Gumbel(SPACE, GumbelSettings(**values), 10)
        logits_of(learner)
        return learner.sample(50, 3, 0).numpy()

    np.testing.assert_allclose(of("soft", 1e-4), of("hard", 5.0), atol=1e-4)
    assert np.ptp(of("soft", 1e4)[:, 0]) < 1e-3  # nearly even


def test_the_temperature_falls_linearly():
    learner = Gumbel(SPACE, GumbelSettings(temperature=10.0, final_temperature=1.0), 10)
    found = [float(learner.temperature(step)) for step in (0, 3, 9, 20)]
    assert found == pytest.approx([10.0, 7.0, 1.0, 1.0])
    assert learner.metrics(3)["temperature"] == pytest.approx(7.0)


def test_the_gradient_goes_straight_through_by_hand():
    """For 3 options: y = softmax((log p + g) / t), d masks / d logits as if the masks were y."""
    settings = GumbelSettings(temperature=2.0, final_temperature=2.0)
    hard, soft = Gumbel(SPACE, settings, 10), Gumbel(SPACE, GumbelSettings(
        masks="soft", temperature=2.0, final_temperature=2.0), 10)  # fmt: skip
    logits = logits_of(hard)
    soft.logits.assign(logits)
    v = np.random.default_rng(2).normal(size=[4, SPACE.num_paths]).astype(np.float32)
    found = []
    for learner in (hard, soft):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(learner.trial(4, tf.constant(6), 0) * v)
        found.append(tape.gradient(value, learner.logits.value).numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
    g = gumbel([4, 31], 0, 1, 6).numpy()[:, :3]  # of updates
    p, gradient = softmax(logits[:3]), np.zeros(3)
    for row in range(4):
        y = softmax((np.log(p) + g[row]) / 2)
        by_option = SPACE.decisions[0].options @ v[row, :2]
        inner = (np.diag(y) - np.outer(y, y)) / 2 @ by_option  # d / d log p
        gradient += (np.eye(3) - p[:, None]) @ inner  # log p_j = a_j - log sum exp a
    np.testing.assert_allclose(found[0][:3], gradient, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------------------- learning


GRADIENT = ["darts", "gumbel"]


def learn(learner, costs, updates, seed=0):
    """Gives a learner the gradient of a loss that is linear in the masks."""
    gradient = tf.constant(np.repeat(costs[None], 4, axis=0), tf.float32) / 4
    step = tf.function(lambda u: learner.learn(Outcome(gradient, None, None), u, seed))
    for update in range(updates):
        step(tf.constant(update))


@pytest.mark.parametrize("name", GRADIENT)
def test_a_planted_option_is_learnt(name):
    learner = make(name, architecture_learning_rate=0.05)
    costs = np.ones(SPACE.num_paths)
    costs[[1, 4]] = 0.2, 0.1  # prev1 and sep5x5 are cheap, and fewer paths cost less
    assert normalised_entropy(learner.probabilities()) == pytest.approx(1.0)
    learn(learner, costs, 150)
    assert str(learner.mode()) == f"prev1:{SPACE.operations[2]}"
    assert normalised_entropy(learner.probabilities()) < 0.9


def test_an_update_is_one_of_adam_with_l2_in_the_gradient():
    learner = Darts(SPACE, DartsSettings(architecture_weight_decay=0.1))
    logits = logits_of(learner)
    costs = np.random.default_rng(3).normal(size=SPACE.num_paths)
    learn(learner, costs, 1)
    parts = zip(np.split(logits, [3]), SPACE.decisions, np.split(costs, [2]))
    gradient = np.concatenate([
        (np.diag(softmax(a)) - np.outer(softmax(a), softmax(a))) @ (d.options @ c)
        for a, d, c in parts
    ])  # fmt: skip
    gradient += 0.1 * logits
    # After one step, Adam moves by the rate times the sign: m / (1 - 0.5) = g, v likewise.
    expected = logits - 3e-4 * gradient / (np.abs(gradient) + 1e-7)
    np.testing.assert_allclose(learner.logits.numpy(), expected, atol=1e-6)


def test_an_update_takes_both_gradients_of_the_second_order():
    """The gradient through the masks of the next training step counts like that by the trial."""
    costs = np.random.default_rng(3).normal(size=(4, SPACE.num_paths)).astype(np.float32)
    results = []
    for first, second in ((costs, 2 * costs), (3 * costs, 0 * costs), (3 * costs, None)):
        learner = Darts(SPACE, DartsSettings(order=2))
        logits_of(learner)
        given = None if second is None else tf.constant(second)
        for update in range(3):  # with the momentum of Adam, the length counts
            outcome = Outcome(tf.constant(first), tf.zeros([4]), tf.zeros([4]), given)
            learner.learn(outcome, tf.constant(update), 0)
        results.append(learner.logits.numpy())
    np.testing.assert_allclose(results[0], results[1], atol=1e-7)
    np.testing.assert_allclose(results[2], results[1], atol=1e-7)
    learner = Darts(SPACE, DartsSettings(order=2))
    before = logits_of(learner)
    learner.learn(
        Outcome(tf.constant(0 * costs), tf.zeros([4]), tf.zeros([4]), tf.constant(costs)),
        tf.constant(0), 0,
    )  # fmt: skip
    assert np.abs(learner.logits.numpy() - before).max() > 1e-4


@pytest.mark.parametrize("name", GRADIENT)
def test_updates_begin_after_the_warm_up(name):
    learner = make(name, warmup_steps=5)
    assert [learner.updates_before(step) for step in (0, 4, 5, 6, 9)] == [0, 0, 0, 1, 4]


def test_a_line_of_decisions():
    learner = Darts(SPACE, DartsSettings())
    scores = [
        [p == "prev1" for p in SPACE.inputs(0)] == list(o) for o in SPACE.decisions[0].options
    ]
    pair = [set(np.flatnonzero(o)) == {0, 5} for o in SPACE.decisions[1].options]
    learner.logits.assign(np.concatenate([scores, pair]).astype(np.float32) * 50)
    line = learner.describe(7)
    assert line["architecture"] == "prev1:identity+max3x3" and line["parameter_free"] == 1.0
    assert line["entropy"] == pytest.approx(0.0, abs=1e-6)
    assert [max(p) for p in line["probabilities"].values()] == [1.0, 1.0]
    assert list(line["probabilities"]) == [d.name for d in SPACE.decisions]


# ---------------------------------------------------------------------------- proposals


@pytest.mark.parametrize("name", LEARNERS)
def test_the_mode_is_proposed_first_and_then_distinct_draws(name):
    learner = make(name)
    for variable, value in zip(learner.variables, spread(learner)):
        variable.assign(value)
    proposer = Learnt(SPACE, learner, seed=1)
    proposed = proposer.propose(5) + proposer.propose(10)
    assert len(set(proposed)) == 15 and proposed[0] == learner.mode()
    assert proposed == Learnt(SPACE, learner, seed=1).propose(15)
    draws = learner.draw(2_000, np.random.default_rng(0))
    for place, expected in enumerate(learner.probabilities()):
        counts = np.bincount([SPACE.genes(a)[place] for a in draws], minlength=len(expected))
        np.testing.assert_allclose(counts / 2_000, expected, atol=0.1)  # ENAS's are frequencies


def make(name, **values):
    return LEARNERS[name].make(SPACE, LEARNERS[name].settings(**values), 200)


def spread(learner):
    """Values of the variables away from the initial ones, so that options differ."""
    rng = np.random.default_rng(4)
    return [rng.normal(size=v.shape) if v.trainable else v.numpy() for v in learner.variables]


def test_only_allowed_architectures_are_proposed_and_the_end_is_found():
    few = LimitedSpace(SPACE, lambda found: np.array(["sep" not in str(a) for a in found]))
    proposer = Learnt(few, make("darts"))
    proposed = proposer.propose(1_000)
    assert proposed and not any("sep" in str(a) for a in proposed) and not proposer.propose(1)
    assert len(proposed) == sum("sep" not in str(SPACE.architecture((i, o)))
                                for i in range(3) for o in range(28))  # fmt: skip


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"final_temperature": -1.0},
                                    {"masks": "half"}, {"warmup_steps": -1},
                                    {"architecture_learning_rate": 0.0}])  # fmt: skip
def test_bad_settings_are_refused(values):
    with pytest.raises(ost.InputError, match=f"--{next(iter(values))}"):
        GumbelSettings(**values)
