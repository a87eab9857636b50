"""The one-shot model: one net that holds every architecture of a space."""

from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.nn.network import Network
from oneshot_tf.nn.paths import MaskedPaths, SkippedPaths
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import Stack, unit_usage
from oneshot_tf.system.errors import InputError


@keras.saving.register_keras_serializable(package="oneshot_tf")
class Supernet(Network):
    """The one-shot model (section 3.1), called as `supernet(images, masks, training)`.

    Batch statistics are those of each ghost batch at hand, in training and in
    evaluation alike (section 3.2), so an architecture is evaluated by its masks
    alone: nothing is retrained or recalibrated.

    `keras.Model.fit` gives no masks, so `fit_supernet` trains it. `save`,
    `keras.models.load_model` and `clone_model` work; what is exported for
    serving is a `Standalone`.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(num_cells=1, filters=4), num_classes=10)
        >>> masks = space.masks([space.all_on()])
        >>> supernet(tf.zeros([8, 8, 8, 3]), masks).shape.as_list()
        [8, 10]

    Args:
        space: the cells it can be.
        stack: how many cells, how wide, and where they shrink.
        num_classes: K, at least 2.
        seed: of the initial weights, at least 0.
        dtype: a Keras dtype policy with float32 variables, such as "mixed_bfloat16";
            None for Keras's global one.
        **kwargs: `name` and `trainable`, as of every Keras model.

    Call arguments:
        images: normalised images, float `[B, H, W, 3]`, of a known B.
        masks: float32 `[G, P]`, G a divisor of B. Row g says which paths
            images g * B / G to (g + 1) * B / G - 1 use: 0 dropped, 1 kept,
            anything else a mixture weight.
        training: whether gradients will be asked for. The numbers are the same. None as
            in `Standalone`.
        num_ghosts: ghost batches in the batch, a multiple of G; None for G.
        skip: whether to leave out what the masks drop, which needs a single
            row; then a mask of 0 gets no gradient. Otherwise all is computed and
            multiplied. The numbers are the same. None: where there is a single row.
        after_stem: whether `images` are what `stem_of` made of them, `[B, H, W, F]`,
            so that several architectures can share that.

    Returns:
        Logits, float32 `[B, K]`.

    Raises:
        InputError: the numbers of images, ghost batches and rows do not fit together.
    """

    def __init__(
        self,
        space: CellSpace,
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
        if training is not None:  # as in `Standalone`
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
                "A one-shot model must know the number of images and of rows of masks; got "
                f"{list(images.shape)} and {list(masks.shape)}. Give `keras.Input` a `batch_size`."
            )
        num_ghosts = rows if num_ghosts is None else num_ghosts
        if not rows or batch % num_ghosts or num_ghosts % rows:
            raise InputError(
                "The number of images must be a multiple of that of ghost batches, and that of "
                f"ghost batches a multiple of that of rows of masks; got {batch} images, "
                f"{num_ghosts} ghost batches and {rows} rows."
            )
        skip = rows == 1 if skip is None else skip
        if skip and rows > 1:
            raise InputError(f"skip=True needs a single row of masks; got {rows} rows.")
        paths = SkippedPaths(masks[0]) if skip else MaskedPaths(masks, batch)
        stem = images if after_stem else self.stem_of(images, num_ghosts, training)
        return self._logits(stem, paths, num_ghosts, training)

    def export(self, *args: Any, **kwargs: Any):
        """Refuses: what is served is a stand-alone net.

        Raises:
            InputError: always.
        """
        raise InputError("A one-shot model cannot be exported; export a `Standalone`.")

    def part_outputs(self, images: tf.Tensor, mask: Any) -> dict:
        """The outputs of stem, cells and classifier by name, of one ghost batch with `mask`."""
        masks = tf.cast(mask[tf.newaxis], self.compute_dtype)
        stem = self.stem_of(images, 1, training=True)
        paths = MaskedPaths(masks, images.shape[0])
        return dict(self._outputs(stem, paths, 1, training=True))

    def usage(self, masks: Any):
        """Which of `kernels` each ghost batch uses: float32 `[G, len(kernels)]` of 0 and 1.

        A kernel that serves several paths is used where any of them is (section 3.2,
        "Preventing Over-regularization").
        """
        used = tf.cast(tf.not_equal(masks, 0), tf.float32)
        units = tf.concat(unit_usage(self.space, self.stack.num_cells, used), axis=1)
        return tf.gather(units, self.kernel_units, axis=1)
