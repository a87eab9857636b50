"""Single-path sampling (Guo et al. 2020): each ghost batch trains one architecture."""

import dataclasses

import numpy as np
import tensorflow as tf

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.decisions import mean_share
from oneshot_tf.space.space import Space
from oneshot_tf.strategies.protocols import Sampler

_BITS = 30  # of a draw; options are drawn as integers, so XLA gives the same ones


@dataclasses.dataclass(frozen=True)
class SinglePathSettings(StrategySettings):
    """Single path."""

    strategy: str = setting("single_path", "How training chooses paths.", choices=("single_path",))


class SinglePath(Sampler):
    """Draws one architecture per ghost batch, uniformly over the space.

    There is no ramp: each step keeps the same share of paths on average, 35 % in the paper's cell.

    Example:

        >>> SinglePath(bender2018()).sample(num_ghosts=4, step=0, seed=0).shape.as_list()
        [4, 42]

    Args:
        space: The search space.
    """

    def __init__(self, space: Space):
        decisions = space.decisions
        self._sizes = np.array([d.num_options for d in decisions], np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        # A row of masks for each option of each decision.
        self._rows = np.zeros([self._sizes.sum(), space.num_paths], np.float32)
        for start, decision in zip(self._starts, decisions):
            rows = slice(start, start + decision.num_options)
            self._rows[rows, list(decision.paths)] = decision.options
        self._kept_share = mean_share(decisions, space.num_paths)

    @classmethod
    def from_settings(
        cls, space: Space, settings: SinglePathSettings, num_steps: int
    ) -> "SinglePath":
        """Returns the sampler for the train program."""
        return cls(space)

    def kept_share(self, step: int) -> float:
        """Returns the expected share of paths that a step keeps, in [0, 1]."""
        return self._kept_share

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the expected share of dropped paths."""
        return {"dropped_share": 1.0 - self._kept_share}

    def sample(self, num_ghosts: int, step: int | tf.Tensor, seed: int) -> tf.Tensor:
        """Returns masks float32 `[num_ghosts, P]` of 0 and 1: an architecture in each row."""
        draws = tf.random.stateless_uniform(
            [num_ghosts, len(self._sizes)],
            seed=tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)]),
            minval=0,
            maxval=1 << _BITS,
            dtype=tf.int32,
        )
        options = tf.bitwise.right_shift(tf.cast(draws, tf.int64) * self._sizes, _BITS)
        return tf.reduce_sum(tf.gather(self._rows, self._starts + options), axis=1)
