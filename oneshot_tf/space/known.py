"""The search spaces that `--space` names."""

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable

from oneshot_tf.space.cell_space import bender2018
from oneshot_tf.space.chain_space import digits_chain, mobile_chain
from oneshot_tf.space.space import Space
from oneshot_tf.system.errors import InputError, plain

SPACES: dict[str, Callable[[], Space]] = {
    "bender2018": bender2018,
    "digits_chain": digits_chain,
    "mobile_chain": mobile_chain,
}
"""The spaces by name."""

_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class MissingSpace(InputError):
    """A space of one's own cannot be imported."""


@functools.cache
def find(name: str) -> Space:
    """Returns the space of a name: one of `SPACES`, or `package.module:NAME` for one of your own.

    `NAME` must be a space in this module, not a function.

    Raises:
        InputError: There is no such space.
        MissingSpace: Its module cannot be imported, or does not have it.
    """
    if name in SPACES:
        return SPACES[name]()
    if not _OWN.fullmatch(name):
        raise InputError(
            f"--space must be one of {', '.join(SPACES)}, or package.module:NAME for a space of "
            f"your own; got {name}."
        )
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    try:
        if here not in sys.path:
            sys.path.append(here)  # last, so that no file of the folder hides a library
        found = getattr(importlib.import_module(module), attribute, None)
    except InputError as error:
        raise MissingSpace(f"--space={name}: {error}") from None
    except Exception as error:  # whatever the user's module raises
        raise MissingSpace(
            f"--space={name}: the module {module} cannot be imported ({type(error).__name__}: "
            f"{plain(error)}). Run the program in the folder of the module, or install it."
        ) from None
    if not isinstance(found, Space):
        raise MissingSpace(
            f"--space={name}: {attribute} in {module} must be a space, for example {attribute} = "
            f"ost.ChainSpace(...); got {'nothing' if found is None else type(found).__name__}."
        )
    return found
