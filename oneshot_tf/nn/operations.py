"""BN-ReLU-Conv units, and the seven operations of section 3.1 made of them.

Every layer here maps `[B, H, W, C]` to `[B, H', W', width]` and takes
`num_ghosts`, `training` and `micro_batch` for its batch norms. None of them knows of
masks. What a layer computes is stated once, as its `stages`.
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

    With its weights as arguments, a chain can be cut anywhere, skipped, or run
    again from what a stage was given (`nn.paths`).

    Args:
        function: of `[B, H, W, C]` and the weights. The same object for all
            layers that compute the same, so that it need be traced but once.
        weights: tensors.
        linear: whether y is proportional to the first weight.
    """

    function: Callable
    weights: tuple = ()
    linear: bool = False


def run_stages(stages: Any, x: tf.Tensor):
    """What the chain makes of `x`."""
    for stage in stages:
        x = stage.function(x, *stage.weights)
    return x


@functools.cache
def _convolution(stride: int):
    return functools.partial(convolve, stride=stride)


@functools.cache
def pooling(kind: str, size: int, stride: int):
    """Pools `[B, H, W, C]`, "MAX" or "AVG", "same" padding."""
    pool = {"MAX": tf.nn.max_pool2d, "AVG": tf.nn.avg_pool2d}[kind]
    return functools.partial(pool, ksize=size, strides=stride, padding="SAME")


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """What all layers of one net share.

    Args:
        moving_averages: whether batch norms keep moving averages.
        dtype: a Keras dtype policy or its name.
        rng: draws one seed for each convolution's initial weights, in the order of building.
    """

    moving_averages: bool
    dtype: str
    rng: np.random.Generator

    def batch_norm(self, name: str) -> GhostBatchNorm:
        """A batch norm before ReLU and convolution: the scale would be redundant."""
        return GhostBatchNorm(
            scale=False, moving_averages=self.moving_averages, dtype=self.dtype, name=name
        )

    def initializer(self) -> keras.initializers.Initializer:
        """Fan-out variance scaling, as for ReLU nets."""
        return keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=int(self.rng.integers(2**31))
        )


class Chain(keras.layers.Layer):
    """A layer that is a chain of stages; called, it runs them."""

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> list[Stage]:
        """What it computes, in order. Called in the scope of the layer's dtype policy."""
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
    """A convolution, "same" padding, no bias.

    Args:
        factory: see `LayerFactory`.
        width: output channels.
        kernel_size: height and width of the kernel.
        stride: of both.
        separable: a depthwise convolution, of stride 1, and a 1x1 convolution in its place.
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


class BnReluConvs(Chain):
    """A chain of BN-ReLU-Conv units (section 3.2, "BN-Relu-Conv").

    Args:
        factory: see `LayerFactory`.
        convs: the convolutions, in order.
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
    """A batch norm and the ReLU after it, as one stage."""

    return [
        Stage(norm.function(num_ghosts, training, micro_batch, tf.nn.relu), norm.weight_tensors())
    ]


class Identity(Chain):
    """Hands its input on."""

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        return []


class Pool(Chain):
    """3x3 pooling of stride 1, "same" padding; the average leaves the padding out.

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
    """The layer of one of `space.cell_space.OPERATIONS`, `width` channels in and out."""
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
