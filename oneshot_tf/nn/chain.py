"""The body of a model of a chain: layers one after another, each with its operations."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.nn.mobile import MobileConv
from oneshot_tf.nn.operations import Chain, Conv, LayerFactory, Stage, bn_relu_stages
from oneshot_tf.nn.own_operations import OwnLayer, check
from oneshot_tf.space.chain_space import ChainSpace, LayerPlan
from oneshot_tf.space.chain_units import expanded, sizes
from oneshot_tf.space.stacking import Stack


class ChainLayer(keras.layers.Layer):
    """One layer of a chain: the sum of its operations, and of its input if it is residual.

    Args:
        factory: Makes the layers' parts; see `LayerFactory`.
        plan: Widths, stride and paths.
        present: Whether to build each path, bool `[k]`.

    Call arguments:
        x: `[B, h, w, c]`.
        paths: An object of `nn.paths`.
        num_ghosts: For the batch norms; see `GhostBatchNorm`.
        training: For the batch norms.
        micro_batch: For the batch norms.
    """

    def __init__(self, factory: LayerFactory, plan: LayerPlan, present: np.ndarray, **kwargs: Any):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.plan = plan
        operations: list[Any] = []
        for name, built in zip(plan.operations, present):
            layer = _operation(name, factory, plan, f"{self.name}_{name}") if built else None
            operations.append(layer)
        self.operations = operations  # Keras tracks layers at assignment: no appends
        self.build((None, None, None, plan.source_width))

    def build(self, input_shape: tuple) -> None:
        """Creates nothing. Keras records the shape here, for `summary`, saving and export."""

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sizes = [n and -(-n // self.plan.stride) for n in input_shape[1:3]]
        return (input_shape[0], *sizes, self.plan.width)

    def call(
        self,
        x: tf.Tensor,
        paths: Any = None,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> tf.Tensor:
        context = {"num_ghosts": num_ghosts, "training": training, "micro_batch": micro_batch}
        terms = [
            (path, x, layer.stages(**context))
            for path, layer in zip(self.plan.paths, self.operations)
            if layer is not None
        ]
        if not terms:
            return x
        size = [n and -(-n // self.plan.stride) for n in x.shape[1:3]]
        y = paths.sum(terms, [x.shape[0], *size, self.plan.width])
        return x + y if self.plan.residual else y


def _operation(
    name: str, factory: LayerFactory, plan: LayerPlan, layer_name: str
) -> MobileConv | OwnLayer:
    layer: MobileConv | OwnLayer
    if name in plan.own:
        check(plan.own[name], plan.source_width, plan.width, plan.stride)
        layer = OwnLayer(factory, plan.own[name], plan.width, plan.stride, name=layer_name)
    else:
        expansion, kernel = sizes(name)
        layer = MobileConv(factory, plan.width, expansion, kernel, plan.stride, name=layer_name)
    layer.build((None, None, None, plan.source_width))
    return layer


class _Norm(Chain):
    """The batch norm and ReLU of the stem's output."""

    def __init__(self, factory: LayerFactory, width: int, name: str):
        super().__init__(dtype=factory.dtype, name=name)
        self.norm = factory.batch_norm(f"{name}_bn")
        self.norm.build((None, None, None, width))
        self.build((None, None, None, width))

    def build(self, input_shape: tuple) -> None:
        """Creates nothing. Keras records the shape here."""

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> list[Stage]:
        return bn_relu_stages(self.norm, num_ghosts, training, micro_batch)


class ChainBody:
    """The layers of a chain. It has the attributes and methods of every body; see `nn.cells`.

    Args:
        factory: Makes the layers' parts; see `LayerFactory`.
        space: The search space.
        stack: Its filters and its stem stride give the sizes.
        units: Which units to build, bool `[U]`; see `space.chain_units`.
    """

    def __init__(self, factory: LayerFactory, space: ChainSpace, stack: Stack, units: np.ndarray):
        self.plans = plans = space.plans(stack.filters, stack.stem_stride)
        self.norm = _Norm(factory, stack.filters, "first")
        self.chain, self._first_units, first = [], [], 0
        for index, plan in enumerate(plans):
            count = len(plan.operations)
            present = units[first : first + count]
            self.chain.append(ChainLayer(factory, plan, present, name=f"layer{index}"))
            self._first_units.append(first)
            first += count + sum(map(expanded, plan.operations))
        self.features, self.depth, self.head = plans[-1].width, len(plans), None
        if space.head:
            self.features = space.width_of(space.head, stack.filters)
            self.head = Conv(factory, self.features, name="head")
            self.head.build((None, None, None, plans[-1].width))
        self._head_unit = first
        self.layers = [self.norm, *self.chain, *([self.head] if self.head else [])]

    def kernels(self) -> Iterator[tuple[keras.Variable, int]]:
        """Yields each variable under L2 regularisation, and its unit."""
        for layer, first in zip(self.chain, self._first_units):
            plan = layer.plan
            expansions = first + len(plan.operations) + np.cumsum(
                [0, *map(expanded, plan.operations)]
            )  # fmt: skip
            for index, operation in enumerate(layer.operations):
                if operation is not None:
                    for variable in operation.kernel_variables:
                        yield variable, first + index
                    if operation.expand is not None:
                        yield operation.expand.kernel, int(expansions[index])
        if self.head is not None:
            yield self.head.kernel, self._head_unit

    def begin(self, stem: tf.Tensor, context: dict[str, Any]) -> tf.Tensor:
        """Returns what the first layer reads: the stem's output after batch norm and ReLU."""
        return self.norm(stem, **context)

    def outputs(
        self, stem: tf.Tensor, paths: Any, context: dict[str, Any]
    ) -> Iterator[tuple[str, tf.Tensor]]:
        """Yields name and output of each layer, and of the head."""
        x = self.begin(stem, context)
        for index, layer in enumerate(self.chain):
            x = layer(x, paths=paths.in_cell(index), **context)
            yield f"layer {index}", x
        if self.head is not None:
            yield "head", self.head(x)

    @property
    def droppable(self) -> list[tuple[int, int]]:
        """What ScheduledDropPath drops: the operations of residual layers, as layer and path."""
        return [
            (index, path)
            for index, layer in enumerate(self.chain)
            if layer.plan.residual
            for path, operation in zip(layer.plan.paths, layer.operations)
            if operation is not None
        ]
