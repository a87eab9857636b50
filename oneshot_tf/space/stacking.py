"""How cells are stacked into a net: widths, reductions, joins, and what is in use.

`nn` builds this plan and `cost` counts it, so that there is one statement of
it. BUILD_NOTES.md (choices 2 to 4) says how the paper's parameter counts
settle what its text leaves open.
"""

import dataclasses
import numbers
from typing import Any

from oneshot_tf.space.cell_space import KEEP_CONSTANTS, CellSpace
from oneshot_tf.system.errors import InputError

_PAPERS_REDUCTIONS = 2  # for CIFAR-10


@dataclasses.dataclass(frozen=True)
class Stack:
    """What makes a net of a cell, but for its classifier (sections 3.1 and 4).

    Example:

        >>> Stack(num_cells=6, filters=16).reducing_cells
        frozenset({2, 4})

    Args:
        num_cells: cells in the stack; the paper's 6 for CIFAR-10, 8 for ImageNet.
        filters: channels of the stem and of the first cells' blocks (the paper's F).
        num_reductions: how often height and width are halved and the channels doubled: 0 to
            `num_cells` - 1, as each takes a cell, and the first cell is none of them. None for
            2, or for as many as the cells allow; then the attribute holds that number.
        stem_stride: by what the stem divides height and width: 1, 2 or 4.

    Raises:
        InputError: a value is not one of these.
    """

    num_cells: int = 6
    filters: int = 16
    num_reductions: int | None = None
    stem_stride: int = 1

    def __post_init__(self):
        self._check_whole("num_cells", 1)
        self._check_whole("filters", 1)
        most = self.num_cells - 1
        if self.num_reductions is None:
            object.__setattr__(self, "num_reductions", min(_PAPERS_REDUCTIONS, most))
        self._check_whole("num_reductions", 0)
        if self._reductions > most:
            raise InputError(
                f"`num_reductions` must be at most {most} with `num_cells`={self.num_cells}, one "
                f"less than the cells; got {self.num_reductions}. Give fewer reductions or more "
                "cells."
            )
        if self.stem_stride not in (1, 2, 4):
            raise InputError(f"`stem_stride` must be 1, 2 or 4; got {self.stem_stride!r}.")

    def _check_whole(self, name: str, least: int):
        value = getattr(self, name)
        if not isinstance(value, numbers.Integral) or value < least:
            raise InputError(f"`{name}` must be a whole number of at least {least}; got {value!r}.")

    @property
    def _reductions(self) -> int:
        return self.num_reductions or 0

    @property
    def reducing_cells(self) -> frozenset[int]:
        """Cells that halve height and width and double the filters: 2 and 4 of 6; 2, 4, 6 of 8."""
        parts = self._reductions + 1  # at most `num_cells`, so no two places fall together
        return frozenset(i * self.num_cells // parts for i in range(1, parts))

    def plans(self, space: CellSpace) -> tuple["CellPlan", ...]:
        """The cells, from the stem on."""
        width, divisor = self.filters, self.stem_stride
        sources = [(width, divisor)] * 2  # channels and divisor of prev2 and prev1: the stem
        cells = []
        for index in range(self.num_cells):
            reduces = index in self.reducing_cells
            if reduces:
                width, divisor = 2 * width, 2 * divisor
            prev2, prev1 = (
                InputPlan(channels, width if reduces else channels, divisor // source, reduces)
                for channels, source in sources
            )
            cells.append(CellPlan(width, divisor, (prev2, prev1)))
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


def unit_usage(space: CellSpace, num_cells: int, used: Any):
    """Which weights a row of masks really uses, as a list of arrays to concatenate on axis 1.

    A weight is in use where the loss depends on it: where its gradient is not
    zero (section 3.2, "parts of our model that are used by the current
    architecture"). A path that is on can still be dead weight:

    - anything in a cell that no later cell reads;
    - an input of a block whose operations are all off;
    - an input that reads a *constant* tensor, one that has the same value at
      each pixel of each image of the ghost batch. Its BN-ReLU and 1x1
      convolution give constants, which identity and pooling hand on (the
      average leaves the padding out), and which the next BN removes.

    A block's output is constant if it has no convolution among its operations
    and reads only constants, or nothing. A convolution pads a constant with
    zeros after its BN-ReLU, so its output varies towards the border, and its
    own weights are in use whatever the block reads. A cell's output is constant
    if all its blocks' are; the stem's never is. A weight that serves several
    paths is in use where any of them is.

    Members of a space have no constant tensors: each block reads something. What
    this rule leaves out depends on sizes and values, not on masks: at heights
    and widths of 1 or 2, padding or pooling can make a varying tensor constant;
    and where every ReLU of a layer gives zeros, its weights have no gradient.

    Written with `*`, `-` and slices only, so that NumPy arrays and tensors alike go in.

    Args:
        space: the space of the masks.
        num_cells: cells in the stack.
        used: `[A, P]` of 0.0 and 1.0.

    Returns:
        Arrays `[A, n]` of 0.0 and 1.0 whose widths add up to `num_units`.
    """
    one = used[:, :1] * 0.0 + 1.0
    columns = [used[:, path : path + 1] for path in range(space.num_paths)]
    cells, varies = [], [one, one]  # whether what the next cell reads, prev2 and prev1, varies
    for _ in range(num_cells):
        paths, reads, output_varies = _cell_usage(space, columns, varies)
        cells.append((paths, reads))
        varies = [varies[1], output_varies]

    alive = _alive(cells, one)
    stem = [read * alive[0] for read in cells[0][1][:2]]
    if num_cells > 1:
        stem.append(cells[1][1][0] * alive[1])
    units = [c * on for (paths, reads), on in zip(cells, alive) for c in paths + reads]
    return units + [_any(stem), one]


def _cell_usage(space: Any, columns: Any, varies: Any):
    """Of one cell that is read: usage of its paths, usage of its reads, whether its output varies.

    Args:
        space: the space of the masks.
        columns: `[A, 1]` for each path: whether it is on.
        varies: `[A, 1]` for prev2 and prev1: whether that tensor is not constant.
    """
    varies = list(varies)  # of prev2, prev1, block0, …
    paths: list[Any] = []
    reads: list[list[Any]] = [[] for _ in range(num_reads(space))]
    for block in range(space.num_blocks):
        operations = [columns[path] for path in space.operation_paths(block)]
        any_operation = _any(operations)
        inputs = [columns[p] * v for p, v in zip(space.input_paths(block), varies)]
        convolutions = [
            column
            for name, column in zip(space.operations, operations)
            if name not in KEEP_CONSTANTS
        ]
        used_inputs = [column * any_operation for column in inputs]
        for readers, column in zip(reads, used_inputs):
            readers.append(column)
        paths += used_inputs + operations
        varies.append(_any(used_inputs + convolutions))
    return paths, [_any(readers) for readers in reads], _any(varies[2:])


def _alive(cells: list[tuple[Any, Any]], one: Any) -> list[Any]:
    """`[A, 1]` for each cell: whether a cell that is alive reads it; the last one always is."""
    alive = [one] * len(cells)
    for cell in reversed(range(len(cells) - 1)):
        readers = [cells[cell + 1][1][1] * alive[cell + 1]]  # the next cell reads it as prev1
        if cell + 2 < len(cells):
            readers.append(cells[cell + 2][1][0] * alive[cell + 2])
        alive[cell] = _any(readers)
    return alive


def _any(columns: Any):
    none = 1.0
    for column in columns:
        none = none * (1.0 - column)
    return 1.0 - none
