"""What batch norms inside a user's layer must know, which Keras does not pass on."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Values for `GhostBatchNorm` where its caller gives none.

    Args:
        num_ghosts, micro_batch: As in its call.
        moving_averages: As in its constructor.
    """

    num_ghosts: int = 1
    micro_batch: tf.Tensor | tuple[int, int] = (0, 1)
    moving_averages: bool = False


_OUTSIDE = Surroundings()
_CURRENT = contextvars.ContextVar[Surroundings]("surroundings", default=_OUTSIDE)


def current() -> Surroundings:
    """Returns the values of the innermost `inside`."""
    return _CURRENT.get()


@contextlib.contextmanager
def inside(**values: Any) -> Iterator[None]:
    """Changes values for the code of a `with` statement."""
    token = _CURRENT.set(dataclasses.replace(current(), **values))
    try:
        yield
    finally:
        _CURRENT.reset(token)
