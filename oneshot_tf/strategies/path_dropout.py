"""Path dropout, the paper's way to train a one-shot model (section 3.2)."""

import dataclasses

import numpy as np
import tensorflow as tf

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.space import Space
from oneshot_tf.strategies.protocols import Sampler
from oneshot_tf.system.errors import InputError

SCHEDULES = ("linear", "constant")
_ONE = 1 << 30  # rates are compared as integers: float draws differ with and without XLA


@dataclasses.dataclass(frozen=True)
class PathDropoutSettings(StrategySettings):
    """Path dropout."""

    strategy: str = setting(
        "path_dropout", "How training chooses paths.", choices=("path_dropout",)
    )
    drop_rate: float = setting(
        0.1,
        "Dropout rate, r in the paper: the probability that all k paths into a node are dropped. "
        "Each path is dropped with probability r^(1/k).",
        least=0.0,
        most=1.0,
        common=True,
    )
    drop_schedule: str = setting(
        "linear",
        "Dropout rate over the training. linear: rises from 0 to its final value. constant: stays "
        "the same.",
        choices=SCHEDULES,
    )


class PathDropout(Sampler):
    """Drops each path independently at rate r^(1/k), where k paths meet at its node.

    So a node loses all its paths with probability r, for every k. Operations meet at the block's
    sum, with k = 7. Inputs of block j meet with k = 2 + j. All cells use the same row of masks.
    Each ghost batch draws a separate row.

    Example:

        >>> sampler = PathDropout(bender2018(), final_rate=0.1, num_steps=100)
        >>> sampler.sample(num_ghosts=4, step=50, seed=0).shape.as_list()
        [4, 42]

    Args:
        space: The search space, with its decisions.
        final_rate: r, in [0, 1].
        schedule: "linear": every rate rises linearly from 0 at step 0 to r^(1/k) at `num_steps`
            (section 4.1). "constant": every rate is r^(1/k) throughout.
        num_steps: Length of the training, at least 1. The linear schedule needs it.

    Raises:
        InputError: A value is out of its range.
    """

    def __init__(
        self,
        space: Space,
        final_rate: float = 0.1,
        schedule: str = "linear",
        num_steps: int | None = None,
    ):
        if not 0.0 <= final_rate <= 1.0:
            raise InputError(f"final_rate must be in [0, 1]; got {final_rate}.")
        if schedule not in SCHEDULES:
            raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}; got {schedule!r}.")
        if schedule == "linear" and (num_steps is None or num_steps < 1):
            raise InputError(
                f"num_steps must be at least 1 for the linear schedule; got {num_steps}."
            )
        self.num_steps = num_steps if schedule == "linear" else None
        self.final_rate = final_rate
        self.final_rates = np.zeros(space.num_paths, np.float32)
        for decision in space.decisions:
            paths = list(decision.paths)
            self.final_rates[paths] = final_rate ** (1.0 / len(paths))

    @classmethod
    def from_settings(
        cls, space: Space, settings: PathDropoutSettings, num_steps: int
    ) -> "PathDropout":
        """Returns the path dropout for a training of `num_steps` steps."""
        return cls(space, settings.drop_rate, settings.drop_schedule, num_steps)

    def progress(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the share of the final rates in force at a step, in [0, 1]."""
        if self.num_steps is None:
            return tf.constant(1.0)
        return tf.minimum(tf.cast(step, tf.float32) / float(self.num_steps), 1.0)

    def kept_share(self, step: int) -> float:
        """Returns the expected share of paths that a step keeps, in [0, 1]."""
        progress = 1.0 if self.num_steps is None else min(step / self.num_steps, 1.0)
        return 1.0 - progress * float(self.final_rates.mean())

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the progress of the schedule and the expected share of dropped paths."""
        return {
            "drop_progress": float(self.progress(step)),
            "dropped_share": 1.0 - self.kept_share(step),
        }

    def rates(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the probability of each path to be dropped at a step: float32 `[P]`."""
        return self.final_rates * self.progress(step)

    def sample(self, num_ghosts: int, step: int | tf.Tensor, seed: int) -> tf.Tensor:
        """Returns masks float32 `[num_ghosts, P]`: 0 for a dropped path, 1 for a kept one."""
        draws = tf.random.stateless_uniform(
            [num_ghosts, len(self.final_rates)],
            seed=tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)]),
            minval=0,
            maxval=_ONE,
            dtype=tf.int32,
        )
        thresholds = tf.cast(self.rates(step) * float(_ONE), tf.int32)
        return tf.cast(draws >= thresholds, tf.float32)
