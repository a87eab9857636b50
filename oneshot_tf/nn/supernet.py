"""The one-shot model: one net that holds every architecture of a space."""

import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.nn.network import Network, new_parts
from oneshot_tf.nn.paths import MaskedPaths, SkippedPaths
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import Stack, unit_usage


class Supernet(Network):
    """The one-shot model (section 3.1), called as `supernet(images, masks, training)`.

    Batch statistics are those of each ghost batch at hand, in training and in
    evaluation alike (section 3.2), so an architecture is evaluated by its masks
    alone: nothing is retrained or recalibrated.

    Args:
        space: the cells it can be.
        stack: how many cells, how wide, and where they shrink.
        num_classes: K.
        seed: of the initial weights.
        dtype: a Keras dtype policy, such as "mixed_bfloat16".

    Call arguments:
        images: normalised images, float `[B, H, W, 3]`.
        masks: float32 `[G, P]`, G a divisor of B. Row g says which paths
            images g * B / G to (g + 1) * B / G - 1 use: 0 dropped, 1 kept,
            anything else a mixture weight.
        training: whether gradients will be asked for. The numbers are the same.
        num_ghosts: ghost batches in the batch, a multiple of G; None for G.
        skip: whether to leave out what the masks drop, which needs a single
            row; then a mask of 0 gets no gradient. Otherwise all is computed and
            multiplied. The numbers are the same. None: where there is a single row.
        after_stem: whether `images` are what `stem_of` made of them, `[B, H, W, F]`,
            so that several architectures can share that.

    Returns:
        Logits, float32 `[B, K]`.
    """

    def __init__(self, space: CellSpace, stack: Stack, num_classes=10, seed=0, dtype=None):
        parts = new_parts(False, dtype, seed)
        super().__init__(space, stack, None, num_classes, parts, name="supernet")

    def __call__(self, images, masks, training=False, **options):
        # Keras takes only tensors by position; `training` may be given so here.
        return super().__call__(images, masks, training=training, **options)

    def call(self, images, masks, training=False, num_ghosts=None, skip=None, after_stem=False):
        masks = tf.cast(masks, self.compute_dtype)
        batch, rows = images.shape[0], masks.shape[0]
        if masks.shape[1:] != (self.space.num_paths,):
            raise InputError(
                f"masks of shape {tuple(masks.shape)}; needed is [G, {self.space.num_paths}]."
            )
        num_ghosts = rows if num_ghosts is None else num_ghosts
        if batch is None or not rows or batch % num_ghosts or num_ghosts % rows:
            raise InputError(
                f"{batch} images, {num_ghosts} ghost batches, {rows} rows of masks; the number of "
                "images must be a known multiple of the ghost batches, and those of the rows."
            )
        skip = rows == 1 if skip is None else skip
        if skip and rows > 1:
            raise InputError(f"skip=True with {rows} rows of masks; skipping needs a single row.")
        paths = SkippedPaths(masks[0]) if skip else MaskedPaths(masks, batch)
        stem = images if after_stem else self.stem_of(images, num_ghosts, training)
        return self._logits(stem, paths, num_ghosts, training)

    def part_outputs(self, images, mask) -> dict:
        """The outputs of stem, cells and classifier by name, of one ghost batch with `mask`."""
        masks = tf.cast(mask[tf.newaxis], self.compute_dtype)
        stem = self.stem_of(images, 1, training=True)
        paths = MaskedPaths(masks, images.shape[0])
        return dict(self._outputs(stem, paths, 1, training=True))

    def usage(self, masks):
        """Which of `kernels` each ghost batch uses: float32 `[G, len(kernels)]` of 0 and 1.

        A kernel that serves several paths is used where any of them is (section 3.2,
        "Preventing Over-regularization").
        """
        used = tf.cast(tf.not_equal(masks, 0), tf.float32)
        units = tf.concat(unit_usage(self.space, self.stack.num_cells, used), axis=1)
        return tf.gather(units, self.kernel_units, axis=1)
