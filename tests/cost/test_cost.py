"""Counted costs against built nets, and against the paper's table 1."""

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.cost.counts import usage
from oneshot_tf.settings import ModelSettings
from oneshot_tf.space.stacking import num_units


@pytest.mark.parametrize("filters, millions", [(16, 1.3), (32, 4.8), (64, 18.5), (128, 72.7)])
def test_all_on_has_the_papers_parameters(space, filters, millions):
    count = int(ost.parameters(space, [space.all_on()], ost.Stack(6, filters), 10)[0])
    assert count / 1e6 == pytest.approx(millions, rel=0.02)
    assert round(count / 1e6, 1) == millions  # to the digit that table 1 prints


@pytest.mark.parametrize("filters, mean, std", [(16, 0.5, 0.2), (64, 6.7, 2.6), (128, 26.4, 10.5)])
def test_random_architectures_have_the_papers_parameters(space, filters, mean, std):
    """Table 1's Random row is of ten models: its mean has a standard error of std / sqrt(10)."""
    rng = np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(1000)]
    counts = ost.parameters(space, architectures, ost.Stack(6, filters), 10) / 1e6
    assert abs(counts.mean() - mean) < 2 * std / np.sqrt(10)
    assert 0.6 < counts.std() / std < 1.4


def test_built_all_on_supernet_has_the_counted_parameters(space):
    supernet = ost.Supernet(space, ost.Stack(6, 16))
    assert supernet.count_params() == ost.parameters(space, [space.all_on()], supernet.stack, 10)[0]


def test_built_standalone_nets_have_the_counted_parameters(small_space):
    rng = np.random.default_rng(3)
    for cells in (1, 2, 3, 6):
        architectures = [small_space.sample(rng) for _ in range(4)] + [small_space.all_on()]
        counted = ost.parameters(small_space, architectures, ost.Stack(cells, 3), 5)
        for a, count in zip(architectures, counted):
            net = ost.Standalone(small_space, a, ost.Stack(cells, 3), num_classes=5)
            built = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
            assert built == count, (cells, str(a))


def test_multiply_adds_by_hand():
    """One cell, one block, 4 filters, 8x8 images: stem, a 1x1, a separable 3x3 pair, classifier."""
    space = ost.bender2018(num_blocks=1)
    a = ost.Architecture.from_text("prev1:sep3x3")
    expected = 64 * (27 * 4 + 4 * 4 + 2 * (9 * 4 + 4 * 4)) + 4 * 5
    assert ost.multiply_adds(space, [a], ost.Stack(1, 4), 5, 8)[0] == expected


def test_reductions():
    assert [sorted(ost.Stack(n).reducing_cells) for n in (1, 2, 3, 6)] == [[], [1], [1, 2], [2, 4]]
    assert sorted(ost.Stack(8, num_reductions=3).reducing_cells) == [2, 4, 6]


@pytest.mark.parametrize("cells, reductions", [(1, 1), (2, 2), (3, 3), (4, 6)])
def test_more_reductions_than_fit_are_refused(cells, reductions):
    with pytest.raises(ost.InputError, match=f"at most {cells - 1}, .* got {reductions}"):
        ost.Stack(cells, 8, reductions)


@pytest.mark.parametrize("cells", range(1, 13))
def test_each_reduction_has_a_cell_of_its_own(cells):
    for reductions in range(cells):
        places = ost.Stack(cells, 8, reductions).reducing_cells
        assert len(places) == reductions and 0 not in places
    assert ost.Stack(cells).num_reductions == min(2, cells - 1)


def test_stored_stacks_of_earlier_versions_are_the_nets_that_they_were():
    """These took the numbers i * cells // (reductions + 1) that are not 0, each once."""
    for cells in range(1, 9):
        for reductions in range(7):
            before = {i * cells // (reductions + 1) for i in range(1, reductions + 1)} - {0}
            values = {**ModelSettings().to_dict(), "num_cells": cells, "num_reductions": reductions}
            stored = ModelSettings.from_stored(values)
            assert stored.stack().reducing_cells == before
            assert stored.num_reductions == len(before)


def test_settings_hold_the_number_of_reductions_in_force():
    assert [ModelSettings(num_cells=n).num_reductions for n in (1, 2, 3, 6)] == [0, 1, 2, 2]
    assert ModelSettings(num_cells=8, num_reductions=3).stack(num_cells=2).num_reductions == 1
    with pytest.raises(ost.InputError, match="at most 1, .* got 2"):
        ModelSettings(num_cells=2, num_reductions=2)


def test_cells_that_nothing_reads_are_not_used(small_space):
    """An architecture that only reads the cell before the last leaves out every other cell."""
    a = ost.Architecture.from_text("prev2:sep3x3 | prev2:max3x3")
    units = usage(small_space, 4, [a])[0]
    assert units.shape == (num_units(small_space, 4),)
    per_cell = units[:-2].reshape(4, -1)
    np.testing.assert_array_equal(per_cell.any(axis=1), [False, True, False, True])
    assert units[-2:].all()  # stem and classifier


def test_inputs_of_a_block_without_operations_are_not_used(small_space):
    from oneshot_tf.space.stacking import unit_usage

    masks = np.ones((1, small_space.num_paths))
    masks[:, small_space.operation_paths(1)] = 0
    units = np.concatenate(unit_usage(small_space, 1, masks), axis=1)[0]
    assert not units[small_space.input_paths(1)].any()
    assert units[small_space.input_paths(0)].all()
    reads = units[small_space.num_paths : -2]
    np.testing.assert_array_equal(reads, [1, 1, 0])  # only block 1 could read block 0


@pytest.mark.parametrize("filters, mean, std", [(16, 2.0, 0.5), (24, 4.4, 1.0), (32, 7.7, 1.9)])
def test_random_architectures_for_imagenet_have_the_papers_parameters(space, filters, mean, std):
    """Table 2, of ten architectures: within two standard errors."""
    rng = np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(1000)]
    counts = ost.parameters(space, architectures, ost.Stack(8, filters, 3, 4), 1000) / 1e6
    assert abs(counts.mean() - mean) < 2 * std / 10**0.5


@pytest.mark.parametrize("reductions, stride", [(0, 1), (1, 2), (3, 4)])
def test_built_nets_of_other_stacks_have_the_counted_parameters(small_space, reductions, stride):
    stack = ost.Stack(4, 4, reductions, stride)
    rng = np.random.default_rng(1)
    for architecture in [small_space.all_on(), small_space.sample(rng)]:
        net = ost.Standalone(small_space, architecture, stack, num_classes=5)
        counted = ost.parameters(small_space, [architecture], stack, num_classes=5)[0]
        assert (
            net.count_params() - sum(int(np.prod(v.shape)) for v in net.non_trainable_variables)
            == counted
        )
        assert net(np.zeros([2, 21, 21, 3], np.float32)).shape == (2, 5)


def test_multiply_adds_of_a_stem_that_divides(space):
    """Of two convolutions, on 112x112 and on 56x56 pixels."""
    few = ost.multiply_adds(space, [space.all_on()], ost.Stack(1, 16, 0, 4), 10, 224)[0]
    cell = ost.multiply_adds(space, [space.all_on()], ost.Stack(1, 16, 0, 1), 10, 56)[0]
    cell -= 27 * 16 * 56**2
    assert few - cell == 27 * 16 * 112**2 + 9 * 16 * 16 * 56**2
