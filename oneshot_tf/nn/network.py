"""Stem, stacked cells, classifier: what the one-shot and the stand-alone nets share."""

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.nn.cell import Cell
from oneshot_tf.nn.operations import BnReluConvs, Conv, Parts
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.cost import usage
from oneshot_tf.space.stacking import Stack, num_reads, num_units


class Network(keras.Model):
    """A stack of cells of which only some units are built.

    Not called itself: `Supernet` builds every unit and `Standalone` those of one
    architecture. All variables exist once the constructor returns.

    Args:
        space: its cells.
        stack: how many, how wide, and where they shrink.
        architecture: whose units to build; None for all.
        num_classes: K.
        parts: see `Parts`.

    Attributes:
        kernels: the variables that L2 counts: all convolutions, and the classifier's weights.
        kernel_units: the unit of each of `kernels`.
    """

    def __init__(self, space: CellSpace, stack: Stack, architecture, num_classes, parts, name):
        super().__init__(name=name, dtype=parts.dtype)
        if not isinstance(stack, Stack):
            raise InputError(f"{stack!r} in place of a stack, such as Stack(num_cells=6).")
        if not isinstance(num_classes, (int, np.integer)) or num_classes < 2:
            raise InputError(f"num_classes={num_classes!r}; needed is a whole number from 2.")
        self.space, self.stack, self.num_classes = space, stack, num_classes
        plans = stack.plans(space)
        units = np.ones(num_units(space, stack.num_cells), bool)
        if architecture is not None:
            units = usage(space, stack.num_cells, [architecture])[0] > 0
        per_cell = space.num_paths + num_reads(space)
        stem_unit, head_unit = len(units) - 2, len(units) - 1

        self.stem = _Stem(parts, stack.filters, stack.stem_stride, name="stem")
        kernels = [(kernel, stem_unit) for kernel in self.stem.kernels]
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
        kernels.append((self.classifier.kernel, head_unit))
        self.kernels = [variable for variable, _ in kernels]
        self.kernel_units = [int(unit) for _, unit in kernels]
        self.built = True

    def stem_of(self, images, num_ghosts, training=False, turn=(0, 1)):
        """The stem's output `[B, h, w, F]`, which all architectures share."""
        images = tf.cast(images, self.compute_dtype)
        return self.stem(images, num_ghosts=num_ghosts, training=training, turn=turn)

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


class _Stem(keras.layers.Layer):
    """The first convolution, 3x3; one more, after BN-ReLU, where it divides by 4."""

    def __init__(self, parts: Parts, filters: int, stride: int, name: str):
        super().__init__(dtype=parts.dtype, name=name)
        self.conv = Conv(parts, filters, (3, 3), stride=min(stride, 2), name=name)
        self.conv.build((None, None, None, 3))
        self.kernels, self.second = [self.conv.kernel], None
        if stride == 4:
            conv = Conv(parts, filters, (3, 3), stride=2, name=f"{name}2")
            self.second = BnReluConvs(parts, [conv], name=f"{name}2")
            self.second.build((None, None, None, filters))
            self.kernels.append(conv.kernel)
        self.built = True

    def call(self, images, num_ghosts=1, training=False, turn=(0, 1)):
        x = self.conv(images)
        if self.second is None:
            return x
        return self.second(x, num_ghosts=num_ghosts, training=training, turn=turn)


def new_parts(moving_averages: bool, dtype, seed: int) -> Parts:
    """The parts of a net whose initial weights follow from `seed`."""
    dtype = dtype or keras.config.dtype_policy().name
    return Parts(moving_averages, dtype, np.random.default_rng(seed))
