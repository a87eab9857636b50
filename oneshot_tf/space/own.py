"""Operations that users make of Keras layers."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class OwnOperation:
    """An operation with a function that makes its layer.

    Args:
        name: Its name in the texts of architectures.
        make: `make(width)`, or `make(width, stride)` for layers with a stride, returns a new Keras
            layer. It maps `[B, H, W, C]` to `[B, H / stride, W / stride, width]`.
    """

    name: str
    make: Callable[..., Any]

    def make_layer(self, width: int, stride: int) -> Any:
        """Returns a new layer.

        Raises:
            InputError: The stride is above 1, and `make` takes only the width.
        """
        if len(inspect.signature(self.make).parameters) > 1:
            return self.make(width, stride)
        if stride > 1:
            raise InputError(
                f"The operation '{self.name}' is in a layer of stride {stride}, so its function "
                "must take the stride, too: make(width, stride)."
            )
        return self.make(width)
