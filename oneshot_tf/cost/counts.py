"""Counts parameters and multiply-adds of architectures, without building models.

The counts are exact. A test compares `parameters` with the variables of built stand-alone models.
"""

import functools
from collections.abc import Iterable

import numpy as np

from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import Stack, num_reads, unit_usage

_SEPARABLE = {"sep3x3": 3, "sep5x5": 5, "sep7x7": 7}
_ROWS = 4096  # rows of masks at a time, so that their units fit into a cache


def usage(space: CellSpace, num_cells: int, architectures: Iterable[Architecture]) -> np.ndarray:
    """Returns which units each architecture uses: float32 `[A, U]` of 0 and 1."""
    return np.concatenate(unit_usage(space, num_cells, space.masks(architectures)), axis=1)


def costs(
    space: CellSpace,
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
    space: CellSpace,
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
    space: CellSpace,
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
    space: CellSpace, masks: np.ndarray, stack: Stack, num_classes: int, image_size: int
) -> np.ndarray:
    """Returns the multiply-adds of `multiply_adds` for rows of masks: int64 `[A]`.

    The rows need not be architectures. For example, path dropout can draw them.
    """
    used = (masks != 0).astype(np.float32)
    return _costs_of_masks(space, used, stack, num_classes, image_size)[1]


def _costs_of_masks(
    space: CellSpace, used: np.ndarray, stack: Stack, num_classes: int, image_size: int
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
def unit_costs(space: CellSpace, stack: Stack, num_classes: int, image_size: int) -> np.ndarray:
    """Returns each unit's parameters and multiply-adds for one image: int64 `[U, 2]`.

    The units are in the order of `space.stacking.unit_usage`.
    """
    units = []
    cells = stack.plans(space)
    for cell in cells:
        width = cell.width
        pixels = (-(-image_size // cell.divisor)) ** 2
        read_widths = [i.width for i in cell.inputs] + [width] * (num_reads(space) - 2)
        for block in range(space.num_blocks):
            for read_width in read_widths[: 2 + block]:
                units.append((read_width * width, read_width * width * pixels))
            for name in space.operations:
                weights, betas = _operation(name, width)
                units.append((weights + betas, weights * pixels))
        for i, read_width in enumerate(read_widths):
            weights = betas = 0
            if i < 2 and cell.inputs[i].convolved:
                betas = cell.inputs[i].source_width
                weights = betas * width
            units.append((weights + betas + read_width, weights * pixels))
    features = space.num_blocks * cells[-1].width
    units.append(_stem(stack.filters, stack.stem_stride, image_size))
    units.append((features + features * num_classes + num_classes, features * num_classes))
    return np.array(units, np.int64)


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


def _operation(name: str, width: int) -> tuple[int, int]:
    """Returns convolution weights and batch norms' betas of an operation on `width` channels."""
    if name in _SEPARABLE:
        return 2 * (_SEPARABLE[name] ** 2 * width + width**2), 2 * width
    if name == "conv1x7_7x1":
        return 14 * width**2, 2 * width
    return 0, 0


def activation_bytes(space: CellSpace, stack: Stack, image_size: int) -> int:
    """Returns an upper bound on the memory for the activations of one image in evaluation.

    The bound is in bytes, for float32. It is that of the largest cell at its widest moment: both
    inputs, the tensors read from them, everything inside the cell, and its output twice (the
    blocks and their concatenation).
    """
    # A stem of stride 4 holds the tensor between its convolutions, before and after BN-ReLU.
    most = 4 * 3 * stack.filters * (-(-image_size // 2)) ** 2 if stack.stem_stride == 4 else 0
    for plan in stack.plans(space):
        outer = sum(i.source_width * i.stride**2 * 2 + i.width for i in plan.inputs)
        inner = (3 * space.num_blocks + 4) * plan.width
        size = -(-image_size // plan.divisor)
        most = max(most, 4 * size * size * (outer + inner))
    return most
