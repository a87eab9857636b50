"""Batch normalisation with the statistics of each ghost batch.

`normalize_ghosts` does the mathematics. `GhostBatchNorm` holds the variables.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.nn.surroundings import current
from oneshot_tf.system.errors import InputError

# Measured forward and backward on CPU. On small tensors, normalising all ghost batches at once is
# faster, because it needs fewer kernels. On larger ones, a fused kernel per ghost batch is faster.
_FUSED_FROM_ELEMENTS = 2**15
_FUSED_UP_TO_GHOSTS = 4


def normalize_ghosts(
    x: tf.Tensor,
    beta: tf.Tensor,
    gamma: tf.Tensor | float | None = None,
    *,
    num_ghosts: int,
    epsilon: float,
):
    """Normalises each ghost batch with its own mean and variance (Hoffer et al. 2017).

    Computes y = gamma * (x - mean_g) / sqrt(variance_g + epsilon) + beta. Ghost batch g is a run of
    B / num_ghosts consecutive images. Its statistics are taken over images, height and width. They
    are float32 for every type of `x`.

    Args:
        x: `[B, H, W, C]`. B is a multiple of `num_ghosts`.
        beta: Float32 `[C]`.
        gamma: Float32 `[C]`; None for ones.
        num_ghosts: G, at least 1.
        epsilon: A small number added to the variance.

    Returns:
        y, with the shape and type of `x`. Then the mean and the variance, each averaged over the
        ghost batches, float32 `[C]`.

    Raises:
        InputError: B is not a multiple of `num_ghosts`.
    """
    if x.shape[0] is not None and x.shape[0] % num_ghosts:
        raise InputError(
            f"{x.shape[0]} images cannot be cut into {num_ghosts} ghost batches. The number of "
            "images must be a multiple of `num_ghosts`."
        )
    gamma = tf.ones_like(beta) if gamma is None else gamma
    per_ghost = (
        x.shape[0] // num_ghosts * x.shape[1] * x.shape[2] * x.shape[3]
        if None not in x.shape
        else 0
    )
    if per_ghost >= _FUSED_FROM_ELEMENTS and num_ghosts <= _FUSED_UP_TO_GHOSTS:
        return _normalize_fused(x, beta, gamma, num_ghosts, epsilon)
    return _normalize_moments(x, beta, gamma, num_ghosts, epsilon)


def _normalize_moments(
    x: tf.Tensor, beta: tf.Tensor, gamma: tf.Tensor | float | None, num_ghosts: int, epsilon: float
):
    ghosts = tf.cast(tf.reshape(x, [num_ghosts, -1, x.shape[-1]]), tf.float32)
    mean = tf.reduce_mean(ghosts, axis=1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(ghosts, mean), axis=1, keepdims=True)
    factor = gamma * tf.math.rsqrt(variance + epsilon)
    y = tf.reshape(ghosts * factor + (beta - mean * factor), tf.shape(x))
    return tf.cast(y, x.dtype), tf.reduce_mean(mean, [0, 1]), tf.reduce_mean(variance, [0, 1])


def _normalize_fused(
    x: tf.Tensor, beta: tf.Tensor, gamma: tf.Tensor | float | None, num_ghosts: int, epsilon: float
):
    parts = [
        tf.raw_ops.FusedBatchNormV3(
            x=part, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon
        )
        for part in tf.split(x, num_ghosts)
    ]
    means = tf.add_n([part.batch_mean for part in parts]) / num_ghosts
    samples = x.shape[0] // num_ghosts * x.shape[1] * x.shape[2]
    biased = (samples - 1) / samples  # the kernel reports the unbiased variance
    variances = tf.add_n([part.batch_variance for part in parts]) * (biased / num_ghosts)
    return tf.concat([part.y for part in parts], axis=0), means, variances


@functools.cache
def _normalization(num_ghosts: int, epsilon: float, then: Callable[[tf.Tensor], tf.Tensor]):
    """Returns one function object for all layers with the same computation."""

    def normalize(x: tf.Tensor, *weights: Sequence[tf.Tensor]):
        return then(normalize_ghosts(x, *weights, num_ghosts=num_ghosts, epsilon=epsilon)[0])

    return normalize


def check_policy(policy: keras.DTypePolicy) -> None:
    """Checks that a dtype policy allows float32 statistics.

    Raises:
        InputError: The policy's variables are not float32, or it quantizes.
    """
    if policy.variable_dtype != "float32" or policy.quantization_mode is not None:
        raise InputError(
            "The dtype policy must be float32, mixed_float16 or mixed_bfloat16; got "
            f"{policy.name}. Give another `dtype`, or call keras.config.set_dtype_policy."
        )


@keras.saving.register_keras_serializable(package="oneshot_tf")
class GhostBatchNorm(keras.layers.Layer):
    """Batch normalisation over ghost batches, computed on the fly (section 3.2).

    Without moving averages, the layer uses the statistics of the current batch, both in training
    and in evaluation. One-shot models need this, because the statistics of a candidate
    architecture are not known in advance. With moving averages, the layer uses them outside of
    training. Stand-alone models need this, so that an image gets the same class alone and in a
    batch.

    Example:

        >>> layer = GhostBatchNorm()
        >>> layer(tf.random.normal([8, 4, 4, 3]), num_ghosts=2).shape.as_list()
        [8, 4, 4, 3]

    Args:
        scale: Whether to learn a scale, `gamma`, as in `keras.layers.BatchNormalization`. A ReLU
            and a convolution after the layer make it redundant. The layer always learns the
            offset, `beta`.
        moving_averages: Whether to keep averages of mean and variance over training. The layer uses
            them when `training` is False. None: only inside a stand-alone model.
        momentum: Momentum of the moving averages, in [0, 1).
        epsilon: A small number added to the variance.
        **kwargs: `name`, `dtype` and `trainable`, as in every Keras layer. The dtype policy must
            have float32 variables: "float32", "mixed_float16" or "mixed_bfloat16".

    Call arguments:
        x: `[B, H, W, C]`.
        num_ghosts: Number of ghost batches in `x`. It must divide B. None: that of the one-shot or
            stand-alone model around this layer, and 1 outside of any.
        training: Whether the call is part of training. This matters only with moving averages. If
            it is not given, the layer or model around this call decides, as everywhere in Keras;
            outside of any the value is False.
        micro_batch: (t, T), two numbers or one int tensor. This batch is micro-batch t (from 0) of
            the T micro-batches in a training step. After all T, the moving averages have moved
            once, by the mean of the T statistics. None: as with `num_ghosts`.

    Raises:
        InputError: The dtype policy is another one, or `num_ghosts` does not divide B.
    """

    def __init__(
        self,
        scale: bool = True,
        moving_averages: bool | None = None,
        momentum: float = 0.95,
        epsilon: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_policy(self.dtype_policy)
        self.use_scale = scale
        if moving_averages is None:
            moving_averages = current().moving_averages
        self.use_moving_averages = moving_averages
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: tuple):
        width = (input_shape[-1],)
        # Statistics stay float32 under mixed precision, so the variables do not autocast.
        self.beta = self.add_weight(name="beta", shape=width, initializer="zeros", autocast=False)
        if self.use_scale:
            self.gamma = self.add_weight(
                name="gamma", shape=width, initializer="ones", autocast=False
            )
        if self.use_moving_averages:
            self.moving_mean = self._average("moving_mean", width, "zeros")
            self.moving_variance = self._average("moving_variance", width, "ones")

    def _average(self, name: str, shape: tuple[int, ...], initializer: Any):
        # Replicas see different images. Reading the variable takes the mean over the replicas.
        # `add_weight` has no option for this (Keras 3.15), so the variable is made by hand.
        return keras.Variable(
            initializer=initializer,
            shape=shape,
            name=name,
            trainable=False,
            autocast=False,
            synchronization="on_read",
            aggregation="mean",
        )

    def weight_tensors(self) -> tuple:
        """Returns the arguments of `function` after x: beta, and gamma if there is one."""
        variables = (self.beta, self.gamma) if self.use_scale else (self.beta,)
        return tuple(tf.convert_to_tensor(v) for v in variables)

    def function(
        self,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
        then: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    ):
        """Returns the layer's computation, followed by `then`.

        The result is a function of x and `weight_tensors()`.
        """
        if not self.use_moving_averages:
            return _normalization(num_ghosts, self.epsilon, then)
        if training:
            return lambda x, *weights: then(
                self._normalize_and_average(x, weights, num_ghosts, micro_batch)
            )
        return lambda x, *weights: then(self._normalize_by_averages(x, *weights))

    def call(
        self,
        x: tf.Tensor,
        num_ghosts: int | None = None,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] | None = None,
    ):
        around = current()
        num_ghosts = around.num_ghosts if num_ghosts is None else num_ghosts
        micro_batch = around.micro_batch if micro_batch is None else micro_batch
        return self.function(num_ghosts, training, micro_batch)(x, *self.weight_tensors())

    def compute_output_shape(self, input_shape: tuple):
        return input_shape

    def _normalize_by_averages(
        self, x: tf.Tensor, beta: tf.Tensor, gamma: tf.Tensor | float | None = 1.0
    ):
        factor = gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        shift = beta - self.moving_mean * factor
        return tf.cast(tf.cast(x, tf.float32) * factor + shift, x.dtype)

    def _normalize_and_average(
        self,
        x: tf.Tensor,
        weights: Sequence[tf.Tensor],
        num_ghosts: int,
        micro_batch: tf.Tensor | tuple[int, int],
    ):
        y, mean, variance = normalize_ghosts(
            x, *weights, num_ghosts=num_ghosts, epsilon=self.epsilon
        )
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average + (value - average) * self._rate(micro_batch))
        return y

    def _rate(self, micro_batch: tf.Tensor | tuple[int, int]) -> tf.Tensor:
        """Returns the update rate of this micro-batch. After the step, all T weigh the same."""
        index, count = (tf.cast(number, tf.float32) for number in (micro_batch[0], micro_batch[1]))
        share = (1.0 - self.momentum) / count
        return share / (1.0 - share * (count - 1.0 - index))

    def get_config(self):
        return {
            **super().get_config(),
            "scale": self.use_scale,
            "moving_averages": self.use_moving_averages,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
