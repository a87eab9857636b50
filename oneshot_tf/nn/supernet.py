"""The one-shot model: one net that holds every architecture of a space."""

import numpy as np
import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.nn.network import Network, new_parts
from oneshot_tf.nn.paths import MaskedPaths, SkippedPaths
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import num_units, unit_usage


class Supernet(Network):
    """The one-shot model (section 3.1), called as `supernet(images, masks, training)`.

    Batch statistics are those of each ghost batch at hand, in training and in
    evaluation alike (section 3.2), so an architecture is evaluated by its masks
    alone: nothing is retrained or recalibrated.

    Args:
        space: the cells it can be.
        num_cells: cells in the stack; the paper's 6 for CIFAR-10.
        filters: channels of the first convolution (the paper's F).
        num_classes: K.
        seed: of the initial weights.
        dtype: a Keras dtype policy, such as "mixed_bfloat16".

    Call arguments:
        images: normalised images, float `[B, H, W, 3]`.
        masks: float32 `[G, P]`, G a divisor of B. Row g says which paths
            images g * B / G to (g + 1) * B / G - 1 use: 0 dropped, 1 kept,
            anything else a mixture weight.
        training: whether gradients will be asked for. The numbers are the
            same; without training, paths that no row uses aren't computed.

    Returns:
        Logits, float32 `[B, K]`.
    """

    def __init__(
        self, space: CellSpace, num_cells=6, filters=16, num_classes=10, seed=0, dtype=None
    ):
        every = np.ones(num_units(space, num_cells), bool)
        parts = new_parts(False, dtype, seed)
        super().__init__(space, every, num_cells, filters, num_classes, parts, name="supernet")

    def __call__(self, images, masks, training=False):
        # Keras takes only tensors by position; `training` may be given so here.
        return super().__call__(images, masks, training=training)

    def call(self, images, masks, training=False):
        masks = tf.cast(masks, self.compute_dtype)
        batch, num_ghosts = images.shape[0], masks.shape[0]
        if masks.shape[1:] != (self.space.num_paths,):
            raise InputError(
                f"masks of shape {tuple(masks.shape)}; needed is [G, {self.space.num_paths}]."
            )
        if batch is None or not num_ghosts or batch % num_ghosts:
            raise InputError(
                f"{batch} images for {num_ghosts} rows of masks; the number of images must be a "
                "known multiple of the number of rows (ghost batches)."
            )
        paths = (MaskedPaths if training else SkippedPaths)(masks, batch)
        return self._logits(images, paths, num_ghosts, training)

    def usage(self, masks):
        """Which of `kernels` each ghost batch uses: float32 `[G, len(kernels)]` of 0 and 1.

        A kernel that serves several paths is used where any of them is (section 3.2,
        "Preventing Over-regularization").
        """
        used = tf.cast(tf.not_equal(masks, 0), tf.float32)
        units = tf.concat(unit_usage(self.space, self.num_cells, used), axis=1)
        return tf.gather(units, self.kernel_units, axis=1)
