"""What kinds of device this process computes on: no more than that, and nothing of nets."""

import contextlib
from collections.abc import Iterable

import tensorflow as tf

_assumed = None


def accelerators() -> set[str]:
    """Which of "GPU" and "TPU" there are; empty on a CPU alone."""
    if _assumed is not None:
        return set(_assumed)
    return {kind for kind in ("GPU", "TPU") if tf.config.list_logical_devices(kind)}


@contextlib.contextmanager
def assumed(kinds: Iterable[str]):
    """Graphs made inside are those of a machine with these accelerators, to plan for it."""
    global _assumed
    before, _assumed = _assumed, set(kinds)
    try:
        yield
    finally:
        _assumed = before
