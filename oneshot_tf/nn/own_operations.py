"""Operations that users make of Keras layers, and what is required of them."""

import functools
import inspect
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.nn.operations import Chain, Stage
from oneshot_tf.nn.surroundings import inside
from oneshot_tf.space.own import OwnOperation
from oneshot_tf.system.errors import InputError

_TOLERANCE = 1e-4  # of outputs that must be equal, relative to the largest


class OwnLayer(Chain):
    """An operation made of a user's Keras layer.

    Its initial weights come from the seed of the model. Names of its parts do not depend on what
    was built before.

    Args:
        factory: Makes the initial weights; see `nn.operations.LayerFactory`.
        operation: Makes the layer.
        width: Number of output channels.
        stride: Factor by which it divides height and width.
    """

    expand = None  # as in `nn.mobile.MobileConv`

    def __init__(
        self, factory: Any, operation: OwnOperation, width: int, stride: int = 1, **kwargs: Any
    ):
        super().__init__(dtype=factory.dtype, **kwargs)
        self.seed = int(factory.rng.integers(2**31))
        self.keeps_averages = factory.moving_averages
        self.layer = _seeded(self.seed, self._make, operation, width, stride)

    def _make(self, operation: OwnOperation, width: int, stride: int) -> keras.layers.Layer:
        with inside(moving_averages=self.keeps_averages):
            layer = operation.make_layer(width, stride)
        for index, part in enumerate(layer._flatten_layers()):
            part.name = f"{type(part).__name__.lower()}_{index}"
        return layer

    def build(self, input_shape: tuple) -> None:
        with inside(moving_averages=self.keeps_averages):
            _seeded(self.seed, self.layer.build, input_shape)

    @property
    def kernel_variables(self) -> list[keras.Variable]:
        """The variables under L2 regularisation: all that are not vectors."""
        return [v for v in self.layer.trainable_variables if len(v.shape) > 1]

    def stages(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ) -> list[Stage]:
        if self.keeps_averages:  # a stand-alone model, which skips nothing

            def run(x: tf.Tensor) -> tf.Tensor:
                with inside(num_ghosts=num_ghosts, micro_batch=micro_batch):
                    return self.layer(x, **_training(self.layer, training))

            return [Stage(run)]
        weights = tuple(tf.convert_to_tensor(v) for v in self.layer.trainable_variables)
        return [Stage(_stateless(self.layer, num_ghosts), weights)]


@functools.cache
def _stateless(layer: keras.layers.Layer, num_ghosts: int) -> Callable:
    """Returns the layer's computation as a function of x and its weights."""

    def run(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        with inside(num_ghosts=num_ghosts):
            return layer.stateless_call(list(weights), [], x, **_training(layer, True))[0]

    return run


def _training(layer: keras.layers.Layer, training: bool) -> dict[str, bool]:
    """Returns `training` as an argument for a call, if the layer takes it."""
    return {"training": training} if "training" in inspect.signature(layer.call).parameters else {}


def _seeded(seed: int, function: Callable, *args: Any) -> Any:
    """Calls a function in which Keras's initializers without a seed draw theirs from `seed`."""
    before = random.getstate()
    random.seed(seed)
    try:
        return function(*args)
    finally:
        random.setstate(before)


def check(operation: OwnOperation, source_width: int, width: int, stride: int) -> None:
    """Checks on small random images that an operation can be a path.

    Args:
        operation: The operation.
        source_width: Channels of its input.
        width, stride: Channels of its output, and its stride.

    Raises:
        InputError: The output has another shape; the layer has weights that are not trained; it is
            random; or images influence each other outside of ghost batches.
    """
    where = f"The operation '{operation.name}' with width {width} and stride {stride}"
    x = np.random.default_rng(0).normal(size=[4, 8, 8, source_width]).astype(np.float32)
    layer = operation.make_layer(width, stride)
    if not isinstance(layer, keras.layers.Layer):
        raise InputError(f"{where} must be a Keras layer; got a {type(layer).__name__}.")
    y = _called(where, layer, x, 1)
    side = -(-8 // stride)
    if y.shape != (4, side, side, width):
        raise InputError(
            f"{where} must map [B, 8, 8, {source_width}] to [B, {side}, {side}, {width}]; got "
            f"{['B', *y.shape[1:]]}."
        )
    if any("seed_generator" in v.path for v in layer.non_trainable_variables):
        raise InputError(f"{where} must not be random. Remove dropout, noise and augmentation.")
    if layer.non_trainable_variables:
        name = layer.non_trainable_variables[0].path
        raise InputError(
            f"{where} must not keep state that is not trained; got the weight '{name}'. Use "
            "ost.GhostBatchNorm in place of BatchNormalization."
        )
    if _differ(y, _called(where, layer, x, 1)):
        raise InputError(f"{where} must not be random: two calls gave different results.")
    halves = np.concatenate([_called(where, layer, half, 1) for half in (x[:2], x[2:])])
    if _differ(_called(where, layer, x, 2), halves):
        raise InputError(
            f"{where} must not let images influence each other outside of their ghost batch. For "
            "batch statistics, use ost.GhostBatchNorm."
        )


def _called(where: str, layer: keras.layers.Layer, x: np.ndarray, num_ghosts: int) -> np.ndarray:
    try:
        with inside(num_ghosts=num_ghosts):
            return keras.ops.convert_to_numpy(layer(x, **_training(layer, True)))
    except Exception as error:  # whatever a user's layer raises
        text = str(error).strip().split("\n")[0][:200]
        raise InputError(f"{where} cannot be called: {type(error).__name__}: {text}") from None


def _differ(one: np.ndarray, two: np.ndarray) -> bool:
    return bool(np.abs(one - two).max() > _TOLERANCE * max(1.0, np.abs(one).max()))
