"""A stand-alone net: one architecture, built alone and trained from scratch."""

import os
from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.nn.network import Network
from oneshot_tf.nn.paths import AllPaths
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import Stack


@keras.saving.register_keras_serializable(package="oneshot_tf")
class Standalone(Network):
    """One architecture as a net of its own (section 3.4).

    Only what the architecture uses is built: its paths, and of the cells those
    that its output depends on. Batch norms use the statistics of ghost batches
    in training and moving averages otherwise, so an image is classified alone
    as it is in a batch.

    It is a Keras model as any other: it can be a layer of another model, and
    `save`, `keras.models.load_model`, `clone_model`, `summary` and `export`
    work. `compile` and `fit` train it too, but not as the paper does:
    `fit_standalone` cuts the batch into ghost batches and adds L2, `fit` takes
    the batch as one ghost batch and adds none. This adds it, before `compile`:

        for kernel in net.kernels:
            kernel.regularizer = keras.regularizers.L2(weight_decay / 2)

    A model around it must take `training` in its `call`: Keras's `fit` tells a
    model that does not take it nothing, and batch norms, Keras's own too, stay as
    they are. For TensorFlow Lite, give the net to `TFLiteConverter.from_keras_model`;
    `from_concrete_functions` does not find Keras's variables, and what it makes of
    the net answers NaN.

    `count_params()` counts the moving averages too, two for each `beta`;
    `oneshot_tf.parameters` counts, as the paper does, what is trained.

    Example:

        >>> cell = Architecture.from_text("prev1:sep3x3")
        >>> net = Standalone(bender2018(num_blocks=1), cell, Stack(1, 4), num_classes=10)
        >>> net(tf.zeros([2, 8, 8, 3])).shape.as_list()
        [2, 10]

    Args:
        space: the space of the architecture.
        architecture: what to build; All On too.
        stack: how many cells, how wide (the paper's F, to scale by), and where they shrink.
        num_classes: K, at least 2.
        seed: of the initial weights, at least 0.
        dtype: a Keras dtype policy with float32 variables, such as "mixed_bfloat16";
            None for Keras's global one.
        **kwargs: `name` and `trainable`, as of every Keras model.

    Call arguments:
        images: normalised images, float `[B, H, W, 3]`.
        training: whether batch norms use (and average) the batch's statistics. None
            for that of the layer or model around this call; False outside of any.
        num_ghosts: ghost batches in the batch, when training.
        micro_batch: see `GhostBatchNorm`.

    Returns:
        Logits, float32 `[B, K]`.

    Raises:
        InputError: an argument of the constructor is not one of these.
    """

    def __init__(
        self,
        space: CellSpace,
        architecture: Architecture,
        stack: Stack,
        num_classes: int = 10,
        seed: int = 0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", "standalone")
        super().__init__(space, stack, architecture, num_classes, seed, dtype, **kwargs)
        self.architecture = architecture

    def __call__(self, images: tf.Tensor, training: bool | None = None, **options: Any):
        # Keras takes only tensors by position; `training` may be given so here. To Keras an
        # explicit None would hide the `training` of the model around this one.
        if training is not None:
            options["training"] = training
        return super().__call__(images, **options)

    def call(
        self,
        images: tf.Tensor,
        training: bool = False,
        num_ghosts: int = 1,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        stem = self.stem_of(images, num_ghosts, training, micro_batch)
        return self._logits(stem, AllPaths(), num_ghosts, training, micro_batch)

    def get_config(self) -> dict:
        return {**super().get_config(), "architecture": str(self.architecture)}

    def export(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any):
        """As `keras.Model.export`, which refuses a model that was never called."""
        self(keras.ops.zeros([1, 32, 32, 3]))
        return super().export(filepath, *args, **kwargs)

    def part_outputs(self, images: tf.Tensor) -> dict:
        """The outputs of stem, cells and classifier by name, of one ghost batch in training."""
        stem = self.stem_of(images, 1, training=True)
        return dict(self._outputs(stem, AllPaths(), 1, training=True))
