"""Architectures as text and JSON, both ways; malformed ones are refused."""

import itertools

import numpy as np
import pytest

import oneshot_tf as ost


def test_text_and_json_round_trip(space):
    rng = np.random.default_rng(0)
    for _ in range(200):
        a = space.sample(rng)
        assert ost.Architecture.from_text(str(a)) == a
        assert ost.Architecture.from_json(a.to_json()) == a
        assert hash(ost.Architecture.from_text(str(a))) == hash(a)


def test_order_and_spaces_do_not_matter():
    texts = [
        "prev1+prev2:sep3x3+identity|block0:avg3x3",
        " prev2 + prev1 : identity + sep3x3 | block0 : avg3x3 ",
    ]
    first, second = map(ost.Architecture.from_text, texts)
    assert first == second
    assert str(first) == str(second) == "prev1+prev2:identity+sep3x3 | block0:avg3x3"


BAD_TEXTS = [
    "", "|", ":", "prev1+", "prev1:", ":sep3x3", "prev1:sep3x3|", "prev1:sep3x3:max3x3",
    "prev1+:sep3x3", "prev1+prev1:sep3x3", "PREV1:sep3x3", "prev1:sep3x3 | block0",
    "prev1:__import__('os')", "prev1\x00:sep3x3", "é:sep3x3", "prev1:" + "a" * 40, "a:b|" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_malformed_text_is_refused_in_one_line(text):
    with pytest.raises(ost.InputError) as error:
        ost.Architecture.from_text(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


BAD_JSON = ["", "[]", "{}", "null", "7", '{"blocks": 3}', '{"blocks": []}', '{"blocks": [{}]}',
            '{"blocks": [{"inputs": "prev1", "operations": ["sep3x3"]}]}',
            '{"blocks": [{"inputs": [1], "operations": ["sep3x3"]}]}',
            '{"blocks": [{"inputs": ["prev1"], "operations": []}]}', "[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("text", BAD_JSON)
def test_malformed_json_is_refused(text):
    with pytest.raises(ost.InputError):
        ost.Architecture.from_json(text)


@pytest.mark.parametrize(
    "text, part",
    [
        ("prev1:sep3x3", r"2 block\(s\); got 1"),
        ("sep3x3 | sep3x3", "'inputs:operations'"),
        ("mb3k3 | skip", "'inputs:operations'"),
        ("block0:sep3x3 | prev1:sep3x3", "'block0'"),
        ("prev1:sep3x3 | block1:sep3x3", "'block1'"),
        ("prev1:sep3x3 | block0:sep9x9", "'sep9x9'"),
        ("prev1:sep3x3 | block0:sep3x3+sep5x5+sep7x7", "3 operations"),
    ],
)
def test_an_architecture_of_another_space_is_refused(small_space, text, part):
    with pytest.raises(ost.InputError, match=part):
        small_space.check(ost.Architecture.from_text(text))


def test_random_texts_are_read_or_refused(space):
    rng = np.random.default_rng(1)
    alphabet = list("prev12blockse3x:|+ \n") + ["prev1", "block0", "sep3x3", ":", "|", "+"]
    accepted = 0
    for _ in range(3000):
        text = "".join(rng.choice(alphabet, size=int(rng.integers(0, 12))))
        try:
            a = ost.Architecture.from_text(text)
        except ost.InputError:
            continue
        accepted += 1
        assert ost.Architecture.from_text(str(a)) == a
    assert accepted > 10


def test_masks_of_different_architectures_differ():
    space = ost.bender2018(num_blocks=1)
    subsets = [c for n in (1, 2) for c in itertools.combinations(("prev1", "prev2"), n)]
    operations = [c for n in (1, 2) for c in itertools.combinations(space.operations, n)]
    every = [
        ost.Architecture((ost.Choice(i, o),)) for i, o in itertools.product(subsets, operations)
    ]
    assert len(every) == space.num_architectures == 84
    assert len(np.unique(space.masks(every), axis=0)) == 84
