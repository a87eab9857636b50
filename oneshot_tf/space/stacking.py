"""How cells are stacked into a net: widths, reductions, joins, and what is in use.

`nn` builds this plan and `cost` counts it, so that there is one statement of
it. BUILD_NOTES.md (choices 2 to 4) says how the paper's parameter counts
settle what its text leaves open.
"""

import dataclasses
import numbers

from oneshot_tf.errors import InputError
from oneshot_tf.space.cell_space import CellSpace


@dataclasses.dataclass(frozen=True)
class Stack:
    """What makes a net of a cell, but for its classifier (sections 3.1 and 4).

    Args:
        num_cells: cells in the stack; the paper's 6 for CIFAR-10, 8 for ImageNet.
        filters: channels of the stem and of the first cells' blocks (the paper's F).
        num_reductions: how often height and width are halved and the channels doubled.
        stem_stride: by what the stem divides height and width: 1, 2 or 4.

    Raises:
        InputError: a value that isn't one of these.
    """

    num_cells: int = 6
    filters: int = 16
    num_reductions: int = 2
    stem_stride: int = 1

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name == "num_reductions" else 1
            if not isinstance(value, numbers.Integral) or value < least:
                raise InputError(f"{name}={value!r}; needed is a whole number from {least}.")
        if self.stem_stride not in (1, 2, 4):
            raise InputError(f"stem_stride={self.stem_stride}; needed is 1, 2 or 4.")

    @property
    def reducing_cells(self) -> frozenset[int]:
        """Cells that halve height and width and double the filters: 2 and 4 of 6; 2, 4, 6 of 8."""
        parts = self.num_reductions + 1
        return frozenset(i * self.num_cells // parts for i in range(1, parts)) - {0}

    def plans(self, space: CellSpace) -> tuple["CellPlan", ...]:
        """The cells, from the stem on."""
        width, divisor = self.filters, self.stem_stride
        sources = [(width, divisor)] * 2  # channels and divisor of prev2 and prev1: the stem
        cells = []
        for index in range(self.num_cells):
            reduces = index in self.reducing_cells
            if reduces:
                width, divisor = 2 * width, 2 * divisor
            inputs = tuple(
                InputPlan(channels, width if reduces else channels, divisor // source, reduces)
                for channels, source in sources
            )
            cells.append(CellPlan(width, divisor, inputs))
            sources = [sources[1], (space.num_blocks * width, divisor)]
        return tuple(cells)


@dataclasses.dataclass(frozen=True)
class InputPlan:
    """One of the two cell outputs (or the stem's) that a cell reads.

    Args:
        source_width: channels of the tensor as it was made.
        width: channels as the blocks of this cell read it.
        stride: by how much its height and width are divided on the way, 1 for not at all.
        convolved: whether a BN-ReLU-1x1 convolution with that stride brings it
            here; otherwise it is average-pooled where the stride asks for it.
    """

    source_width: int
    width: int
    stride: int
    convolved: bool


@dataclasses.dataclass(frozen=True)
class CellPlan:
    """One cell of the stack.

    Args:
        width: channels of each of its blocks; the cell's output has `num_blocks` times as many.
        divisor: its height and width are the image's divided by this, rounded up.
        inputs: `prev2` and `prev1`.
    """

    width: int
    divisor: int
    inputs: tuple[InputPlan, InputPlan]


# A *unit* is a set of weights that is in use or not as a whole. Units of a net, in order:
# per cell its P paths, then its reads (prev2, prev1, block0, … as tensors: their BN and,
# for the first two, the 1x1 convolution that joins them); then the stem, then the head.


def num_reads(space: CellSpace) -> int:
    """Tensors that the blocks of a cell can read: all but the last block's output."""
    return 2 + space.num_blocks - 1


def num_units(space: CellSpace, num_cells: int) -> int:
    """How many columns `unit_usage` has."""
    return num_cells * (space.num_paths + num_reads(space)) + 2


def unit_usage(space: CellSpace, num_cells: int, used):
    """Which weights a row of masks really uses, as a list of arrays to concatenate on axis 1.

    A path that is on can still be dead weight: an input of a block all of
    whose operations are off; anything in a cell that no later cell reads. A
    weight that serves several paths is in use where any of them is (the
    largest mask within a row; section 3.2, "parts of our model that are used
    by the current architecture").

    Written with `*`, `-` and slices only, so that NumPy arrays and tensors alike go in.

    Args:
        space: the space of the masks.
        num_cells: cells in the stack.
        used: `[A, P]` of 0.0 and 1.0.

    Returns:
        Arrays `[A, n]` of 0.0 and 1.0 whose widths add up to `num_units`.
    """
    path_used, read = [], [None] * num_reads(space)
    for block in range(space.num_blocks):
        operations = [used[:, p : p + 1] for p in space.operation_paths(block)]
        any_operation = _any(operations)
        for i, path in enumerate(space.input_paths(block)):
            column = used[:, path : path + 1] * any_operation
            path_used.append(column)
            read[i] = column if read[i] is None else _any([read[i], column])
        path_used.extend(operations)

    one = used[:, :1] * 0.0 + 1.0
    alive = [one] * num_cells
    for cell in reversed(range(num_cells - 1)):
        readers = [read[1] * alive[cell + 1]]  # the next cell reads it as prev1
        if cell + 2 < num_cells:
            readers.append(read[0] * alive[cell + 2])
        alive[cell] = _any(readers)
    stem = [read[0] * alive[0], read[1] * alive[0]]
    if num_cells > 1:
        stem.append(read[0] * alive[1])

    cells = [column * alive[cell] for cell in range(num_cells) for column in path_used + read]
    return cells + [_any(stem), one]


def _any(columns):
    none = 1.0
    for column in columns:
        none = none * (1.0 - column)
    return 1.0 - none
