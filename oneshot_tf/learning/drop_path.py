"""ScheduledDropPath (Zoph et al. 2018, "Learning Transferable Architectures").

The rule is that of the published code (tensorflow/models, nasnet_utils.py, `_apply_drop_path`,
version 3). At step t of T, an operation of cell c of C is kept with probability

    1 - t / T * (c + 1) / C * (1 - keep)

A kept operation is divided by this probability, so that its expectation stays the same.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_STREAM = 2  # folded into the seed, so that augmentation draws other numbers


class DropPath:
    """Draws which paths each image of a step drops.

    Args:
        keep: The probability to keep a path of depth 1 after the last step, in (0, 1].
        depths: The depth of each path, in (0, 1]: (c + 1) / C for a path in cell c of C.
        num_steps: The number T of steps of the whole training.
        seed: Random seed.
    """

    def __init__(self, keep: float, depths: Sequence[float], num_steps: int, seed: int):
        self.keep, self.num_steps, self.seed = keep, num_steps, seed
        self._drop = np.array(depths, np.float32) * np.float32(1.0 - keep)

    def probabilities(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the probability to keep each path at a step: float32 `[n]`."""
        progress = tf.minimum(tf.cast(step, tf.float32) / float(self.num_steps), 1.0)
        return 1.0 - progress * self._drop

    def factors(self, num_images: int, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the factor of each path for each image of the global batch.

        The draws are for the whole global batch and depend only on (seed, step). So they do not
        depend on how the batch is distributed, and a repeated step repeats them.

        Args:
            num_images: Images in the global batch, B.
            step: The training step, from 0.

        Returns:
            Float32 `[B, n]`: 0 for a dropped path, 1 / probability for a kept one.
        """
        key = tf.stack([tf.cast(self.seed, tf.int32), tf.cast(step, tf.int32)])
        key = tf.random.experimental.stateless_fold_in(key, _STREAM)
        kept = self.probabilities(step)
        draws = tf.random.stateless_uniform([num_images, len(self._drop)], seed=key)
        return tf.cast(draws < kept, tf.float32) / kept
