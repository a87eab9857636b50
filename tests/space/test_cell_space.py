"""The paper's space, exactly: paths, cells, the distribution of samples."""

import collections

import numpy as np
import pytest
from scipy import stats

import oneshot_tf as ost


def test_size_of_the_papers_space(space):
    assert space.num_paths == 42
    assert space.num_architectures == 6_002_115_840  # 3 * 7 * 15 * 31 * 28^4, section 3.1


def test_masks_round_trip(space):
    rng = np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(300)]
    masks = space.masks(architectures)
    assert masks.dtype == np.float32 and masks.shape == (300, 42)
    assert space.architectures(masks) == architectures
    for a in architectures:
        space.check(a)


def test_masks_say_what_the_text_says(small_space):
    a = ost.Architecture.from_text("prev1:avg3x3 | prev2+block0:identity+sep5x5")
    # inputs prev2, prev1; 7 operations; inputs prev2, prev1, block0; 7 operations
    expected = [0, 1] + [0, 0, 0, 0, 0, 0, 1] + [1, 0, 1] + [1, 0, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(small_space.masks([a])[0], expected)


@pytest.mark.parametrize(
    "masks, part",
    [
        (np.ones((2, 3)), "shape"),
        (np.full((1, 19), 0.5), "0 and 1"),
        (np.zeros((1, 19)), "at least one name"),
    ],
)
def test_masks_of_no_architecture_are_refused(small_space, masks, part):
    with pytest.raises(ost.InputError, match=part):
        small_space.architectures(masks)


def test_all_on_uses_every_path_and_is_no_member(space):
    np.testing.assert_array_equal(space.masks([space.all_on()]), np.ones((1, 42)))
    with pytest.raises(ost.InputError):
        space.check(space.all_on())


def test_samples_are_uniform_over_the_whole_small_space():
    space = ost.bender2018(num_blocks=1)
    rng = np.random.default_rng(0)
    counts = collections.Counter(space.sample(rng) for _ in range(84 * 200))
    assert len(counts) == 84
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_samples_of_the_papers_space_are_uniform_in_each_block(space):
    rng = np.random.default_rng(1)
    samples = [space.sample(rng) for _ in range(20_000)]
    for block in range(4):
        for part, expected in (("inputs", 2 ** (2 + block) - 1), ("operations", 28)):
            counts = collections.Counter(getattr(a.blocks[block], part) for a in samples)
            assert len(counts) == expected
            assert stats.chisquare(list(counts.values())).pvalue > 1e-3, (block, part)


def test_blocks_are_sampled_independently(space):
    rng = np.random.default_rng(2)
    masks = space.masks([space.sample(rng) for _ in range(20_000)])
    first, last = masks[:, space.operation_paths(0)], masks[:, space.operation_paths(3)]
    correlation = np.corrcoef(first.T, last.T)[:7, 7:]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(20_000)


def test_same_seed_same_samples(space):
    draw = lambda seed: [space.sample(np.random.default_rng(seed)) for _ in range(3)]  # noqa: E731
    assert draw(3) == draw(3) != draw(4)


@pytest.mark.parametrize("blocks", [0, 9, 2.0, "4"])
def test_bad_number_of_blocks(blocks):
    with pytest.raises(ost.InputError):
        ost.bender2018(num_blocks=blocks)


@pytest.mark.parametrize(
    "values, part",
    [
        ({"operations": ("sep3x3", "sep3x3")}, "'sep3x3' twice"),
        ({"operations": ("sep3x3", "sep9x9")}, "sep9x9"),
        ({"operations": "sep3x3"}, "tuple"),
        ({"operations": ()}, "tuple"),
        ({"operations": ("sep3x3",), "max_operations": 2}, "from 1 to 1"),
    ],
)
def test_bad_menus(values, part):
    with pytest.raises(ost.InputError, match=part):
        ost.CellSpace(**values)


def test_random_search_proposes_each_once_and_stops(small_space):
    space = ost.bender2018(num_blocks=1)
    search = ost.RandomSearch(space, seed=0)
    first = search.propose(60)
    rest = search.propose(60)
    assert len(first) == 60 and len(rest) == 24 and len(set(first + rest)) == 84
    assert search.propose(1) == []


def test_random_search_is_the_same_whatever_the_portions(space):
    whole = ost.RandomSearch(space, seed=5).propose(50)
    search = ost.RandomSearch(space, seed=5)
    assert search.propose(20) + search.propose(30) == whole
