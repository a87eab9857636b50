"""Counts parameters and multiply-adds of architectures, without building models.

The counts are exact. A test compares `parameters` with the variables of built stand-alone models.
"""

import functools
from collections.abc import Iterable

import numpy as np

from oneshot_tf.cost import bodies
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.kinds import unit_usage
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack

_ROWS = 4096  # rows of masks at a time, so that their units fit into a cache


def usage(space: Space, num_cells: int, architectures: Iterable[Architecture]) -> np.ndarray:
    """Returns which units each architecture uses: float32 `[A, U]` of 0 and 1."""
    return np.concatenate(unit_usage(space, num_cells, space.masks(architectures)), axis=1)


def costs(
    space: Space,
    architectures: Iterable[Architecture],
    stack: Stack,
    num_classes: int,
    image_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `parameters` and `multiply_adds` of stand-alone models, int64 `[A]` each.

    It counts both in one pass. Memory grows with the masks, `[A, P]`, not with the number of units.
    """
    return _costs_of_masks(space, space.masks(architectures), stack, num_classes, image_size)


def parameters(
    space: Space,
    architectures: Iterable[Architecture],
    stack: Stack,
    num_classes: int,
) -> np.ndarray:
    """Returns the trainable parameters of stand-alone models: int64 `[A]`.

    The betas of batch norms are included.

    Example:

        >>> space = bender2018()
        >>> parameters(space, [space.all_on()], Stack(6, 16), num_classes=10).tolist()
        [1277258]
    """
    return costs(space, architectures, stack, num_classes, 1)[0]


def multiply_adds(
    space: Space,
    architectures: Iterable[Architecture],
    stack: Stack,
    num_classes: int,
    image_size: int,
) -> np.ndarray:
    """Returns the multiply-adds of convolutions and classifier for one image: int64 `[A]`.

    Example:

        >>> space = bender2018()
        >>> len(multiply_adds(space, [space.all_on()], Stack(6, 16), 10, image_size=32))
        1
    """
    return costs(space, architectures, stack, num_classes, image_size)[1]


def multiply_adds_of_masks(
    space: Space, masks: np.ndarray, stack: Stack, num_classes: int, image_size: int
) -> np.ndarray:
    """Returns the multiply-adds of `multiply_adds` for rows of masks: int64 `[A]`.

    The rows need not be architectures. For example, path dropout can draw them.
    """
    used = (masks != 0).astype(np.float32)
    return _costs_of_masks(space, used, stack, num_classes, image_size)[1]


def _costs_of_masks(
    space: Space, used: np.ndarray, stack: Stack, num_classes: int, image_size: int
):
    """Returns parameters and multiply-adds for rows of `used`, float32 `[A, P]` of 0 and 1."""
    units = unit_costs(space, stack, num_classes, image_size)
    totals = np.zeros([len(used), 2], np.int64)
    for start in range(0, len(used), _ROWS):
        # `unit_usage` works column by column, so contiguous columns are faster.
        rows = np.asfortranarray(used[start : start + _ROWS])
        columns = np.concatenate(unit_usage(space, stack.num_cells, rows), axis=1)
        totals[start : start + _ROWS] = columns.astype(np.int64) @ units
    return totals[:, 0], totals[:, 1]


@functools.lru_cache(maxsize=64)
def unit_costs(space: Space, stack: Stack, num_classes: int, image_size: int) -> np.ndarray:
    """Returns each unit's parameters and multiply-adds for one image: int64 `[U, 2]`.

    The units are in the order of `space.kinds.unit_usage`.
    """
    body = bodies.of(space)
    features = body.features(space, stack)[0]
    weights, multiply_adds = _stem(stack.filters, stack.stem_stride, image_size)
    return np.array(
        [
            *body.body_costs(space, stack, image_size),
            (weights + body.STEM_NORM * stack.filters, multiply_adds),
            # The batch norm before the classifier belongs to it.
            (features + features * num_classes + num_classes, features * num_classes),
        ],
        np.int64,
    )


def _stem(filters: int, stride: int, image_size: int) -> tuple[int, int]:
    """Returns the stem's parameters and multiply-adds per image.

    The stem is a 3x3 convolution, with stride 2 if it divides by 2. A stem that divides by 4 has a
    batch norm and a second convolution.
    """
    first = 3 * 3 * 3 * filters
    if stride < 4:
        return first, first * (-(-image_size // stride)) ** 2
    second = 3 * 3 * filters**2
    pixels = [(-(-image_size // s)) ** 2 for s in (2, 4)]
    return first + filters + second, first * pixels[0] + second * pixels[1]


def activation_bytes(space: Space, stack: Stack, image_size: int) -> int:
    """Returns an upper bound on the memory for the activations of one image in evaluation.

    The bound is in bytes, for float32.
    """
    # A stem of stride 4 holds the tensor between its convolutions, before and after BN-ReLU.
    stem = 4 * 3 * stack.filters * (-(-image_size // 2)) ** 2 if stack.stem_stride == 4 else 0
    return max(stem, bodies.of(space).activation_bytes(space, stack, image_size))
