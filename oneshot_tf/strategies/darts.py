"""DARTS: differentiable architecture search (Liu et al. 2019)."""

import dataclasses

import tensorflow as tf

from oneshot_tf.settings import setting
from oneshot_tf.space.space import Space
from oneshot_tf.strategies.logits import LogitsLearner, LogitsSettings
from oneshot_tf.strategies.relaxation import PathRelaxation, Relaxation

RELAXATIONS = {"options": Relaxation, "paths": PathRelaxation}


@dataclasses.dataclass(frozen=True)
class DartsSettings(LogitsSettings):
    """DARTS."""

    strategy: str = setting("darts", "How training chooses paths.", choices=("darts",))
    order: int = setting(
        1,
        "1: the weights count as optimal for the logits. 2: held-out images see the weights after "
        "one more step with plain momentum, and the gradient goes through this step.",
        least=1,
        most=2,
        common=True,
    )
    relaxation: str = setting(
        "options",
        "What a mixture is made of. options: a softmax over the options of each decision, so a "
        "mixture can become an architecture. paths: a softmax over the paths of each decision; the "
        "two strongest are kept in the end, which is closest to the published rule.",
        choices=tuple(RELAXATIONS),
        common=True,
    )


class Darts(LogitsLearner):
    """Trains weights and logits in turn, both on the mixture of all options.

    All ghost batches use the same mixture, and its gradient on held-out images moves the logits. In
    the first order, the weights count as optimal for the logits. In the second order, the held-out
    images see the weights after one more step with the current learning rate. As published, this
    step has plain momentum and no clipping.

    What differs from the published code: logits begin at 0, not at 0.001 N(0, 1); all cells are of
    one kind; an update follows a training step and does not precede it; training steps have
    Nesterov momentum.

    Example:

        >>> darts = Darts(bender2018(num_blocks=1), DartsSettings())
        >>> darts.sample(num_ghosts=2, step=0, seed=0).shape.as_list()
        [2, 9]

    Args:
        space: The search space.
        settings: The relaxation, and how to train the logits.
    """

    def __init__(self, space: Space, settings: DartsSettings):
        super().__init__(RELAXATIONS[settings.relaxation](space), settings)
        self.unrolls = settings.order == 2

    @classmethod
    def from_settings(cls, space: Space, settings: DartsSettings, num_steps: int) -> "Darts":
        """Returns the learner for the train program."""
        return cls(space, settings)

    def _relaxed(self, num_ghosts: int, step: tf.Tensor, seed: int, stream: int) -> tf.Tensor:
        return self.mixture(tf.convert_to_tensor(self.logits), num_ghosts)
