"""How cells form a model: widths, reductions, joins, and the weights in use.

`nn` builds this plan and `cost` counts it, so the plan is written once. The paper's text leaves
some points open, and its parameter counts settle them; see docs/paper.md (choices 2 to 4).
"""

import dataclasses
import numbers
from typing import Any

from oneshot_tf.space.cell_space import KEEP_CONSTANTS, CellSpace
from oneshot_tf.system.errors import InputError

_PAPERS_REDUCTIONS = 2  # for CIFAR-10


@dataclasses.dataclass(frozen=True)
class Stack:
    """The plan that makes a model of a cell, except its classifier (sections 3.1 and 4).

    Example:

        >>> Stack(num_cells=6, filters=16).reducing_cells
        frozenset({2, 4})

    Args:
        num_cells: Cells in the stack. The paper has 6 for CIFAR-10 and 8 for ImageNet.
        filters: Channels of the stem and of the first cells' blocks (the paper's F).
        num_reductions: Number of cells that halve height and width and double the channels, 0 to
            `num_cells` - 1. The first cell never does. None takes 2, or as many as the cells allow;
            the attribute then holds that number.
        stem_stride: Factor by which the stem divides height and width: 1, 2 or 4.

    Raises:
        InputError: A value has a wrong type or is out of its range.
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
                f"`num_reductions` must be at most {most}, one less than `num_cells`; got "
                f"{self.num_reductions} with {self.num_cells} cells. Give fewer reductions or more "
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
        """The cells that halve height and width and double the channels.

        Two reductions in 6 cells are cells 2 and 4. Three in 8 cells are cells 2, 4 and 6.
        """
        parts = self._reductions + 1  # at most `num_cells`, so all places differ
        return frozenset(i * self.num_cells // parts for i in range(1, parts))

    def plans(self, space: CellSpace) -> tuple["CellPlan", ...]:
        """Returns the plans of the cells, from the stem on."""
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
    """One of the two outer inputs of a cell: an earlier cell's output, or the stem's.

    Args:
        source_width: Channels of the tensor at its source.
        width: Channels of the tensor as the blocks of this cell read it.
        stride: Factor that divides its height and width on the way; 1 keeps them.
        convolved: Whether its join is a BN-ReLU-1x1 convolution with that stride. Otherwise average
            pooling applies the stride, if it is not 1.
    """

    source_width: int
    width: int
    stride: int
    convolved: bool


@dataclasses.dataclass(frozen=True)
class CellPlan:
    """One cell of the stack.

    Args:
        width: Channels of each block. The cell's output has `num_blocks` times as many.
        divisor: The cell's height and width are those of the image divided by this, rounded up.
        inputs: The plans of `prev2` and `prev1`.
    """

    width: int
    divisor: int
    inputs: tuple[InputPlan, InputPlan]


# A *unit* is a set of weights that is in use or unused as a whole. The units of a model, in order:
# for each cell its P paths, then its reads (the tensors prev2, prev1, block0, …: their batch norms
# and, for the first two, the 1x1 convolution of their join); then the stem, then the classifier.


def num_reads(space: CellSpace) -> int:
    """Returns the number of tensors that the blocks of a cell can read.

    These are the two outer inputs and the outputs of all blocks except the last.
    """
    return 2 + space.num_blocks - 1


def num_units(space: CellSpace, num_cells: int) -> int:
    """Returns the number of columns of `unit_usage`."""
    return num_cells * (space.num_paths + num_reads(space)) + 2


def unit_usage(space: CellSpace, num_cells: int, used: Any):
    """Returns the weights that a row of masks uses, as a list of arrays to concatenate on axis 1.

    A weight is in use if the loss depends on it, so that its gradient is not zero (section 3.2,
    "parts of our model that are used by the current architecture"). A path can be on and yet have
    unused weights:

    - Any path in a cell that no later cell reads.
    - An input of a block whose operations are all off.
    - An input that reads a *constant* tensor. Such a tensor has one value per channel at all pixels
      of all images of the ghost batch. Its BN-ReLU and 1x1 convolution give constants. Identity
      and pooling pass constants on (the average leaves the padding out), and the next batch norm
      removes them.

    A block's output is constant if the block has no convolution among its operations and reads only
    constants, or nothing. A convolution pads a constant with zeros after its BN-ReLU, so its output
    varies towards the border. Its weights are in use for every input of the block. A cell's output
    is constant if all its blocks' outputs are. The stem's output is never constant. A weight shared
    by several paths is in use if any of them is.

    Members of a space have no constant tensors, because each block reads something. This rule
    ignores effects of sizes and values. At heights and widths of 1 or 2, padding or pooling can
    make a varying tensor constant. If every ReLU of a layer gives zeros, its weights have no
    gradient.

    The code uses only `*`, `-` and slices, so it takes both NumPy arrays and tensors.

    Args:
        space: The search space of the masks.
        num_cells: Cells in the stack.
        used: `[A, P]` of 0.0 and 1.0.

    Returns:
        Arrays `[A, n]` of 0.0 and 1.0 whose widths add up to `num_units`.
    """
    one = used[:, :1] * 0.0 + 1.0
    columns = [used[:, path : path + 1] for path in range(space.num_paths)]
    cells, varies = [], [one, one]  # whether the next cell's prev2 and prev1 vary
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
    """Returns the usage of one cell, if later cells read it.

    Args:
        space: The search space of the masks.
        columns: `[A, 1]` for each path: whether it is on.
        varies: `[A, 1]` for prev2 and prev1: whether the tensor varies.

    Returns:
        The usage of its paths, the usage of its reads, and whether its output varies.
    """
    varies = list(varies)  # for prev2, prev1, block0, …
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
    """Returns `[A, 1]` for each cell: whether it is alive.

    The last cell is alive. Another cell is alive if a cell that is alive reads it.
    """
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
