"""What the body of each kind of space costs."""

from types import ModuleType

from oneshot_tf.cost import cells, chains
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.chain_space import ChainSpace
from oneshot_tf.space.space import Space

_BODIES: dict[type[Space], ModuleType] = {CellSpace: cells, ChainSpace: chains}


def of(space: Space) -> ModuleType:
    """Returns the module of a kind.

    It has `body_costs`, `body_names`, `features`, `activation_bytes` and `STEM_NORM`.
    """
    return _BODIES[type(space)]
