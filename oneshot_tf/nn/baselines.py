"""Baselines to compare searched nets with, trained and scored by the same code."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.cost.baselines import BASELINES, LARGEST, Baseline, Block, Unit
from oneshot_tf.nn.convolutions import convolve, depthwise_convolve
from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm, check_policy
from oneshot_tf.nn.operations import LayerFactory
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError


@keras.saving.register_keras_serializable(package="oneshot_tf")
class BaselineModel(keras.Model):
    """A plain CNN or a small MobileNet; see `cost.baselines` for their layers.

    It takes the calls of `Standalone`, so `fit_standalone` trains it and `evaluate_standalone`
    scores it. Batch norms use ghost batches in training, and moving averages otherwise.

    Example:

        >>> net = BaselineModel("plain_cnn", width=8, num_classes=10)
        >>> net(tf.zeros([2, 8, 8, 3])).shape.as_list()
        [2, 10]

    Args:
        kind: "plain_cnn" or "mobile_net".
        width: The width W of the first blocks, at least 1.
        num_reductions: How many times height and width are halved, at least 0.
        stem_stride: Factor by which the stem divides height and width: 1, 2 or 4.
        num_classes: K, at least 2.
        seed: Seed of the initial weights, at least 0.
        dtype: A Keras dtype policy with float32 variables. None takes Keras's global policy.
        **kwargs: `name` and `trainable`, as in every Keras model.

    Call arguments:
        The call arguments are those of `Standalone`. `path_factors` has a column for each residual
        block, because ScheduledDropPath drops these. A plain CNN has none.

    Returns:
        Logits, float32 `[B, K]`.

    Raises:
        InputError: An argument of the constructor is out of its range.
    """

    def __init__(
        self,
        kind: str,
        width: int,
        num_reductions: int = 2,
        stem_stride: int = 1,
        num_classes: int = 10,
        seed: int = 0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", "baseline")
        trainable = kwargs.pop("trainable", True)
        super().__init__(dtype=dtype, **kwargs)
        check_policy(self.dtype_policy)
        if kind not in BASELINES:
            raise InputError(f"`kind` must be one of {', '.join(BASELINES)}; got {kind!r}.")
        for name, value, least, most in (("width", width, 1, LARGEST),
                                         ("num_classes", num_classes, 2, 2**31),
                                         ("seed", seed, 0, 2**31)):  # fmt: skip
            if not isinstance(value, (int, np.integer)) or not least <= value <= most:
                raise InputError(
                    f"`{name}` must be a whole number from {least} to {most:,}; got {value!r}."
                )
        self.architecture, self.num_classes, self.seed = Baseline(kind, width), num_classes, seed
        self.stack = Stack(num_reductions + 1, width, num_reductions, stem_stride)
        factory = LayerFactory(True, self.dtype_policy.name, np.random.default_rng(seed))
        plan = self.architecture.blocks(self.stack)
        self.blocks = [_Block(block, factory, f"block{i}") for i, block in enumerate(plan)]
        self.features = plan[-1].units[-1].width
        self.classifier = keras.layers.Dense(
            num_classes,
            dtype="float32",
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0, "fan_in", seed=int(factory.rng.integers(2**31))
            ),
            name="classifier",
        )
        self.classifier.build((None, self.features))
        self.trainable = trainable
        self.build((None, None, None, 3))

    def build(self, input_shape: tuple):
        """Creates nothing. Keras records the shape here, for `summary` and saving."""

    @property
    def kernels(self) -> list[keras.Variable]:
        """The variables under L2 regularisation: all convolutions and the classifier's weights."""
        convolutions = [unit.kernel for block in self.blocks for unit in block.units]
        return [*convolutions, self.classifier.kernel]

    @property
    def path_depths(self) -> list[float]:
        """The depth of each residual block: (b + 1) / B for block b of B."""
        count = len(self.blocks)
        return [(b + 1) / count for b, block in enumerate(self.blocks) if block.residual]

    def call(
        self,
        images: tf.Tensor,
        training: bool = False,
        num_ghosts: int = 1,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
        path_factors: tf.Tensor | None = None,
    ):
        context = {"num_ghosts": num_ghosts, "training": training, "micro_batch": micro_batch}
        return dict(self._outputs(images, path_factors, context))["classifier"]

    def _outputs(
        self, images: tf.Tensor, path_factors: tf.Tensor | None, context: dict[str, Any]
    ) -> Iterator[tuple[str, tf.Tensor]]:
        """Yields name and output of each block and of the classifier."""
        if len(images.shape) != 4 or images.shape[-1] != 3:
            raise InputError(
                f"`images` must have the shape [B, H, W, 3]; got {list(images.shape)}."
            )
        x, column = tf.cast(images, self.compute_dtype), 0
        for index, block in enumerate(self.blocks):
            factor = None
            if block.residual and path_factors is not None:
                factor = tf.cast(path_factors[:, column, None, None, None], self.compute_dtype)
                column += 1
            x = block(x, factor=factor, **context)
            yield f"block {index}", x
        yield "classifier", self.classifier(tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2]))

    def part_outputs(self, images: tf.Tensor, path_factors: tf.Tensor | None = None) -> dict:
        """Returns the outputs of blocks and classifier for one ghost batch, by name."""
        context = {"num_ghosts": 1, "training": True}
        return dict(self._outputs(images, path_factors, context))

    def description(self) -> dict[str, Any]:
        """Returns which net this is, as `Standalone.description`. It is in no search space."""
        return {"text": str(self.architecture), "architecture": None, "space": None}

    def get_config(self) -> dict:
        """Returns plain values. `from_config` makes the same untrained model from them."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy.name,
            "kind": self.architecture.kind,
            "width": self.architecture.width,
            "num_reductions": self.stack.num_reductions,
            "stem_stride": self.stack.stem_stride,
            "num_classes": self.num_classes,
            "seed": self.seed,
        }


class _Block(keras.layers.Layer):
    """A block of a plan. A factor for each image scales what it adds to its input."""

    def __init__(self, block: Block, factory: LayerFactory, name: str):
        super().__init__(dtype=factory.dtype, name=name)
        self.residual = block.residual
        self.units = [_Unit(u, factory, f"{name}_{i}") for i, u in enumerate(block.units)]
        self.build((None, None, None, block.units[0].source))

    def build(self, input_shape: tuple):
        """Creates nothing. Keras records the shape here."""

    def call(
        self,
        x: tf.Tensor,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
        factor: tf.Tensor | None = None,
    ):
        y = x
        for unit in self.units:
            y = unit(y, num_ghosts=num_ghosts, training=training, micro_batch=micro_batch)
        if not self.residual:
            return y
        return x + (y if factor is None else factor * y)


class _Unit(keras.layers.Layer):
    """A convolution, a batch norm with scale, and a ReLU unless it is linear."""

    def __init__(self, unit: Unit, factory: LayerFactory, name: str):
        super().__init__(dtype=factory.dtype, name=name)
        self.plan = unit
        channels = (unit.source, 1) if unit.depthwise else (unit.source, unit.width)
        self.kernel = self.add_weight(
            name="kernel", shape=(unit.size, unit.size, *channels),
            initializer=factory.initializer(),
        )  # fmt: skip
        self.norm = GhostBatchNorm(moving_averages=True, dtype=factory.dtype, name=f"{name}_bn")
        self.norm.build((None, None, None, unit.width))
        self.build((None, None, None, unit.source))

    def build(self, input_shape: tuple):
        """Creates nothing. Keras records the shape here."""

    def call(
        self,
        x: tf.Tensor,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        kernel, stride = tf.convert_to_tensor(self.kernel), self.plan.stride
        if not self.plan.depthwise:
            y = convolve(x, kernel, stride)
        else:
            y = depthwise_convolve(x, kernel, stride)
        y = self.norm(y, num_ghosts=num_ghosts, training=training, micro_batch=micro_batch)
        return tf.nn.relu(y) if self.plan.relu else y


def baseline_model(
    baseline: Baseline, stack: Stack, num_classes: int, seed: int = 0, dtype: Any = None
) -> BaselineModel:
    """Returns the untrained model of a baseline, with the stem stride and reductions of a stack."""
    sizes = (baseline.width, stack.num_reductions or 0, stack.stem_stride)
    return BaselineModel(baseline.kind, *sizes, num_classes, seed, dtype)
