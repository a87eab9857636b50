"""The kinds of spaces that one-shot models can be built of."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from oneshot_tf.space import chain_units, stacking
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.chain_space import ChainSpace
from oneshot_tf.space.space import Space
from oneshot_tf.system.errors import InputError, short

_UNITS: dict[type[Space], ModuleType] = {CellSpace: stacking, ChainSpace: chain_units}
_READERS: dict[Any, Callable[[dict], Space]] = {
    "cell": CellSpace.from_dict,
    "chain": ChainSpace.from_dict,
}


def unit_usage(space: Space, num_cells: int, used: Any) -> list[Any]:
    """Returns the weights that rows of masks use, as a list of arrays to concatenate on axis 1.

    A unit is a set of weights that is in use or unused as a whole. The last two are the stem and
    the classifier. See the modules of the kinds: `space.stacking` and `space.chain_units`.

    Args:
        space: The search space of the masks.
        num_cells: Cells in the stack, if the space is one of cells.
        used: `[A, P]` of 0.0 and 1.0; a NumPy array or a tensor.
    """
    return _UNITS[type(space)].unit_usage(space, num_cells, used)


def num_units(space: Space, num_cells: int) -> int:
    """Returns the number of units, the columns of `unit_usage`."""
    return _UNITS[type(space)].num_units(space, num_cells)


def from_dict(values: Any) -> Space:
    """Returns the space that `to_dict` describes.

    Raises:
        InputError: `values` describe no space.
    """
    kind = values.get("kind", "cell") if isinstance(values, dict) else None
    if kind not in _READERS:
        raise InputError(
            f"A search space must be of the kind {' or '.join(_READERS)}; got {short(values)}."
        )
    return _READERS[kind](values)
