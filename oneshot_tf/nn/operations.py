"""BN-ReLU-Conv units, and the seven operations of section 3.1 made of them.

Every layer here maps `[B, H, W, C]` to `[B, H', W', width]` and takes `num_ghosts`, `training` and
`micro_batch` for its batch norms. Layers do not know masks. Each layer defines its computation in
one place, its `stages`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.nn.convolutions import convolve, depthwise_convolve
from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm


class Stage(NamedTuple):
    """One step of a chain: `y = function(x, *weights)`.

    The weights are arguments, so `nn.paths` can cut a chain anywhere, skip it, or run a stage again
    from its input.

    Args:
        function: A function of `[B, H, W, C]` and the weights. Layers with the same computation
            share one object, so it is traced only once.
        weights: Tensors.
        linear: Whether y is proportional to the first weight.
    """

    function: Callable
    weights: tuple = ()
    linear: bool = False


def run_stages(stages: Any, x: tf.Tensor):
    """Applies the stages to `x`, one after another."""
    for stage in stages:
        x = stage.function(x, *stage.weights)
    return x


@functools.cache
def _convolution(stride: int):
    return functools.partial(convolve, stride=stride)


@functools.cache
def _depthwise(stride: int):
    return functools.partial(depthwise_convolve, stride=stride)


@functools.cache
def pooling(kind: str, size: int, stride: int):
    """Returns a function that pools `[B, H, W, C]` with "same" padding.

    Args:
        kind: "MAX" or "AVG".
        size: Height and width of the window.
        stride: Stride of both.
    """
    pool = {"MAX": tf.nn.max_pool2d, "AVG": tf.nn.avg_pool2d}[kind]
    return functools.partial(pool, ksize=size, strides=stride, padding="SAME")


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """Settings that all layers of one model share.

    Args:
        moving_averages: Whether batch norms keep moving averages.
        dtype: A Keras dtype policy or its name.
        rng: Draws one seed for each convolution's initial weights, in the order of building.
    """

    moving_averages: bool
    dtype: str
    rng: np.random.Generator

    def batch_norm(self, name: str) -> GhostBatchNorm:
        """Returns a batch norm without a scale, which the convolution after it makes redundant."""
        return GhostBatchNorm(
            scale=False, moving_averages=self.moving_averages, dtype=self.dtype, name=name
        )

    def initializer(self) -> keras.initializers.Initializer:
        """Returns a fan-out variance scaling initializer, suited to ReLU networks."""
        return keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=int(self.rng.integers(2**31))
        )


class Chain(keras.layers.Layer):
    """A layer defined by a chain of stages. A call runs them."""

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> list[Stage]:
        """Returns the stages of the layer, in order.

        It must be called in the scope of the layer's dtype policy.
        """
        raise NotImplementedError

    def call(
        self,
        x: tf.Tensor,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        return run_stages(
            self.stages(num_ghosts=num_ghosts, training=training, micro_batch=micro_batch), x
        )


class Conv(Chain):
    """A convolution with "same" padding and without bias.

    Args:
        factory: Makes the initial weights; see `LayerFactory`.
        width: Number of output channels.
        kernel_size: Height and width of the kernel.
        stride: Stride of both.
        separable: Whether to use a depthwise convolution of stride 1 and a 1x1 convolution instead.
    """

    def __init__(
        self,
        factory: Any,
        width: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: int = 1,
        separable: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.factory = factory
        self.width = width
        self.kernel_size = tuple(kernel_size)
        self.stride = stride
        self.separable = separable

    def build(self, input_shape: tuple):
        channels = input_shape[-1]

        def kernel(name: str, shape: tuple[int, ...]):
            return self.add_weight(name=name, shape=shape, initializer=self.factory.initializer())

        if self.separable:
            self.depthwise = kernel("depthwise", (*self.kernel_size, channels, 1))
            self.pointwise = kernel("pointwise", (1, 1, channels, self.width))
        else:
            self.kernel = kernel("kernel", (*self.kernel_size, channels, self.width))

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        if self.separable:
            return [
                Stage(depthwise_convolve, (tf.convert_to_tensor(self.depthwise),), linear=True),
                Stage(convolve, (tf.convert_to_tensor(self.pointwise),), linear=True),
            ]
        kernel = tf.convert_to_tensor(self.kernel)
        return [Stage(_convolution(self.stride), (kernel,), linear=True)]


class DepthwiseConv(Chain):
    """A depthwise convolution with "same" padding and without bias.

    Args:
        factory: Makes the initial weights; see `LayerFactory`.
        kernel_size: Height and width of the kernel.
        stride: Stride of both.
    """

    def __init__(self, factory: Any, kernel_size: int, stride: int = 1, **kwargs: Any):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.factory, self.kernel_size, self.stride = factory, kernel_size, stride

    def build(self, input_shape: tuple) -> None:
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], 1)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.factory.initializer()
        )

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> list[Stage]:
        return [Stage(_depthwise(self.stride), (tf.convert_to_tensor(self.kernel),), linear=True)]


class BnReluConvs(Chain):
    """A chain of BN-ReLU-Conv units (section 3.2, "BN-Relu-Conv").

    Args:
        factory: Makes the batch norms; see `LayerFactory`.
        convs: The convolutions, in order.
    """

    def __init__(self, factory: Any, convs: Sequence[Any], **kwargs: Any):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.convs = list(convs)
        self.norms = [factory.batch_norm(f"{conv.name}_bn") for conv in self.convs]

    def build(self, input_shape: tuple):
        for norm, conv in zip(self.norms, self.convs):
            norm.build(input_shape)
            conv.build(input_shape)
            input_shape = (*input_shape[:-1], conv.width)

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        chain = []
        for norm, conv in zip(self.norms, self.convs):
            chain += bn_relu_stages(norm, num_ghosts, training, micro_batch) + conv.stages()
        return chain


def bn_relu_stages(
    norm: GhostBatchNorm,
    num_ghosts: int = 1,
    training: bool = False,
    micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
):
    """Returns a batch norm and the ReLU after it, as one stage."""
    return [
        Stage(norm.function(num_ghosts, training, micro_batch, tf.nn.relu), norm.weight_tensors())
    ]


class Identity(Chain):
    """The identity operation: it returns its input."""

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        return []


class Pool(Chain):
    """3x3 pooling with stride 1 and "same" padding. Averages leave the padding out.

    Args:
        kind: "MAX" or "AVG".
    """

    def __init__(self, kind: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.kind = kind

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        return [Stage(pooling(self.kind, 3, 1))]


def make_operation(operation: str, factory: LayerFactory, width: int, name: str) -> Chain:
    """Returns the layer of one of `space.cell_space.OPERATIONS`.

    Args:
        operation: The name of the operation.
        factory: Makes the layer's parts.
        width: Number of channels, in and out.
        name: The name of the layer.
    """
    kernels = {
        "sep3x3": ((3, 3), (3, 3)),
        "sep5x5": ((5, 5), (5, 5)),
        "sep7x7": ((7, 7), (7, 7)),
        "conv1x7_7x1": ((1, 7), (7, 1)),
    }
    if operation in kernels:
        separable = operation.startswith("sep")
        convs = [
            Conv(factory, width, size, separable=separable, name=f"{name}_{i}")
            for i, size in enumerate(kernels[operation])
        ]
        return BnReluConvs(factory, convs, name=name)
    if operation == "identity":
        return Identity(dtype=factory.dtype, name=name)
    return Pool("MAX" if operation == "max3x3" else "AVG", dtype=factory.dtype, name=name)
