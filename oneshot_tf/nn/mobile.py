"""The inverted bottleneck of MobileNetV2, the operation of chains (Sandler et al. 2018)."""

from typing import Any

import tensorflow as tf

from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm
from oneshot_tf.nn.operations import Chain, Conv, DepthwiseConv, Stage, bn_relu_stages


class MobileConv(Chain):
    """An inverted bottleneck: 1x1 expansion, depthwise convolution, 1x1 projection.

    A batch norm follows each convolution, and a ReLU the first two. An expansion of 1 has no first
    convolution. The residual connection is not part of it.

    Args:
        factory: Makes the layers' parts; see `LayerFactory`.
        width: Number of output channels.
        expansion: The depthwise convolution has `expansion` times as many channels as the input.
        kernel_size: Height and width of its kernel.
        stride: Stride of both.
    """

    def __init__(
        self,
        factory: Any,
        width: int,
        expansion: int,
        kernel_size: int,
        stride: int = 1,
        **kwargs: Any,
    ):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.expansion = expansion
        self.expand: Conv | None = None
        names = [f"{self.name}_{part}" for part in ("expand", "depthwise", "project")]
        self.depthwise = DepthwiseConv(factory, kernel_size, stride, name=names[1])
        self.project = Conv(factory, width, name=names[2])
        self.norms = [factory.batch_norm(f"{names[1]}_bn")]
        self._factory, self._expand_name = factory, names[0]
        # A sum of paths follows, not a convolution, so its scale is not redundant.
        self.last_norm = GhostBatchNorm(
            moving_averages=factory.moving_averages, dtype=factory.dtype, name=f"{names[2]}_bn"
        )

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1] * self.expansion
        if self.expansion > 1:
            self.expand = expand = Conv(self._factory, channels, name=self._expand_name)
            expand.build(input_shape)
            self.norms = [self._factory.batch_norm(f"{self._expand_name}_bn"), *self.norms]
        inner = (*input_shape[:-1], channels)
        for layer in (*self.norms, self.depthwise, self.project):
            layer.build(inner)
        self.last_norm.build((*input_shape[:-1], self.project.width))

    @property
    def convs(self) -> list[Any]:
        """The convolutions, in order."""
        rest = [self.depthwise, self.project]
        return rest if self.expand is None else [self.expand, *rest]

    @property
    def kernel_variables(self) -> list[Any]:
        """The variables under L2 regularisation, without that of the expansion."""
        return [self.depthwise.kernel, self.project.kernel]

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> list[Stage]:
        context = (num_ghosts, training, micro_batch)
        chain: list[Stage] = []
        for conv, norm in zip(self.convs, self.norms):
            chain += conv.stages() + bn_relu_stages(norm, *context)
        normalize = self.last_norm.function(*context, tf.identity)
        return [
            *chain, *self.project.stages(), Stage(normalize, self.last_norm.weight_tensors())
        ]  # fmt: skip
