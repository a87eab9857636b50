"""Every entry that can be chosen by name passes the same cases. An entry without a row fails."""

import numpy as np
import pytest
import tensorflow as tf
from conformance_checks import (
    SPACES,
    check_learner,
    check_proposer,
    check_sampler,
    check_settings,
)

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.cost.baselines import BASELINES, Baseline, of_size, of_text
from oneshot_tf.data.augmentation import AUGMENTATIONS
from oneshot_tf.runs.selection import SELECTIONS
from oneshot_tf.searching import BUDGETS, EVALUATORS, RANKINGS
from oneshot_tf.serving.formats import FORMATS
from oneshot_tf.strategies import LEARNERS, PROPOSERS, SAMPLERS

# A row for each entry: whether masks are only 0 and 1.
SAMPLER_ROWS = {"path_dropout": True, "single_path": True}
# For learners with their default settings.
LEARNER_ROWS = {"darts": False, "enas": True, "gumbel": True}
# Whether proposals depend on what was observed, and settings that make them depend on it soon.
PROPOSER_ROWS = {
    "random": (False, {}),
    "evolution": (True, {"population": 16, "sample_size": 4}),
    "tournament": (True, {"population": 16, "sample_size": 4}),
    "genetic": (True, {"generation_size": 16, "parents": 4, "mutations": 6, "crossovers": 6}),
    "nas_rl": (True, {"controller_learning_rate": 0.05}),
    "ppo": (True, {"batch": 8, "controller_learning_rate": 0.05}),
    "q_learning": (True, {"episodes": 10, "q_learning_rate": 0.5}),
    "predictor": (True, {"first_random": 16, "batch": 8, "pool": 40}),
}
SELECTION_ROWS = {"top", "small", "random", "stratified", "pareto"}
BASELINE_ROWS = {"plain_cnn", "mobile_net"}
BUDGET_ROWS = {"full", "race"}
RANKING_ROWS = {"accuracy", "kl"}
EVALUATOR_ROWS = {"shared", "stand_alone", "table"}
FORMAT_ROWS = {
    "saved_model", "keras", "tflite", "tflite_fp16", "tflite_int8", "onnx", "openvino",
}  # fmt: skip
AUGMENTATION_ROWS = {"crop_flip", "crop", "flip", "inception", "none"}


def test_every_entry_has_a_row():
    assert set(SAMPLERS) == set(SAMPLER_ROWS) and set(LEARNERS) == set(LEARNER_ROWS)
    assert set(PROPOSERS) == set(PROPOSER_ROWS)
    assert set(SELECTIONS) == SELECTION_ROWS and set(BUDGETS) == BUDGET_ROWS
    assert set(RANKINGS) == RANKING_ROWS and set(FORMATS) == FORMAT_ROWS
    assert set(BASELINES) == BASELINE_ROWS
    assert set(AUGMENTATIONS) == AUGMENTATION_ROWS and set(EVALUATORS) == EVALUATOR_ROWS


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    check_settings(SAMPLERS[name], SAMPLERS, name)
    check_sampler(SAMPLERS[name], SAMPLER_ROWS[name])


@pytest.mark.parametrize("name", LEARNERS)
def test_learners(name):
    check_settings(LEARNERS[name], LEARNERS, name)
    check_learner(LEARNERS[name], LEARNER_ROWS[name])


@pytest.mark.parametrize("name", PROPOSERS)
def test_proposers(name):
    check_settings(PROPOSERS[name], PROPOSERS, name)
    learns, values = PROPOSER_ROWS[name]
    check_proposer(PROPOSERS[name], learns, **values)


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


@pytest.mark.parametrize("name", BASELINES)
def test_baselines(name):
    """One is chosen by its name; its text names it; wider ones are larger; costs are positive."""
    settings.RetrainSettings(select=name)
    stack = ost.Stack(3, 4, num_reductions=1, stem_stride=2)
    sizes = [Baseline(name, width).parameters(stack, 10) for width in range(1, 20)]
    assert sizes == sorted(set(sizes)) and of_text(f"{name}:7") == Baseline(name, 7)
    for width in (1, 7):
        assert of_size(name, sizes[width - 1], stack, 10).width == width
        assert Baseline(name, width).multiply_adds(stack, 10, 1) > 0


@pytest.mark.parametrize("space", SPACES, ids=lambda s: f"{s.num_paths} paths")
def test_spaces(space):
    rng = np.random.default_rng(0)
    for _ in range(20):
        architecture = space.sample(rng)
        assert space.parse(str(architecture)) == architecture
        assert space.architectures(space.masks([architecture])) == [architecture]
    with pytest.raises(ost.InputError):
        space.parse("prev1:no_such_operation")
    with pytest.raises(ost.InputError):
        space.parse(f"{architecture} | {str(architecture).rpartition(' | ')[2]}")
    assert space.all_on() != space.sample(rng)
