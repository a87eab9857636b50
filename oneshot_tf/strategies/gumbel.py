"""Gumbel-softmax: each ghost batch trains a draw, through which logits get a gradient."""

import dataclasses

import tensorflow as tf

from oneshot_tf.settings import setting
from oneshot_tf.space.decisions import mean_share
from oneshot_tf.space.space import Space
from oneshot_tf.strategies.draws import gumbel
from oneshot_tf.strategies.logits import LogitsLearner, LogitsSettings
from oneshot_tf.strategies.relaxation import Relaxation
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class GumbelSettings(LogitsSettings):
    """Gumbel-softmax."""

    strategy: str = setting("gumbel", "How training chooses paths.", choices=("gumbel",))
    masks: str = setting(
        "hard",
        "hard: each ghost batch trains one architecture, which is drawn, and gradients are those "
        "of the softmax (GDAS). soft: it trains a mixture, which is drawn.",
        choices=("hard", "soft"),
        common=True,
    )
    temperature: float = setting(
        10.0, "Temperature of the softmax at the first step.", least=1e-6, most=1e6, common=True
    )
    final_temperature: float = setting(
        0.1,
        "Temperature at the last step. It changes linearly in between.",
        least=1e-6,
        most=1e6,
        common=True,
    )


class Gumbel(LogitsLearner):
    """Draws y = softmax((log p + g) / t) for each ghost batch and decision.

    p is the softmax of the logits, g has the Gumbel distribution, and the temperature t changes
    linearly from its first to its final value. The best option of y is distributed as p. With hard
    masks, a ghost batch uses only this option, and its gradient is that of y.

    What differs from the published code of GDAS: there, only the drawn path is computed, and the
    others get the sum of the gradient of its output. Here, an update computes all paths, so each
    path has its own gradient. And a step has a draw for each ghost batch, not one.

    Example:

        >>> learner = Gumbel(bender2018(num_blocks=1), GumbelSettings(), num_steps=10)
        >>> learner.sample(num_ghosts=2, step=0, seed=0).shape.as_list()
        [2, 9]

    Args:
        space: The search space.
        settings: The masks, the temperatures, and how to train the logits.
        num_steps: Length of the training, at least 1.
    """

    def __init__(self, space: Space, settings: GumbelSettings, num_steps: int):
        super().__init__(Relaxation(space), settings)
        if num_steps < 1:
            raise InputError(f"num_steps must be at least 1; got {num_steps}.")
        self.num_steps, self._hard = num_steps, settings.masks == "hard"
        self._temperatures = settings.temperature, settings.final_temperature
        self._kept_share = mean_share(space.decisions, space.num_paths)

    def temperature(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the temperature at a training step, float32."""
        first, last = self._temperatures
        done = tf.cast(step, tf.float32) / max(1.0, self.num_steps - 1.0)
        return first + (last - first) * tf.minimum(done, 1.0)

    def kept_share(self, step: int) -> float:
        """Returns the share of paths of a step while all options are equally probable."""
        return self._kept_share if self._hard else 1.0

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the temperature and the entropy."""
        return {**super().metrics(step), "temperature": float(self.temperature(step))}

    def _relaxed(self, num_ghosts: int, step: tf.Tensor, seed: int, stream: int) -> tf.Tensor:
        size = self.relaxation.size
        logits = self.relaxation.log_softmax(tf.convert_to_tensor(self.logits))
        scores = logits + gumbel([num_ghosts, size], seed, stream, step)
        soft = self.relaxation.softmax(scores / self.temperature(step))
        if not self._hard:
            return self.relaxation.masks(soft)
        # The difference is exactly 0, and its gradient is that of `soft`.
        hard = self.relaxation.one_hot(scores) + (soft - tf.stop_gradient(soft))
        return self.relaxation.masks(hard)
