"""Operations that users make of Keras layers."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from oneshot_tf.system.errors import InputError, short

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


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


def own_operations(
    menu: Mapping[Any, Any], is_known: Callable[[Any], bool]
) -> tuple[OwnOperation, ...]:
    """Returns the operations of a menu that have functions.

    Args:
        menu: From names to functions. None stands for the known operation of a name.
        is_known: Says whether a name is taken.

    Raises:
        InputError: A name has another form or is taken, or there is no function.
    """
    found = []
    for name, make in menu.items():
        if make is None:
            continue
        if not isinstance(name, str) or not _NAME.fullmatch(name) or is_known(name):
            raise InputError(
                "An operation of your own must have a name of lower-case letters, digits and '_' "
                f"that is not taken; got {short(name)}."
            )
        if not callable(make):
            raise InputError(
                f"The operation '{name}' must have a function make(width); got {make!r}."
            )
        found.append(OwnOperation(name, make))
    return tuple(found)


def refuse_own(names: set[str]) -> None:
    """Refuses to make a space from plain values if it has operations of its own.

    Raises:
        InputError: There are such names.
    """
    if names:
        raise InputError(
            f"This space has operations of its own ({', '.join(sorted(names))}), which plain "
            "values cannot hold. Make it again from your code."
        )
