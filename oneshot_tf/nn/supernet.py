"""The one-shot model: one model that contains every architecture of a space."""

from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.nn.network import Network
from oneshot_tf.nn.paths import MaskedPaths, SkippedPaths
from oneshot_tf.space.kinds import unit_usage
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError


@keras.saving.register_keras_serializable(package="oneshot_tf")
class Supernet(Network):
    """The one-shot model (section 3.1), called as `supernet(images, masks, training)`.

    Batch norms use the statistics of each ghost batch, both in training and in evaluation
    (section 3.2). So masks alone are enough to evaluate an architecture. Nothing is retrained or
    recalibrated.

    `fit_supernet` trains the model; `keras.Model.fit` gives no masks. `save`,
    `keras.models.load_model` and `clone_model` work. For serving, export a `Standalone` instead.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(num_cells=1, filters=4), num_classes=10)
        >>> masks = space.masks([space.all_on()])
        >>> supernet(tf.zeros([8, 8, 8, 3]), masks).shape.as_list()
        [8, 10]

    Args:
        space: The search space of the cells.
        stack: The number of cells, their width, and the places of the reductions.
        num_classes: K, at least 2.
        seed: Seed of the initial weights, at least 0.
        dtype: A Keras dtype policy with float32 variables, for example "mixed_bfloat16". None
            takes Keras's global policy.
        **kwargs: `name` and `trainable`, as in every Keras model.

    Call arguments:
        images: Normalised images, float `[B, H, W, 3]`. B must be known.
        masks: Float32 `[G, P]`, where G divides B. Images g * B / G to (g + 1) * B / G - 1 use the
            paths of row g. 0 drops a path, 1 keeps it, and any other value is a mixture weight.
        training: Whether gradients will be needed. The result does not depend on it. None has the
            same meaning as in `Standalone`.
        num_ghosts: Number of ghost batches in the batch, a multiple of G; None for G.
        skip: Whether to skip dropped paths, not multiply them by zero. This needs a single row of
            masks, and a mask of 0 then gets no gradient. The result is the same. None skips if
            there is a single row.
        after_stem: Whether `images` are outputs of `stem_of`, `[B, H, W, F]`. Several
            architectures can share them.

    Returns:
        Logits, float32 `[B, K]`.

    Raises:
        InputError: The numbers of images, ghost batches and rows of masks do not fit together.
    """

    def __init__(
        self,
        space: Space,
        stack: Stack,
        num_classes: int = 10,
        seed: int = 0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", "supernet")
        super().__init__(space, stack, None, num_classes, seed, dtype, **kwargs)

    def __call__(
        self, images: tf.Tensor, masks: Any = None, training: bool | None = None, **options: Any
    ):
        if masks is None:
            raise InputError(
                "A one-shot model must be called with images and masks: supernet(images, masks). "
                "Keras's `fit`, `predict` and `export` give no masks; use `fit_supernet` and "
                "`evaluate`, and export a `Standalone`."
            )
        if training is not None:  # see `Standalone.__call__`
            options["training"] = training
        return super().__call__(images, masks, **options)

    def call(
        self,
        images: tf.Tensor,
        masks: Any,
        training: bool = False,
        num_ghosts: int | None = None,
        skip: bool | None = None,
        after_stem: bool = False,
    ):
        masks = tf.cast(masks, self.compute_dtype)
        batch, rows = images.shape[0], masks.shape[0]
        if masks.shape[1:] != (self.space.num_paths,):
            raise InputError(
                f"`masks` must have the shape [G, {self.space.num_paths}]; got {list(masks.shape)}."
            )
        if batch is None or rows is None:
            raise InputError(
                "The numbers of images and of rows of masks must be known; got shapes "
                f"{list(images.shape)} and {list(masks.shape)}. Give `keras.Input` a `batch_size`."
            )
        num_ghosts = rows if num_ghosts is None else num_ghosts
        if not rows or batch % num_ghosts or num_ghosts % rows:
            raise InputError(
                "The number of images must be a multiple of the number of ghost batches, and this "
                "a multiple of the number of rows of masks; got "
                f"{batch} images, {num_ghosts} ghost batches and {rows} rows."
            )
        skip = rows == 1 if skip is None else skip
        if skip and rows > 1:
            raise InputError(f"`skip=True` needs a single row of masks; got {rows} rows.")
        paths = SkippedPaths(masks[0]) if skip else MaskedPaths(masks, batch)
        stem = images if after_stem else self.stem_of(images, num_ghosts, training)
        return self._logits(stem, paths, num_ghosts, training)

    def export(self, *args: Any, **kwargs: Any):
        """Raises an error. Only stand-alone models are exported and served.

        Raises:
            InputError: Always.
        """
        raise InputError("A one-shot model cannot be exported; export a `Standalone`.")

    def part_outputs(self, images: tf.Tensor, mask: Any) -> dict:
        """Returns the outputs of stem, cells and classifier for one ghost batch, by name.

        Args:
            images: The images of the ghost batch, `[B, H, W, 3]`.
            mask: The row of masks of the ghost batch, `[P]`.
        """
        masks = tf.cast(mask[tf.newaxis], self.compute_dtype)
        stem = self.stem_of(images, 1, training=True)
        paths = MaskedPaths(masks, images.shape[0])
        return dict(self._outputs(stem, paths, 1, training=True))

    def usage(self, masks: Any):
        """Returns which `kernels` each ghost batch uses: float32 `[G, len(kernels)]` of 0 and 1.

        A kernel shared by several paths is used if any of them is (section 3.2, "Preventing
        Over-regularization").
        """
        used = tf.cast(tf.not_equal(masks, 0), tf.float32)
        units = tf.concat(unit_usage(self.space, self.stack.num_cells, used), axis=1)
        return tf.gather(units, self.kernel_units, axis=1)
