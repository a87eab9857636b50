"""One cell: its choice blocks. They read each other and the two cells before."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.nn.operations import (
    BnReluConvs,
    Chain,
    Conv,
    Identity,
    LayerFactory,
    Stage,
    bn_relu_stages,
    make_operation,
    pooling,
)
from oneshot_tf.nn.own_operations import OwnLayer, check
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import CellPlan, num_reads


class Cell(keras.layers.Layer):
    """A cell of choice blocks over two earlier outputs (section 3.1, figure 3).

    A block concatenates its inputs, applies a 1x1 convolution, and sums its operations. Here the
    convolution is the sum of one 1x1 convolution per input, which is the same. Each input passes
    one BN-ReLU in the cell, shared by all blocks that read it. The cell's output is the
    concatenation of its blocks' outputs.

    All variables exist once the constructor returns.

    Args:
        factory: Makes the layers' parts; see `LayerFactory`.
        space: The search space, with its path table.
        plan: Widths and joins.
        present: `[P + R]`, the paths and reads to build, in the order of a cell's units in
            `space.stacking`.

    Call arguments:
        prev2: Output of the cell before the previous one, `[B, h, w, c]`; None where not present.
        prev1: Output of the previous cell, likewise.
        paths: An object of `nn.paths`.
        num_ghosts: For the batch norms; see `GhostBatchNorm`.
        training: For the batch norms.
        micro_batch: For the batch norms.
    """

    def __init__(
        self,
        factory: LayerFactory,
        space: CellSpace,
        plan: CellPlan,
        present: np.ndarray,
        **kwargs: Any,
    ):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.space = space
        self.plan = plan
        self._build_reads(factory, present[space.num_paths :])
        self._build_blocks(factory, present[: space.num_paths])
        self.build(*((None, None, None, i.source_width) for i in plan.inputs))

    def build(self, prev2_shape: tuple, prev1_shape: tuple):
        """Creates nothing. Keras records the shapes here, for `summary`, saving and export."""

    def compute_output_shape(self, prev2_shape: tuple, prev1_shape: tuple):
        sizes = [n and -(-n // self.plan.inputs[1].stride) for n in prev1_shape[1:3]]
        return (prev1_shape[0], *sizes, self.space.num_blocks * self.plan.width)

    @property
    def kernels(self) -> list:
        """Pairs of a variable under L2 regularisation and its unit within the cell."""
        joined = [(i, join.convs[0]) for i, join in enumerate(self.joins) if join is not None]
        pairs = [(conv.kernel, self.space.num_paths + i) for i, conv in joined]
        for path, layer in enumerate(self.path_layers):
            if isinstance(layer, OwnLayer):
                pairs.extend((v, path) for v in layer.kernel_variables)
            elif layer is not None:
                for conv in getattr(layer, "convs", [layer]):
                    pairs.extend((v, path) for v in conv.variables)
        return pairs

    @property
    def droppable(self) -> list[int]:
        """The paths of all operations that were built, except identity."""
        return [
            path
            for block in range(self.space.num_blocks)
            for path in self.space.operation_paths(block)
            if not isinstance(self.path_layers[path], (Identity, type(None)))
        ]

    def _build_reads(self, factory: Any, present: Any):
        """Builds the joins of the two outer inputs, and the batch norm of each tensor read."""
        widths = [i.width for i in self.plan.inputs]
        widths += [self.plan.width] * (num_reads(self.space) - 2)
        names = self.space.inputs(self.space.num_blocks - 1)
        joins: list[Any] = [None] * len(names)
        norms: list[Any] = [None] * len(names)
        for i in np.flatnonzero(present):
            name = f"{self.name}_{names[i]}"
            if i < 2 and self.plan.inputs[i].convolved:
                outer = self.plan.inputs[i]
                conv = Conv(factory, outer.width, stride=outer.stride, name=f"{name}_join")
                joins[i] = BnReluConvs(factory, [conv], name=f"{name}_joined")
                joins[i].build((None, None, None, outer.source_width))
            norms[i] = factory.batch_norm(f"{name}_bn")
            norms[i].build((None, None, None, widths[i]))
        self.read_widths = widths  # channels of each tensor that blocks read
        self.joins, self.norms = joins, norms  # Keras tracks layers at assignment: no appends

    def _build_blocks(self, factory: Any, present: Any):
        """Builds the 1x1 convolution of each input path and the layer of each operation path."""
        layers: list[Any] = [None] * self.space.num_paths
        for block in range(self.space.num_blocks):
            names = self.space.inputs(block)
            for i, path in enumerate(self.space.input_paths(block)):
                if present[path]:
                    name = f"{self.name}_block{block}_{names[i]}"
                    layer = Conv(factory, self.plan.width, name=name)
                    layer.build((None, None, None, self.read_widths[i]))
                    layers[path] = layer
            for operation, path in zip(self.space.operations, self.space.operation_paths(block)):
                if present[path]:
                    name = f"{self.name}_block{block}_{operation}"
                    layers[path] = self._operation(operation, factory, name)
        self.path_layers = layers

    def _operation(self, operation: str, factory: LayerFactory, name: str) -> Chain:
        own, width = {o.name: o for o in self.space.own}, self.plan.width
        layer: Chain
        if operation in own:
            check(own[operation], width, width, 1)
            layer = OwnLayer(factory, own[operation], width, name=name)
        else:
            layer = make_operation(operation, factory, width, name)
        layer.build((None, None, None, width))
        return layer

    def call(
        self,
        prev2: tf.Tensor,
        prev1: tf.Tensor,
        paths: Any = None,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        context = {"num_ghosts": num_ghosts, "training": training, "micro_batch": micro_batch}
        reads = [self._read_outer(i, x, paths, context) for i, x in enumerate((prev2, prev1))]
        size = next(x.shape[:3] for x in reads if x is not None)
        like = [*size, self.plan.width]
        outputs: list[Any] = []
        for block in range(self.space.num_blocks):
            if block > 0:
                reads.append(self._read(block + 1, outputs[-1], [], paths, like, context))
            inputs = [
                (path, reads[i], self.path_layers[path].stages())
                for i, path in enumerate(self.space.input_paths(block))
                if self.path_layers[path] is not None
            ]
            hidden = paths.sum(inputs, like)
            operations = [
                (path, hidden, self.path_layers[path].stages(**context))
                for path in self.space.operation_paths(block)
                if self.path_layers[path] is not None
            ]
            outputs.append(paths.sum(operations, like))
        return tf.concat(outputs, axis=-1)

    def _read_outer(self, i: int, x: tf.Tensor, paths: Any, context: Any):
        """Returns the output of an earlier cell at this cell's size, after BN and ReLU."""
        plan = self.plan.inputs[i]
        join = []
        if self.joins[i] is not None:
            join = self.joins[i].stages(**context)
        elif plan.stride > 1:
            join = [Stage(pooling("AVG", plan.stride, plan.stride))]
        size = [] if x is None else [n and -(-n // plan.stride) for n in x.shape[1:3]]
        like = [None if x is None else x.shape[0], *size, plan.width]
        return self._read(i, x, join, paths, like, context)

    def _read(self, i: int, x: tf.Tensor, join: Any, paths: Any, like: tf.Tensor, context: Any):
        """Returns a tensor as the blocks read it: after its join, BN and ReLU."""
        if self.norms[i] is None:
            return None
        stages = join + bn_relu_stages(self.norms[i], **context)
        return paths.read(self._readers(i), x, stages, like)

    def _readers(self, i: int):
        """Returns the paths that read tensor i: one input path of every block after it."""
        return [
            self.space.input_paths(block)[i]
            for block in range(max(0, i - 1), self.space.num_blocks)
        ]
