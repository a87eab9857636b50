"""Twins: architectures that are the same stand-alone net, up to the order of channels."""

import itertools
import re

import numpy as np
import pytest
from conftest import random_images, randomize_betas

import oneshot_tf as ost


def members(space):
    """Every architecture of a space."""
    blocks = []
    for block in range(space.num_blocks):
        subsets = [
            [c for n in sizes for c in itertools.combinations(names, n)]
            for names, sizes in (
                (space.inputs(block), range(1, block + 3)),
                (space.operations, range(1, space.max_operations + 1)),
            )
        ]
        blocks.append([ost.Choice(*pair) for pair in itertools.product(*subsets)])
    return map(ost.Architecture, itertools.product(*blocks))


def reorder(architecture, order):
    """The same blocks, `order[i]` at place i; None where one would read a later one."""
    place = {f"block{block}": i for i, block in enumerate(order)}
    blocks = []
    for i, block in enumerate(order):
        choice = architecture.blocks[block]
        if any(place.get(name, -1) >= i for name in choice.inputs):
            return None
        inputs = tuple(f"block{place[n]}" if n in place else n for n in choice.inputs)
        blocks.append(ost.Choice(inputs, choice.operations))
    return ost.Architecture(tuple(blocks))


def twins(architecture):
    """All of them, by trying every order of the blocks."""
    orders = itertools.permutations(range(len(architecture.blocks)))
    return {reorder(architecture, order) for order in orders} - {None}


SMALL = [
    ost.CellSpace(1),
    ost.CellSpace(2, ("identity", "sep3x3", "max3x3")),
    ost.CellSpace(3, ("identity", "max3x3"), 1),
    ost.CellSpace(4, ("identity",), 1),
]


@pytest.mark.parametrize("space", SMALL, ids=lambda space: str(space.num_blocks))
def test_whole_spaces_have_as_many_forms_as_nets(space):
    """Classes of equal cells, found by trying all orders: each has one form, its least member."""
    left, classes, count = set(members(space)), 0, 0
    count = len(left)
    assert count == space.num_architectures
    while left:
        equal = twins(next(iter(left)))
        assert equal <= left
        assert {space.canonical(a) for a in equal} == {min(equal)}
        left -= equal
        classes += 1
    assert space.num_distinct == classes


def test_forms_of_the_papers_space_and_of_eight_blocks(space):
    rng = np.random.default_rng(0)
    for a in (space.sample(rng) for _ in range(200)):
        assert space.canonical(a) == min(twins(a))
    large = ost.bender2018(num_blocks=8)
    for a in (large.sample(rng) for _ in range(30)):
        orders = (rng.permutation(8).tolist() for _ in range(300))
        others = {reorder(a, order) for order in orders} - {None}
        form = large.canonical(a)
        large.check(form)
        assert {large.canonical(b) for b in others} <= {form} and all(form <= b for b in others)
        assert sorted(b.operations for b in form.blocks) == sorted(b.operations for b in a.blocks)


def test_the_slowest_forms(space):
    """Eight blocks that are all alike, and readers that tell some of them apart."""
    large = ost.bender2018(num_blocks=8)
    alike = "prev1:identity"
    text = " | ".join([alike] * 8)
    assert str(large.canonical(ost.Architecture.from_text(text))) == text
    pairs = ["block0+block1:identity", "block1+block2:identity", "block2+block3+block4:identity"]
    a = ost.Architecture.from_text(" | ".join([alike] * 5 + pairs))
    b = reorder(a, [4, 2, 0, 3, 1, 7, 5, 6])
    assert a != b and large.canonical(a) == large.canonical(b)


def test_distinct_cells_of_the_papers_space(space):
    """Exact, and beside it an unbiased estimate: the mean of 1 / (number of twins)."""
    assert space.num_distinct == 2_369_477_047
    rng = np.random.default_rng(0)
    shares = [1 / len(twins(space.sample(rng))) for _ in range(3000)]
    estimate = np.mean(shares) * space.num_architectures
    error = np.std(shares) / len(shares) ** 0.5 * space.num_architectures
    assert error < 0.02 * estimate
    assert abs(estimate - space.num_distinct) < 4 * error


def test_random_search_passes_over_twins_and_keeps_the_order(small_space):
    plain = ost.RandomSearch(small_space, seed=2).propose(400)
    distinct = ost.RandomSearch(small_space, seed=2, distinct=True)
    proposed = distinct.propose(100) + distinct.propose(100)
    forms, expected = set(), []
    for a in plain:
        if small_space.canonical(a) not in forms:
            expected.append(a)
        forms.add(small_space.canonical(a))
    assert len(expected) < len(plain)
    assert proposed == expected[:200]
    space = ost.CellSpace(2, ("identity",), 1)
    assert len(ost.RandomSearch(space, distinct=True).propose(100)) == space.num_distinct == 18
    assert len(ost.RandomSearch(space).propose(100)) == 21


@pytest.mark.parametrize("cells", [1, 3])
def test_twins_are_the_same_net_with_channels_in_another_order(cells):
    """Every weight of the one has its place in the other; then the logits agree."""
    space, stack = ost.bender2018(num_blocks=3), ost.Stack(cells, 4)
    a = ost.Architecture.from_text(
        "prev2+prev1:sep3x3 | prev1:max3x3+conv1x7_7x1 | prev1+block0:avg3x3+identity"
    )
    order = [1, 0, 2]
    b = reorder(a, order)
    assert b != a and space.canonical(a) == space.canonical(b)
    one, other = (ost.Standalone(space, x, stack, 5, seed=i) for i, x in enumerate((a, b)))
    randomize_betas(one)
    images = random_images(8)
    one(images, training=True)
    values = {v.path: v.numpy() for v in one.variables}
    for variable in other.variables:
        variable.assign(_of_twin(variable, values, order, stack.plans(space)))
    for training in (True, False):
        np.testing.assert_allclose(
            one(images, training=training), other(images, training=training), atol=1e-5
        )


def _of_twin(variable, values, order, plans):
    """The value of the variable in the other net: its block's, with what it reads reordered."""
    path = re.sub(r"block(\d)", lambda m: f"block{order[int(m[1])]}", variable.path)
    value = values[path]
    axis = {1: 0, 2: 0, 4: 2}[value.ndim]
    widths = {len(order) * plan.width: plan.width for plan in plans}
    cell = re.match(r"cell(\d)", path)
    reads_cells = re.search(r"prev[12](_join|_bn|/kernel|_joined)|last_bn|classifier/kernel", path)
    if cell and re.search(r"prev[12]_bn", path) and values[path].shape[0] not in widths:
        reads_cells = None  # after a join, whose output is no concatenation
    if not reads_cells or value.shape[axis] not in widths:
        return value
    width = widths[value.shape[axis]]
    places = np.concatenate([np.arange(width) + width * block for block in order])
    return np.take(value, places, axis=axis)
