"""Path dropout, the paper's way to train a one-shot model (section 3.2)."""

import numpy as np
import tensorflow as tf

from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.system.errors import InputError

SCHEDULES = ("linear", "constant")
_ONE = 1 << 30  # rates are compared as integers: float draws differ between XLA and not


class PathDropout:
    """Drops each path independently at rate r^(1/k), k the paths that meet at its node.

    So the chance that a node loses all its paths is r whatever its fan-in k: 7
    for operations (they meet at the block's sum), 2 + j for the inputs of block
    j. The same row of masks serves every cell; each ghost batch draws its own.

    Args:
        space: its paths and nodes.
        final_rate: r, in [0, 1].
        schedule: "linear": every path's rate rises linearly from 0 at step 0 to
            r^(1/k) at `num_steps` (section 4.1); "constant": r^(1/k) all along.
        num_steps: length of the training, at least 1; needed by "linear".
    """

    def __init__(self, space: CellSpace, final_rate=0.1, schedule="linear", num_steps=None):
        if not 0.0 <= final_rate <= 1.0:
            raise InputError(f"final_rate={final_rate}; a dropout rate lies in [0, 1].")
        if schedule not in SCHEDULES:
            raise InputError(f"schedule={schedule!r}; known are {', '.join(SCHEDULES)}.")
        if schedule == "linear" and (num_steps is None or num_steps < 1):
            raise InputError(f"num_steps={num_steps}; the linear schedule needs at least 1 step.")
        self.num_steps = num_steps if schedule == "linear" else None
        self.final_rate = final_rate
        self.final_rates = np.zeros(space.num_paths, np.float32)
        for paths in space.nodes():
            self.final_rates[paths] = final_rate ** (1.0 / len(paths))

    def progress(self, step) -> tf.Tensor:
        """The share of the final rates in force at a step, in [0, 1]."""
        if self.num_steps is None:
            return tf.constant(1.0)
        return tf.minimum(tf.cast(step, tf.float32) / float(self.num_steps), 1.0)

    def kept_share(self, step: int) -> float:
        """The expected share of paths that are kept at a step."""
        progress = 1.0 if self.num_steps is None else min(step / self.num_steps, 1.0)
        return 1.0 - progress * float(self.final_rates.mean())

    def rates(self, step) -> tf.Tensor:
        """Each path's chance to be dropped at a step: float32 `[P]`."""
        return self.final_rates * self.progress(step)

    def sample(self, num_ghosts: int, step, seed: int) -> tf.Tensor:
        """Masks float32 `[num_ghosts, P]` of 0 (dropped) and 1 (kept)."""
        draws = tf.random.stateless_uniform(
            [num_ghosts, len(self.final_rates)],
            seed=tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)]),
            minval=0,
            maxval=_ONE,
            dtype=tf.int32,
        )
        thresholds = tf.cast(self.rates(step) * float(_ONE), tf.int32)
        return tf.cast(draws >= thresholds, tf.float32)
