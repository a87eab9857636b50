"""One cell: its choice blocks, and how they read each other and the cells before."""

import functools

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.nn.operations import BnReluConvs, Conv, Parts, make_operation
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import CellPlan, num_reads


class Cell(keras.layers.Layer):
    """Choice blocks over two earlier outputs (section 3.1, figure 3).

    Each tensor that is read passes one BN-ReLU in the cell, whichever blocks
    read it. A block concatenates what it reads and convolves it 1x1, here as
    the sum of one 1x1 convolution an input, which is the same; then it sums its
    operations. The cell's output is the concatenation of its blocks.

    Args:
        parts: see `Parts`.
        space: its path table.
        plan: widths and joins.
        present: `[P + R]`, which paths and reads to build, in the order of a
            cell's units in `space.stacking`.

    Call arguments:
        prev2, prev1: outputs of the two previous cells, `[B, h, w, c]`; None where not present.
        paths: an object of `nn.paths`.
        num_ghosts, training, turn: for the batch norms, see `GhostBatchNorm`.

    Attributes:
        kernels: pairs of a variable that L2 counts, and its unit within the cell.
    """

    def __init__(
        self, parts: Parts, space: CellSpace, plan: CellPlan, present: np.ndarray, **kwargs
    ):
        super().__init__(dtype=parts.dtype, **kwargs)
        self.space = space
        self.plan = plan
        self.kernels = []
        self._build_reads(parts, present[space.num_paths :])
        self._build_blocks(parts, present[: space.num_paths])
        self.built = True

    def _build_reads(self, parts, present):
        """The joins of the two outer inputs, and the BN of each tensor that is read."""
        widths = [i.width for i in self.plan.inputs]
        widths += [self.plan.width] * (num_reads(self.space) - 2)
        names = self.space.inputs(self.space.num_blocks - 1)
        joins, norms = [None] * len(names), [None] * len(names)
        for i in np.flatnonzero(present):
            name = f"{self.name}_{names[i]}"
            if i < 2 and self.plan.inputs[i].convolved:
                outer = self.plan.inputs[i]
                conv = Conv(parts, outer.width, stride=outer.stride, name=f"{name}_join")
                joins[i] = BnReluConvs(parts, [conv], name=f"{name}_joined")
                joins[i].build((None, None, None, outer.source_width))
                self.kernels.append((conv.kernel, self.space.num_paths + i))
            norms[i] = parts.batch_norm(f"{name}_bn")
            norms[i].build((None, None, None, widths[i]))
        self._read_widths = widths
        self.joins, self.norms = joins, norms  # assigned whole: Keras tracks what it is given

    def _build_blocks(self, parts, present):
        """The 1x1 convolution of each input path, the layer of each operation path."""
        layers = [None] * self.space.num_paths
        for block in range(self.space.num_blocks):
            names = self.space.inputs(block)
            for i, path in enumerate(self.space.input_paths(block)):
                if present[path]:
                    name = f"{self.name}_block{block}_{names[i]}"
                    layer = Conv(parts, self.plan.width, name=name)
                    layer.build((None, None, None, self._read_widths[i]))
                    layers[path] = layer
            for operation, path in zip(self.space.operations, self.space.operation_paths(block)):
                if present[path]:
                    name = f"{self.name}_block{block}_{operation}"
                    layer = make_operation(operation, parts, self.plan.width, name)
                    layer.build((None, None, None, self.plan.width))
                    layers[path] = layer
        self.path_layers = layers
        for path, layer in enumerate(layers):
            if layer is not None:
                for conv in getattr(layer, "convs", [layer]):
                    self.kernels.extend((v, path) for v in conv.trainable_variables)

    def call(self, prev2, prev1, paths=None, num_ghosts=1, training=False, turn=(0, 1)):
        context = {"num_ghosts": num_ghosts, "training": training, "turn": turn}
        reads = [self._read_outer(i, x, paths, context) for i, x in enumerate((prev2, prev1))]
        size = next(tf.shape(x)[:3] for x in reads if x is not None)
        like = tf.concat([size, [self.plan.width]], axis=0)
        outputs = []
        for block in range(self.space.num_blocks):
            if block > 0:
                reads.append(self._read(block + 1, outputs[-1], paths, like, context))
            hidden = paths.sum(
                [
                    (path, functools.partial(self.path_layers[path], reads[i]))
                    for i, path in enumerate(self.space.input_paths(block))
                    if self.path_layers[path] is not None
                ],
                like,
            )
            outputs.append(
                paths.sum(
                    [
                        (path, functools.partial(self.path_layers[path], hidden, **context))
                        for path in self.space.operation_paths(block)
                        if self.path_layers[path] is not None
                    ],
                    like,
                )
            )
        return tf.concat(outputs, axis=-1)

    def _read_outer(self, i, x, paths, context):
        """The output of an earlier cell, brought to this cell's size, BN, ReLU."""
        if self.norms[i] is None:
            return None
        plan = self.plan.inputs[i]
        shape = tf.shape(x)
        like = [shape[0], -(-shape[1] // plan.stride), -(-shape[2] // plan.stride), plan.width]

        def join():
            y = x
            if plan.convolved:
                y = self.joins[i](y, **context)
            elif plan.stride > 1:
                y = tf.nn.avg_pool2d(y, plan.stride, plan.stride, "SAME")
            return tf.nn.relu(self.norms[i](y, **context))

        return paths.read(self._readers(i), join, like)

    def _read(self, i, x, paths, like, context):
        """The output of an earlier block of this cell, BN, ReLU."""
        if self.norms[i] is None:
            return None
        return paths.read(self._readers(i), lambda: tf.nn.relu(self.norms[i](x, **context)), like)

    def _readers(self, i):
        """The paths that read tensor i: an input of every block after it."""
        return [
            self.space.input_paths(block)[i]
            for block in range(max(0, i - 1), self.space.num_blocks)
        ]
