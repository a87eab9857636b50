"""Decisions: counting, uniform draws, neighbours, mutation, crossover, mixtures."""

import itertools

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.space import decisions as ds


def test_the_papers_cell_makes_eight_decisions(space):
    sizes = [decision.num_options for decision in space.decisions]
    assert sizes == [3, 28, 7, 28, 15, 28, 31, 28]
    assert ds.count(space.decisions) == space.num_architectures == 6_002_115_840
    paths = [list(decision.paths) for decision in space.decisions]
    assert [len(each) for each in paths] == [2, 7, 3, 7, 4, 7, 5, 7]
    assert sorted(itertools.chain(*paths)) == list(range(space.num_paths))


def test_the_sequence_of_samples_is_frozen(space):
    """Searches of earlier versions resume only while a seed draws the same architectures."""
    rng = np.random.default_rng(0)
    assert [str(space.sample(rng)) for _ in range(3)] == [
        "prev1+prev2:avg3x3+sep3x3 | block0:identity+sep3x3 | block0+prev2:sep3x3 | "
        "prev1+prev2:identity",
        "prev2:conv1x7_7x1+sep7x7 | block0+prev2:conv1x7_7x1+max3x3 | block1:max3x3+sep3x3 | "
        "block0+block1+block2+prev1+prev2:max3x3+sep5x5",
        "prev1:conv1x7_7x1+sep3x3 | block0:avg3x3+conv1x7_7x1 | block0+prev2:conv1x7_7x1+sep7x7 | "
        "block0+block2+prev2:identity",
    ]


def test_genes_are_the_inverse_of_architectures():
    space = ost.bender2018(num_blocks=1)
    every = itertools.product(*(range(d.num_options) for d in space.decisions))
    found = [space.architecture(genes) for genes in every]
    assert len(set(found)) == space.num_architectures == 84
    for architecture in found:
        genes = space.genes(architecture)
        assert space.architecture(genes) == architecture
        one_hot = [np.eye(d.num_options)[g] for d, g in zip(space.decisions, genes)]
        masks = ds.mixture(space.decisions, one_hot, space.num_paths)
        np.testing.assert_array_equal(masks, space.masks([architecture])[0])
    with pytest.raises(ost.InputError):
        space.genes(space.all_on())


def test_neighbours_are_one_path_away(space):
    for decision in space.decisions:
        for option, neighbours in enumerate(decision.neighbours):
            row = decision.options[option]
            for other in range(decision.num_options):
                added = (decision.options[other] > row).sum()
                dropped = (decision.options[other] < row).sum()
                near = (added, dropped) in {(1, 0), (0, 1), (1, 1)}
                assert near == (other in neighbours)
    # From one of two inputs: to both, or to the other. So every option can be reached.
    assert [n.tolist() for n in space.decisions[0].neighbours] == [[1, 2], [0, 2], [0, 1]]


def test_a_mutation_moves_one_decision_to_a_neighbour_uniformly(space):
    rng = np.random.default_rng(0)
    genes = ds.sample(space.decisions, rng)
    counts = np.zeros(len(genes))
    for _ in range(4000):
        child = ds.mutate(space.decisions, genes, rng)
        (where,) = (i for i, (a, b) in enumerate(zip(child, genes)) if a != b)
        assert child[where] in space.decisions[where].neighbours[genes[where]]
        counts[where] += 1
    expected = 4000 / len(genes)
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # chi squared, 7 degrees, p = 0.001


def test_genes_without_a_neighbour_stay():
    only = ds.Decision("only", (0,), np.ones([1, 1], np.float32))
    far = ds.Decision("far", (1, 2, 3), np.array([[1, 1, 1], [0, 0, 0]], np.float32))
    assert ds.mutate([only, far], (0, 1), np.random.default_rng(0)) == (0, 1)


def test_crossover_takes_each_decision_from_either_parent(space):
    rng = np.random.default_rng(0)
    first, second = ds.sample(space.decisions, rng), ds.sample(space.decisions, rng)
    taken = np.zeros(len(first))
    for _ in range(2000):
        child = ds.crossover(first, second, rng)
        assert all(c in pair for c, pair in zip(child, zip(first, second)))
        taken += [c == a for c, a in zip(child, first)]
    differ = np.array(first) != np.array(second)
    assert np.abs(taken[differ] / 2000 - 0.5).max() < 4.5 * 0.5 / 2000**0.5


def test_redraw_draws_a_share_of_the_decisions_anew(space):
    rng = np.random.default_rng(0)
    genes = ds.sample(space.decisions, rng)
    assert ds.redraw(space.decisions, genes, 0.0, rng) == genes
    changed = np.mean(
        [np.not_equal(ds.redraw(space.decisions, genes, 0.1, rng), genes) for _ in range(4000)],
        axis=0,
    )
    sizes = np.array([d.num_options for d in space.decisions])
    np.testing.assert_allclose(changed, 0.1 * (1 - 1 / sizes), atol=4.5 * 0.3 / 4000**0.5)


def test_a_mixture_weighs_each_path_with_its_options():
    space = ost.bender2018(num_blocks=1)
    uniform = [np.full(d.num_options, 1 / d.num_options) for d in space.decisions]
    masks = ds.mixture(space.decisions, uniform, space.num_paths)
    np.testing.assert_allclose(masks[:2], 2 / 3)  # each input is in two of three sets
    np.testing.assert_allclose(masks[2:], 7 / 28)  # alone, or with one of six others


def test_bad_options_are_refused():
    for options in ([[0, 1]], [[0], [0]], [[0.5], [1]], np.zeros([0, 1])):
        with pytest.raises(ost.InputError, match="The options of 'x' must"):
            ds.Decision("x", (0,), np.asarray(options, np.float32))
