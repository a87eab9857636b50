"""Names of units by what decides how long they take. Units of one name take the same time."""

from collections.abc import Sequence

import numpy as np

from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import CellPlan, Stack


def unit_names(space: CellSpace, stack: Stack, image_size: int) -> list[str]:
    """Returns the name of each unit, in the order of `space.stacking.unit_usage`.

    A name has the kind of the unit and the height, width and channels that it works on.

    Example:

        >>> unit_names(bender2018(num_blocks=1), Stack(1, 4), image_size=8)[:3]
        ['input 8x8x4 to 4', 'input 8x8x4 to 4', 'identity 8x8x4']

    Args:
        space: The search space.
        stack: The stack of the models.
        image_size: Height and width of the images.
    """
    plans = stack.plans(space)
    names = [name for plan in plans for name in _of_cell(space, plan, image_size)]
    last = plans[-1]
    features = space.num_blocks * last.width
    side = -(-image_size // last.divisor)
    return [
        *names,
        f"stem {_size(image_size, 3)} to {stack.filters}",
        f"classifier {_size(side, features)}",
    ]


# Convolutions, batch norms and poolings in a unit, by the first word of its name.
_STEPS = {
    "input": 1, "identity": 0, "max3x3": 1, "avg3x3": 1, "sep3x3": 6, "sep5x5": 6, "sep7x7": 6,
    "conv1x7_7x1": 4, "read": 1, "pooled": 2, "join": 3, "stem": 1, "classifier": 3,
}  # fmt: skip


def num_steps(names: Sequence[str]) -> np.ndarray:
    """Returns the number of steps of units with these names, float `[U]`."""
    return np.array([_STEPS[name.partition(" ")[0]] for name in names], float)


def _of_cell(space: CellSpace, plan: CellPlan, image_size: int) -> list[str]:
    side, width = -(-image_size // plan.divisor), plan.width
    widths = [i.width for i in plan.inputs] + [width] * (space.num_blocks - 1)
    names = []
    for block in range(space.num_blocks):
        names += [f"input {_size(side, w)} to {width}" for w in widths[: 2 + block]]
        names += [f"{operation} {_size(side, width)}" for operation in space.operations]
    for index, channels in enumerate(widths):
        kind, size = "read", _size(side, channels)
        if index < 2 and (plan.inputs[index].convolved or plan.inputs[index].stride > 1):
            outer = plan.inputs[index]
            before = -(-image_size // (plan.divisor // outer.stride))
            kind = "join" if outer.convolved else "pooled read"
            size = f"{_size(before, outer.source_width)} to {size}"
        names.append(f"{kind} {size}")
    return names


def _size(side: int, channels: int) -> str:
    return f"{side}x{side}x{channels}"
