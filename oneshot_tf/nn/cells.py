"""The body of a model of cells: what is between stem and classifier."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.nn.cell import Cell
from oneshot_tf.nn.operations import LayerFactory
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import Stack, num_reads


class Cells:
    """Stacked cells (section 3.1). It has the attributes and methods of every body.

    Args:
        factory: Makes the layers' parts; see `LayerFactory`.
        space: The search space of the cells.
        stack: The number of cells, their width, and the places of the reductions.
        units: Which units to build, bool `[U]`; see `space.stacking`.

    Attributes:
        layers: The Keras layers, for the model to track. None stands for a cell that is not built.
        features: Channels of the output.
        depth: The number of cells.
    """

    def __init__(self, factory: LayerFactory, space: CellSpace, stack: Stack, units: np.ndarray):
        plans = stack.plans(space)
        self._units_per_cell = space.num_paths + num_reads(space)
        self.layers: list[Cell | None] = []
        for index, (plan, present) in enumerate(zip(plans, np.split(units[:-2], stack.num_cells))):
            name = f"cell{index}"
            cell = Cell(factory, space, plan, present, name=name) if present.any() else None
            self.layers.append(cell)
        self.features, self.depth = space.num_blocks * plans[-1].width, stack.num_cells

    def kernels(self) -> Iterator[tuple[keras.Variable, int]]:
        """Yields each variable under L2 regularisation, and its unit."""
        for index, cell in enumerate(self.layers):
            if cell is not None:
                for variable, unit in cell.kernels:
                    yield variable, index * self._units_per_cell + unit

    def begin(self, stem: tf.Tensor, context: dict[str, Any]) -> tf.Tensor:
        """Returns what the first cell reads: the stem's output as it is."""
        return stem

    def outputs(
        self, stem: tf.Tensor, paths: Any, context: dict[str, Any]
    ) -> Iterator[tuple[str, tf.Tensor]]:
        """Yields name and output of each cell.

        Args:
            stem: The stem's output, `[B, h, w, F]`.
            paths: An object of `nn.paths`.
            context: Arguments of the batch norms.
        """
        prev2 = prev1 = self.begin(stem, context)
        for index, cell in enumerate(self.layers):
            here = paths.in_cell(index)
            out = None if cell is None else cell(prev2, prev1, paths=here, **context)
            prev2, prev1 = prev1, out
            if out is not None:
                yield f"cell {index}", out

    @property
    def droppable(self) -> list[tuple[int, int]]:
        """The operations that ScheduledDropPath drops, each as its cell and its path.

        These are all operations of the cells except identity, as in the code of NASNet.
        """
        return [
            (index, path)
            for index, cell in enumerate(self.layers)
            if cell is not None
            for path in cell.droppable
        ]
