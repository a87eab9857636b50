"""What every sampler and proposer has to do: the checks behind the conformance table."""

import dataclasses
import json

import numpy as np
import tensorflow as tf
from chains import LONGER

import oneshot_tf as ost
from oneshot_tf.settings import StrategySettings, command_line
from oneshot_tf.space.limited import LimitedSpace
from oneshot_tf.strategies import Learner, Outcome, Proposer, Sampler

SPACES = [
    ost.bender2018(1), ost.digits_chain(), LONGER, ost.bender2018(2), ost.bender2018(4),
]  # fmt: skip


def check_settings(entry, entries, name):
    """Settings have the name of the entry, round-trip through flags, and are documented."""
    assert issubclass(entry.settings, StrategySettings)
    default = entry.settings()
    assert default.strategy == name
    assert entry.settings.from_stored(default.to_dict()) == default
    lines = command_line.as_flag_lines([default])
    group = command_line.strategy(entries, name)
    assert command_line.parse(["program", *lines], [group]) == [default]
    assert entry.settings.__doc__
    for field in dataclasses.fields(entry.settings):
        assert len(field.metadata["help"].split()) > 2, field.name


def check_sampler(entry, binary=True):
    """Masks: shape, type, range; a pure function of step and seed; eager and in a graph."""
    for space in SPACES:
        sampler = entry.make(space, entry.settings(), 10)
        assert isinstance(sampler, Sampler)
        masks = sampler.sample(6, 5, 3)
        assert masks.dtype == tf.float32 and masks.shape == (6, space.num_paths)
        assert not binary or set(np.unique(masks)) <= {0.0, 1.0}
        np.testing.assert_array_equal(masks, sampler.sample(6, 5, 3))
        again = entry.make(space, entry.settings(), 10)
        np.testing.assert_array_equal(masks, again.sample(6, 5, 3))
        graph = tf.function(lambda step, s=sampler: s.sample(6, step, 3))
        np.testing.assert_array_equal(masks, graph(tf.constant(5)))
        assert 0.0 <= sampler.kept_share(5) <= 1.0
        assert all(isinstance(value, float) for value in sampler.metrics(5).values())
    if not binary:
        return
    other = [sampler.sample(64, step, seed).numpy().tobytes() for step, seed in ((9, 3), (9, 4))]
    assert other[0] != other[1]


def check_learner(entry, binary):
    """It samples; tries differentiable masks; learns from an outcome; says what it learnt."""
    check_sampler(entry, binary)
    for space in SPACES:
        learner = entry.make(space, entry.settings(), 10)
        assert isinstance(learner, Learner) and learner.space == space
        assert len({v.path for v in learner.variables}) == len(learner.variables)
        assert all(v.path.startswith("learner") for v in learner.variables)
        numbers = [learner.updates_before(step) for step in range(12)]
        assert numbers[0] == 0 and numbers == sorted(numbers) and numbers[-1] > 0
        masks = learner.trial(6, tf.constant(2), 3)
        assert masks.dtype == tf.float32 and masks.shape == (6, space.num_paths)
        np.testing.assert_array_equal(masks, learner.trial(6, tf.constant(2), 3))
        before = [np.array(v) for v in learner.variables]
        gradient = tf.ones_like(masks) if learner.wants == "gradient" else None
        outcome = Outcome(gradient, tf.ones([6]), tf.fill([6], 0.5))
        logged = learner.learn(outcome, tf.constant(2), 3)
        assert all(value.shape == () for value in logged.values())
        assert any((np.array(v) != b).any() for v, b in zip(learner.variables, before))
        for decision, found in zip(space.decisions, learner.probabilities()):
            assert found.shape == (decision.num_options,)
            np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-5)
        space.check(learner.mode())
        json.dumps(learner.describe(5))


def accuracy(architecture):
    return len(str(architecture)) % 17 / 17


def proposals(entry, space, batches, seed=0, values=None, score=accuracy):
    """Runs a proposer for some batches; returns what it proposed."""
    settings = entry.settings(**(values or {})).for_budget(8 * batches)
    proposer = entry.make(space, settings, seed)
    assert isinstance(proposer, Proposer)
    proposed = []
    for _ in range(batches):
        new = proposer.propose(8)
        proposed += new
        proposer.observe(new, [score(a) for a in new])
    return proposed


def check_proposer(entry, learns=None, **values):
    """Members only; the same seed gives the same sequence; limits hold.

    Args:
        entry: The entry of PROPOSERS.
        learns: Whether proposals depend on what was observed; None if that is not known.
        values: Settings that make it learn within 64 proposals.
    """
    for space in SPACES:
        batches = 8 if space.num_architectures > 1_000 else 4
        first = proposals(entry, space, batches, values=values)
        assert first == proposals(entry, space, batches, values=values)
        assert learns or len(set(first)) == len(first)  # only a learner may repeat itself
        for architecture in first:
            space.check(architecture)
        assert first != proposals(entry, space, batches, seed=1, values=values)
        proposer = entry.make(space, entry.settings(), 0)
        assert 1 <= proposer.limit <= space.num_architectures
    limited = LimitedSpace(SPACES[-1], lambda some: [len(str(a)) % 2 == 0 for a in some])
    for architecture in proposals(entry, limited, 8, values=values):
        assert len(str(architecture)) % 2 == 0
    if learns is not None:
        other = proposals(entry, SPACES[-1], 8, values=values, score=lambda a: 1 - accuracy(a))
        assert proposer.learns == learns == (other != first)
