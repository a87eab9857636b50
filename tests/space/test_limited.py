"""Spaces within limits: uniform draws, exact counts of small ones, walks in rare ones."""

import collections

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.space import limited
from oneshot_tf.space.limited import LimitedSpace


def short(architectures):
    return [len(str(a)) <= 14 for a in architectures]


def test_a_small_space_is_counted_exactly_and_drawn_uniformly():
    space = ost.bender2018(num_blocks=1)
    some = LimitedSpace(space, short)
    members = [a for a in ost.RandomSearch(space, seed=0).propose(84) if short([a])[0]]
    assert some.num_architectures == len(members) and 5 < len(members) < 84
    rng = np.random.default_rng(0)
    counts = collections.Counter(some.sample(rng) for _ in range(4000))
    assert set(counts) == set(members)
    expected = 4000 / len(members)
    chi2 = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi2 < len(members) + 4.5 * (2 * len(members)) ** 0.5
    assert len(ost.RandomSearch(some, seed=0).propose(1000)) == len(members)


def test_a_large_space_is_drawn_by_rejection():
    space = ost.bender2018()
    some = LimitedSpace(space, lambda a: [len(x.blocks[3].inputs) == 1 for x in a])
    rng = np.random.default_rng(0)
    counts = collections.Counter(some.sample(rng).blocks[3].inputs for _ in range(2000))
    assert len(counts) == 5 and all(abs(n - 400) < 4.5 * 18 for n in counts.values())
    with pytest.raises(ost.InputError, match="outside the limits"):
        some.check(next(a for a in ost.RandomSearch(space).propose(50) if not some.allows(a)))


def test_a_rare_set_is_walked(monkeypatch):
    space = ost.bender2018()
    start = space.parse("prev1:identity | prev1:identity | prev1:identity | prev1:identity")

    def near(architectures):
        genes = space.genes(start)
        return [sum(x != y for x, y in zip(space.genes(a), genes)) <= 2 for a in architectures]

    monkeypatch.setattr(limited, "_TRIES", 100)
    some = LimitedSpace(space, near, start)
    rng = np.random.default_rng(0)
    found = {some.sample(rng) for _ in range(20)}
    assert len(found) > 10 and all(near(list(found)))
    with pytest.raises(ost.InputError, match="Raise the limits"):
        LimitedSpace(space, near).sample(rng)
