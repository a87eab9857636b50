"""The layers of a chain, with their menus of operations."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from oneshot_tf.space.own import OwnOperation, own_operations
from oneshot_tf.system.errors import InputError, short

SKIP = "skip"
"""The operation that passes the input on. It has no path."""

MOBILE = re.compile(r"mb([1-9])k([3579])")
"""The name of an inverted bottleneck (MBConv): its expansion and the size of its kernel."""


def is_known(name: Any) -> bool:
    """Returns whether a name is that of an inverted bottleneck, or `skip`."""
    return isinstance(name, str) and (name == SKIP or MOBILE.fullmatch(name) is not None)


@dataclasses.dataclass(frozen=True)
class Layer:
    """Layers of a chain that have one menu and one width.

    Example:

        >>> Layer(("mb3k3", "mb3k5", "skip"), width=24, stride=2, repeats=4).repeats
        4

    Args:
        operations: The menu: names such as `mb3k5` (expansion 3, kernel 5) or `skip`. Or a dict
            from names to functions for operations of your own; None stands for the operation of
            that name above. `make(width)` returns a new Keras layer that maps `[B, H, W, C]` to
            `[B, H, W, width]`. With a stride, it must be `make(width, stride)`. A layer without a
            residual connection cannot skip. There, the menu lacks `skip`.
        width: Number of channels, if the stem has the `filters` of the space.
        stride: Factor by which the first of the layers divides height and width, 1 or 2.
        repeats: Number of layers, at least 1.

    Raises:
        InputError: A value has a wrong type or is out of its range.
    """

    operations: tuple[str, ...]
    width: int
    stride: int = 1
    repeats: int = 1
    own: tuple[OwnOperation, ...] = dataclasses.field(default=(), init=False)

    def __post_init__(self) -> None:
        names: Any = self.operations
        if isinstance(names, Mapping):
            object.__setattr__(self, "own", own_operations(names, is_known))
            names = tuple(names)
        if isinstance(names, str) or not isinstance(names, (tuple, list)):
            raise InputError(f"`operations` must be a list of names; got {short(names)}.")
        if all(name == SKIP for name in names):
            raise InputError(
                f"`operations` must hold an operation besides '{SKIP}', for example 'mb3k3'; got "
                f"{short(names)}."
            )
        known = {operation.name for operation in self.own}
        for index, name in enumerate(names):
            if not is_known(name) and not (isinstance(name, str) and name in known):
                raise InputError(
                    "`operations` must be among mb1k3 to mb9k9 (expansion 1 to 9, kernel 3, 5, 7 "
                    f"or 9) and {SKIP}, or have functions of their own; got {short(name)}."
                )
            if name in names[:index]:
                raise InputError(f"`operations` must hold each name once; got '{name}' twice.")
        object.__setattr__(self, "operations", tuple(names))
        for field, least, most in (("width", 1, 2**16), ("stride", 1, 2), ("repeats", 1, 64)):
            value = getattr(self, field)
            if not isinstance(value, int) or not least <= value <= most:
                raise InputError(
                    f"`{field}` must be a whole number from {least} to {most:,}; got {value!r}."
                )
