"""Malformed texts, JSON values and bytes for property tests, and what counts as reading them."""

import datetime
import json
import os

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import oneshot_tf as ost

SPACE = ost.bender2018()


# Hypothesis spends seconds on a thousand inputs. HOSTILE_INPUTS=3 tries three times as many.
MORE = int(os.environ.get("HOSTILE_INPUTS", "1"))


def hostile(count):
    """That many inputs, the same at every run."""
    return settings(
        max_examples=count * MORE,
        derandomize=True,
        database=None,
        deadline=datetime.timedelta(seconds=5),
        suppress_health_check=list(HealthCheck),
    )


def accepted(read, *arguments):
    """What a parser makes of something; None if it is refused."""
    try:
        return read(*arguments)
    except ost.InputError as error:
        assert str(error)
        return None


NAMES = ["prev1", "prev2", "block0", "block1", "block2", *SPACE.operations]
TOKENS = [*NAMES, "|", ":", "+", " ", "\n", "", "block9", "Prev1", "__class__", "\0", "'", "\ud800"]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([10**40, -1, 0, 1e308, "../../etc", "/", "\0", "nan", "\ud800", *NAMES])
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*NAMES, "blocks", "inputs", "operations", ""]), inner)
    ),
    max_leaves=12,
)
architecture_texts = st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=40).map(
    "".join
)


@st.composite
def near_architectures(draw):
    """The text of an architecture with some tokens changed."""
    text = str(SPACE.sample(np.random.default_rng(draw(st.integers(0, 10**6)))))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 6))
        text = text[:at] + draw(st.sampled_from(TOKENS)) + text[at + length :]
    return text


@st.composite
def changed_bytes(draw, original: bytes):
    """A file with some bytes replaced, cut out or put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 3) | st.integers(0, len(data)))
        tokens = [b",", b"\n", b'"', b"\xff", b"\0", b"9" * 30, b"-", b"nan", b"inf", b"]", b"{"]
        data[at : at + length] = draw(st.binary(max_size=6) | st.sampled_from(tokens))
    return bytes(data)


@st.composite
def changed_json(draw, original):
    """A JSON value in which something was replaced or removed."""
    value = json.loads(json.dumps(original))
    for _ in range(draw(st.integers(1, 2))):
        place, key = {"": value}, ""
        while isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 4)):
            place = place[key]
            names = sorted(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(names))
        if isinstance(place, dict) and key and draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(JSON)
        value = place[""] if "" in place and key == "" else value
    return json.dumps(value)
