"""Every entry that can be chosen by name passes the same cases. An entry without a row fails."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.data.augmentation import AUGMENTATIONS
from oneshot_tf.runs.selection import SELECTIONS
from oneshot_tf.searching import BUDGETS, RANKINGS
from oneshot_tf.serving.formats import FORMATS
from oneshot_tf.settings import StrategySettings, command_line
from oneshot_tf.strategies import LEARNERS, PROPOSERS, SAMPLERS, Proposer, Sampler

# A row for each entry: whether masks are only 0 and 1.
SAMPLER_ROWS = {"path_dropout": True}
LEARNER_ROWS: dict[str, bool] = {}
# Whether proposals depend on what was observed.
PROPOSER_ROWS = {"random": False}
SELECTION_ROWS = {"top", "small", "random", "stratified"}
BUDGET_ROWS = {"full", "race"}
RANKING_ROWS = {"accuracy", "kl"}
FORMAT_ROWS = {"saved_model"}
AUGMENTATION_ROWS = {"crop_flip", "crop", "inception", "none"}
SPACES = [ost.bender2018(num_blocks=n) for n in (1, 2, 4)]


def test_every_entry_has_a_row():
    assert set(SAMPLERS) == set(SAMPLER_ROWS) and set(LEARNERS) == set(LEARNER_ROWS)
    assert set(PROPOSERS) == set(PROPOSER_ROWS)
    assert set(SELECTIONS) == SELECTION_ROWS and set(BUDGETS) == BUDGET_ROWS
    assert set(RANKINGS) == RANKING_ROWS and set(FORMATS) == FORMAT_ROWS
    assert set(AUGMENTATIONS) == AUGMENTATION_ROWS


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
    other = [sampler.sample(64, step, seed).numpy().tobytes() for step, seed in ((9, 3), (9, 4))]
    assert other[0] != other[1]


def accuracy(architecture):
    return len(str(architecture)) % 17 / 17


def proposals(entry, space, batches, seed=0):
    """Runs a proposer for some batches; returns what it proposed."""
    proposer = entry.make(space, entry.settings(), seed)
    assert isinstance(proposer, Proposer)
    proposed = []
    for _ in range(batches):
        new = proposer.propose(8)
        proposed += new
        proposer.observe(new, [accuracy(a) for a in new])
    return proposed


def check_proposer(entry, learns=None):
    """Members only, each once; the same seed gives the same sequence; the limit holds."""
    for space in SPACES:
        batches = 8 if space.num_architectures > 1_000 else 4
        first = proposals(entry, space, batches)
        assert first == proposals(entry, space, batches) and len(set(first)) == len(first)
        for architecture in first:
            space.check(architecture)
        assert first != proposals(entry, space, batches, seed=1)
        proposer = entry.make(space, entry.settings(), 0)
        assert 1 <= proposer.limit <= space.num_architectures
    blind = entry.make(SPACES[-1], entry.settings(), 0)
    unseen = [a for _ in range(8) for a in blind.propose(8)]
    assert learns is None or (unseen != first) == learns


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    check_settings(SAMPLERS[name], SAMPLERS, name)
    check_sampler(SAMPLERS[name], SAMPLER_ROWS[name])


@pytest.mark.parametrize("name", PROPOSERS)
def test_proposers(name):
    check_settings(PROPOSERS[name], PROPOSERS, name)
    check_proposer(PROPOSERS[name], PROPOSER_ROWS[name])


def test_random_search_exhausts_a_space():
    space = SPACES[0]
    for skip_twins in (True, False):
        entry = PROPOSERS["random"]
        proposer = entry.make(space, entry.settings(skip_twins=skip_twins), 0)
        proposed = proposer.propose(10_000)
        assert len(proposed) == proposer.limit and proposer.propose(1) == []


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations(name):
    """Shape, type; a pure function of step and seed; rows of the global batch."""
    images = tf.constant(np.random.default_rng(0).integers(0, 256, [8, 16, 16, 3], np.uint8))
    change = AUGMENTATIONS[name]
    whole = change(images, 0, 8, seed=1, step=2)
    assert whole.dtype == tf.uint8 and whole.shape == images.shape
    np.testing.assert_array_equal(whole, change(images, 0, 8, seed=1, step=2))
    for first in (0, 4):
        part = change(images[first : first + 4], first, 8, seed=1, step=2)
        np.testing.assert_array_equal(part, whole[first : first + 4])


@pytest.mark.parametrize("space", SPACES, ids=lambda s: f"{s.num_blocks} blocks")
def test_spaces(space):
    rng = np.random.default_rng(0)
    for _ in range(20):
        architecture = space.sample(rng)
        assert space.parse(str(architecture)) == architecture
        assert space.architectures(space.masks([architecture])) == [architecture]
    with pytest.raises(ost.InputError):
        space.parse("prev1:no_such_operation")
    with pytest.raises(ost.InputError):
        space.parse(" | ".join(["prev1:sep3x3"] * (space.num_blocks + 1)))
    assert space.all_on() != space.sample(rng)
