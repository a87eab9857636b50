"""Finds the kinds of device that this process computes on."""

import contextlib
from collections.abc import Iterable

import tensorflow as tf

_assumed = None


def accelerators() -> set[str]:
    """Returns which of "GPU" and "TPU" are available; empty if there is only a CPU."""
    if _assumed is not None:
        return set(_assumed)
    return {kind for kind in ("GPU", "TPU") if tf.config.list_logical_devices(kind)}


@contextlib.contextmanager
def assumed(kinds: Iterable[str]):
    """Assumes other accelerators inside the context, to plan for another machine.

    Args:
        kinds: Which of "GPU" and "TPU" to assume.
    """
    global _assumed
    before, _assumed = _assumed, set(kinds)
    try:
        yield
    finally:
        _assumed = before
