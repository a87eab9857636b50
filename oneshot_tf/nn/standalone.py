"""A stand-alone model: one architecture, built alone and trained from scratch."""

import json
import os
from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.nn.network import Network
from oneshot_tf.nn.paths import AllPaths, DroppedPaths
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack


@keras.saving.register_keras_serializable(package="oneshot_tf")
class Standalone(Network):
    """The stand-alone model of one architecture (section 3.4).

    The model contains only the paths that the architecture uses, and only the cells that its output
    depends on. Batch norms use the statistics of ghost batches in training, and moving averages
    otherwise. So an image gets the same class alone and in a batch.

    This is an ordinary Keras model. It can be a layer of another model, and `save`,
    `keras.models.load_model`, `clone_model`, `summary` and `export` work. `compile` and `fit` also
    train it, but not in the paper's way: `fit_standalone` cuts the batch into ghost batches and
    adds L2 regularisation, while `fit` takes the batch as one ghost batch and adds none. To add it,
    run this before `compile`:

        for kernel in net.kernels:
            kernel.regularizer = keras.regularizers.L2(weight_decay / 2)

    A model around this one must take `training` in its `call`. Otherwise Keras's `fit` does not
    pass it on. Batch norms, Keras's own included, then stay in inference mode, and their moving
    averages never change. For TensorFlow Lite, use `TFLiteConverter.from_keras_model`.
    `from_concrete_functions` does not find Keras's variables, and the converted model returns NaN.

    `count_params()` also counts the moving averages, two for each `beta`. `oneshot_tf.parameters`
    counts trained parameters only, as the paper does.

    Example:

        >>> cell = Architecture.from_text("prev1:sep3x3")
        >>> net = Standalone(bender2018(num_blocks=1), cell, Stack(1, 4), num_classes=10)
        >>> net(tf.zeros([2, 8, 8, 3])).shape.as_list()
        [2, 10]

    Args:
        space: The search space of the architecture.
        architecture: The architecture to build. It can be All On.
        stack: The number of cells, their width (scale it with the paper's F), and the places of the
            reductions.
        num_classes: K, at least 2.
        seed: Seed of the initial weights, at least 0.
        dtype: A Keras dtype policy with float32 variables, for example "mixed_bfloat16". None
            takes Keras's global policy.
        **kwargs: `name` and `trainable`, as in every Keras model.

    Call arguments:
        images: Normalised images, float `[B, H, W, 3]`.
        training: Whether batch norms use the batch's statistics and average them. None takes the
            value of the layer or model around this call, and False outside of any.
        num_ghosts: Number of ghost batches in the batch, in training.
        micro_batch: Place of this micro-batch in the training step; see `GhostBatchNorm`.
        path_factors: Float `[B, n]`, a factor for each image and operation in the order of
            `droppable`, as ScheduledDropPath draws them. None for ones.

    Returns:
        Logits, float32 `[B, K]`.

    Raises:
        InputError: An argument of the constructor has a wrong type or is out of its range.
    """

    def __init__(
        self,
        space: Space,
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
        # Keras takes only tensors by position; here `training` can be given by position too. An
        # explicit None would make Keras ignore the `training` of the model around this one.
        if training is not None:
            options["training"] = training
        return super().__call__(images, **options)

    def call(
        self,
        images: tf.Tensor,
        training: bool = False,
        num_ghosts: int = 1,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
        path_factors: tf.Tensor | None = None,
    ):
        stem = self.stem_of(images, num_ghosts, training, micro_batch)
        paths = self._paths(path_factors)
        return self._logits(stem, paths, num_ghosts, training, micro_batch)

    def _paths(self, factors: tf.Tensor | None) -> AllPaths:
        if factors is None:
            return AllPaths()
        factors = tf.cast(factors, self.compute_dtype)[:, :, None, None, None]
        columns = tf.unstack(factors, axis=1)
        return DroppedPaths(dict(zip(self.droppable, columns)))

    @property
    def droppable(self) -> list[tuple[int, int]]:
        """The operations that ScheduledDropPath drops, each as its cell or layer and its path."""
        return self.body.droppable

    @property
    def path_depths(self) -> list[float]:
        """The depth of each of `droppable`: (c + 1) / C for cell or layer c of C."""
        return [(place + 1) / self.body.depth for place, _ in self.droppable]

    def description(self) -> dict[str, Any]:
        """Returns which net this is, as values for JSON: its text, architecture and space."""
        return {
            "text": str(self.architecture),
            "architecture": json.loads(self.architecture.to_json()),
            "space": self.space.to_dict(),
        }

    def get_config(self) -> dict:
        return {**super().get_config(), "architecture": str(self.architecture)}

    def export(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any):
        """Exports the model as `keras.Model.export` does, also before the first call."""
        self(keras.ops.zeros([1, 32, 32, 3]))
        return super().export(filepath, *args, **kwargs)

    def part_outputs(self, images: tf.Tensor, path_factors: tf.Tensor | None = None) -> dict:
        """Returns the outputs of stem, cells and classifier by name.

        Args:
            images: One ghost batch, `[B, H, W, 3]`. Batch norms treat it as training does.
            path_factors: As in a call.
        """
        stem = self.stem_of(images, 1, training=True)
        return dict(self._outputs(stem, self._paths(path_factors), 1, training=True))
