"""Spaces of chains: menus, texts, masks, and what is refused."""

import itertools

import numpy as np
import pytest
from chains import MIXED

import oneshot_tf as ost
from oneshot_tf.space import kinds
from oneshot_tf.space.chain_space import ChainSpace, digits_chain, mobile_chain
from oneshot_tf.space.layer import Layer


def test_the_published_space():
    """ProxylessNAS: 21 layers; kernels 3, 5, 7 and expansions 3, 6; skips where shapes allow."""
    space = mobile_chain()
    options = [decision.num_options for decision in space.decisions]
    assert options == [1, 6, 7, 7, 7, 6, 7, 7, 7, 6, 7, 7, 7, 6, 7, 7, 7, 6, 7, 7, 7, 6]
    plans = space.plans(32, stem_stride=2)
    assert [p.width for p in plans] == [
        16, *[24] * 4, *[40] * 4, *[80] * 4, *[96] * 4, *[192] * 4, 320
    ]  # fmt: skip
    assert [p.stride for p in plans] == [1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2,
                                         1, 1, 1, 1]  # fmt: skip
    assert plans[-1].divisor == 32 and space.head == 1280


def test_all_nets_of_a_small_space():
    space = digits_chain()
    every = [space.architecture(g) for g in itertools.product(range(4), repeat=4)]
    assert len(set(every)) == 256 == space.num_architectures
    assert space.architectures(space.masks(every)) == every
    assert [space.genes(a) for a in every] == list(itertools.product(range(4), repeat=4))
    assert str(every[-1]) == "skip | skip | skip | skip" and every[-1] == space.parse(
        "skip|" * 3 + "skip"
    )


@pytest.mark.parametrize("space", [MIXED, mobile_chain(), digits_chain()])
def test_a_space_is_made_again_from_plain_values(space):
    again = kinds.from_dict(space.to_dict())
    assert again == space and hash(again) == hash(space)
    assert again.sample(np.random.default_rng(3)) == space.sample(np.random.default_rng(3))


def test_widths_follow_the_filters():
    assert [p.width for p in MIXED.plans(8)] == [8, 12, 12, 12]
    assert [p.width for p in MIXED.plans(1)] == [1, 2, 2, 2]  # rounded


@pytest.mark.parametrize(
    "text, part",
    [
        ("mb1k3 | mb2k3 | skip", r"4 layer\(s\); got 3"),
        ("mb1k3 | skip | skip | skip", "Layer 1 must be one of mb2k3, mb1k5"),
        ("mb1k3 | mb2k3 | mb9k9 | skip", "got 'mb9k9'"),
        ("mb1k3 | mb2k3+mb1k5 | skip | skip", "one operation; got 2"),
        ("prev1:sep3x3 | prev1:sep3x3", "no inputs"),
    ],
)
def test_an_architecture_of_another_space_is_refused(text, part):
    with pytest.raises(ost.InputError, match=part):
        MIXED.check(ost.Architecture.from_text(text))


def test_masks_of_no_architecture_are_refused():
    for masks, part in (
        (np.zeros([1, 7]), "layer 0, which cannot skip"),
        (np.full([1, 7], 0.5), "only 0 and 1"),
        (np.zeros([1, 8]), "shape"),
    ):
        with pytest.raises(ost.InputError, match=part):
            MIXED.architectures(masks)


@pytest.mark.parametrize(
    "make, part",
    [
        (lambda: Layer((), 4), "besides 'skip'"),
        (lambda: Layer(("skip",), 4), "besides 'skip'"),
        (lambda: Layer(("sep3x3",), 4), "got 'sep3x3'"),
        (lambda: Layer(("mb3k4",), 4), "got 'mb3k4'"),
        (lambda: Layer(("mb3k3", "mb3k3"), 4), "twice"),
        (lambda: Layer("mb3k3", 4), "list of names"),
        (lambda: Layer(([], 3), 4), r"got \[\]"),
        (lambda: Layer(("mb3k3",), 0), "`width`"),
        (lambda: Layer(("mb3k3",), 4, stride=3), "`stride`"),
        (lambda: ChainSpace(()), "`layers`"),
        (lambda: ChainSpace((Layer(("mb3k3",), 4, repeats=64), Layer(("mb3k3",), 4))), "64 layers"),
        (lambda: ChainSpace((Layer(("mb3k3",), 4),), filters=0), "`filters`"),
        (lambda: kinds.from_dict({"kind": "tree"}), "kind cell or chain"),
        (lambda: kinds.from_dict({"kind": "chain"}), "must have kind, layers"),
    ],
)
def test_what_no_chain_can_be_is_refused(make, part):
    with pytest.raises(ost.InputError, match=part):
        make()


def test_sizes_of_cells_are_refused_for_chains():
    from oneshot_tf.settings import ModelSettings

    settings = ModelSettings(space="digits_chain")
    assert settings.num_cells == 4 and ModelSettings(**settings.to_dict()) == settings
    for name in ("num_cells", "num_blocks", "num_reductions"):
        with pytest.raises(ost.InputError, match=f"--{name} has no meaning"):
            ModelSettings(space="digits_chain", **{name: 3})
