"""Names of units by what decides how long they take. Units of one name take the same time."""

from collections.abc import Sequence

import numpy as np

from oneshot_tf.cost import bodies
from oneshot_tf.cost.names import size_text
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack


def unit_names(space: Space, stack: Stack, image_size: int) -> list[str]:
    """Returns the name of each unit, in the order of `space.kinds.unit_usage`.

    A name has the kind of the unit and the height, width and channels that it works on.

    Example:

        >>> unit_names(bender2018(num_blocks=1), Stack(1, 4), image_size=8)[:3]
        ['input 8x8x4 to 4', 'input 8x8x4 to 4', 'identity 8x8x4']

    Args:
        space: The search space.
        stack: The stack of the models.
        image_size: Height and width of the images.
    """
    body = bodies.of(space)
    features, divisor = body.features(space, stack)
    return [
        *body.body_names(space, stack, image_size),
        f"stem {size_text(image_size, 3)} to {stack.filters}",
        f"classifier {size_text(-(-image_size // divisor), features)}",
    ]


# Convolutions, batch norms and poolings in a unit, by the first word of its name.
_STEPS = {
    "input": 1, "identity": 0, "max3x3": 1, "avg3x3": 1, "sep3x3": 6, "sep5x5": 6, "sep7x7": 6,
    "conv1x7_7x1": 4, "read": 1, "pooled": 2, "join": 3, "stem": 1, "classifier": 3,
    "mobile": 4, "expansion": 2, "head": 1,
}  # fmt: skip

_OWN_STEPS = 3  # of an operation that a user made


def num_steps(names: Sequence[str]) -> np.ndarray:
    """Returns the number of steps of units with these names, float `[U]`."""
    return np.array([_STEPS.get(name.partition(" ")[0], _OWN_STEPS) for name in names], float)
