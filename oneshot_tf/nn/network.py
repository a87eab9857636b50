"""Stem, stacked cells, classifier: what the one-shot and the stand-alone nets share."""

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.nn.cell import Cell
from oneshot_tf.nn.operations import Conv, Parts
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import num_reads, num_units, plan_cells


class Network(keras.Model):
    """A stack of cells of which only some units are built.

    Not called itself: `Supernet` builds every unit and `Standalone` those of one
    architecture. All variables exist once the constructor returns.

    Args:
        space: its cells.
        units: bool `[U]`, which units to build, see `space.stacking.unit_usage`.
        num_cells, filters, num_classes: the stack.
        parts: see `Parts`.

    Attributes:
        kernels: the variables that L2 counts: all convolutions, and the classifier's weights.
        kernel_units: the unit of each of `kernels`.
    """

    def __init__(self, space: CellSpace, units, num_cells, filters, num_classes, parts, name):
        super().__init__(name=name, dtype=parts.dtype)
        for setting, value, least in (
            ("num_cells", num_cells, 1),
            ("filters", filters, 1),
            ("num_classes", num_classes, 2),
        ):
            if not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"{setting}={value!r}; needed is a whole number from {least}.")
        self.space = space
        self.num_cells, self.filters, self.num_classes = num_cells, filters, num_classes
        plans = plan_cells(space, num_cells, filters)
        per_cell = space.num_paths + num_reads(space)

        self.stem = Conv(parts, filters, (3, 3), name="stem")
        self.stem.build((None, None, None, 3))
        kernels = [(self.stem.kernel, num_units(space, num_cells) - 2)]
        self.cells = []
        for index, plan in enumerate(plans):
            present = units[index * per_cell : (index + 1) * per_cell]
            cell = Cell(parts, space, plan, present, name=f"cell{index}") if present.any() else None
            self.cells.append(cell)
            if cell is not None:
                kernels.extend((v, index * per_cell + unit) for v, unit in cell.kernels)
        features = space.num_blocks * plans[-1].width
        self.last_norm = parts.batch_norm("last_bn")
        self.last_norm.build((None, None, None, features))
        self.classifier = keras.layers.Dense(
            num_classes,
            dtype="float32",
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0, "fan_in", seed=int(parts.rng.integers(2**31))
            ),
            name="classifier",
        )
        self.classifier.build((None, features))
        kernels.append((self.classifier.kernel, num_units(space, num_cells) - 1))
        self.kernels = [variable for variable, _ in kernels]
        self.kernel_units = [int(unit) for _, unit in kernels]
        self.built = True

    def _logits(self, stem, paths, num_ghosts, training, turn=(0, 1)):
        """float32 `[B, K]` of the stem's output `[B, H, W, F]`."""
        return dict(self._outputs(stem, paths, num_ghosts, training, turn))["classifier"]

    def _outputs(self, stem, paths, num_ghosts, training, turn=(0, 1)):
        """Yields name and output of each part, in turn: the stem, the cells, the classifier."""
        yield "stem", stem
        context = {"num_ghosts": num_ghosts, "training": training, "turn": turn}
        prev2 = prev1 = stem
        for index, cell in enumerate(self.cells):
            out = None if cell is None else cell(prev2, prev1, paths=paths, **context)
            prev2, prev1 = prev1, out
            if out is not None:
                yield f"cell {index}", out
        x = tf.nn.relu(self.last_norm(prev1, **context))
        yield "classifier", self.classifier(tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2]))


def new_parts(moving_averages: bool, dtype, seed: int) -> Parts:
    """The parts of a net whose initial weights follow from `seed`."""
    dtype = dtype or keras.config.dtype_policy().name
    return Parts(moving_averages, dtype, np.random.default_rng(seed))
