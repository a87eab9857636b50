"""What DARTS and Gumbel-softmax share: logits that Adam trains by the gradient of the masks."""

import abc
import dataclasses

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.strategies.protocols import Learner, Outcome
from oneshot_tf.strategies.relaxation import Relaxation


@dataclasses.dataclass(frozen=True)
class LogitsSettings(StrategySettings):
    """Settings of learners with logits."""

    architecture_learning_rate: float = setting(
        3e-4, "Learning rate of the logits, for Adam.", above=0.0, most=100.0, common=True
    )
    architecture_weight_decay: float = setting(
        1e-3, "Factor of the L2 loss of the logits, |a|^2 / 2.", least=0.0, most=1.0
    )
    warmup_steps: int = setting(
        0, "Number of training steps before the first architecture update.", least=0
    )
    curvature_steps: int = setting(
        0,
        "Training steps between two measurements of the dominant eigenvalue of the architecture "
        "Hessian, a multiple of --log_steps. 0: only at the end.",
        least=0,
        affects_results=False,
        added=True,
    )


class LogitsLearner(Learner):
    """A learner with a logit for each weight of a relaxation. All of them begin at 0.

    An update follows each training step after the warm-up. Adam has the momentum 0.5, as
    published for DARTS and GDAS. The L2 loss is part of the gradient, as in PyTorch's Adam.

    Args:
        relaxation: Makes masks of logits.
        settings: How to train the logits.

    Attributes:
        logits: The logits, float32 `[N]`.
    """

    logits: keras.Variable

    def __init__(self, relaxation: Relaxation, settings: LogitsSettings):
        self.space, self.relaxation, self.settings = relaxation.space, relaxation, settings
        with keras.name_scope("learner"):
            self.logits = keras.Variable(
                np.zeros(relaxation.size, np.float32), name="logits", autocast=False
            )
        self.optimizer = keras.optimizers.Adam(
            settings.architecture_learning_rate, beta_1=0.5, beta_2=0.999, name="learner_adam"
        )
        self.optimizer.build([self.logits])
        self.variables = [self.logits, *self.optimizer.variables]
        self.curvature_steps = settings.curvature_steps

    @abc.abstractmethod
    def _relaxed(self, num_ghosts: int, step: tf.Tensor, seed: int, stream: int) -> tf.Tensor:
        """Returns differentiable masks `[num_ghosts, P]`.

        Args:
            num_ghosts, seed: As in `sample`.
            step: The number of the training step.
            stream: Which random numbers to use.
        """

    def updates_before(self, step: int) -> int:
        """Returns the number of architecture updates before a training step."""
        return max(0, step - self.settings.warmup_steps)

    def sample(self, num_ghosts: int, step: int | tf.Tensor, seed: int) -> tf.Tensor:
        """Returns the masks of a training step, float32 `[num_ghosts, P]`."""
        return self._relaxed(num_ghosts, step, seed, stream=0)

    def trial(self, num_ghosts: int, update: tf.Tensor, seed: int) -> tf.Tensor:
        """Returns the masks of an update, float32 `[num_ghosts, P]`."""
        step = update + self.settings.warmup_steps
        return self._relaxed(num_ghosts, step, seed, stream=1)

    def learn(self, outcome: Outcome, update: tf.Tensor, seed: int) -> dict[str, tf.Tensor]:
        """Updates the logits. Returns nothing more to log."""
        assert outcome.gradient is not None
        with tf.GradientTape() as tape:
            masks = self.trial(outcome.gradient.shape[0], update, seed)
            value = tf.reduce_sum(masks * outcome.gradient)
            if outcome.train_gradient is not None:
                step = update + self.settings.warmup_steps + 1
                value += tf.reduce_sum(
                    self.sample(masks.shape[0], step, seed) * outcome.train_gradient
                )
        gradient = tape.gradient(value, self.logits.value)
        decay = self.settings.architecture_weight_decay
        gradient += decay * tf.convert_to_tensor(self.logits)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.optimizer.apply([gradient / replicas], [self.logits])
        return {}

    def mixture(self, logits: tf.Tensor, num_ghosts: int) -> tf.Tensor:
        """Returns the mixture of all options, float32 `[num_ghosts, P]`."""
        masks = self.relaxation.masks(self.relaxation.softmax(logits))
        return tf.repeat(masks[tf.newaxis], num_ghosts, axis=0)

    def probabilities(self) -> list[np.ndarray]:
        """Returns the probability of each option, one array for each decision."""
        return self.relaxation.probabilities(self._weights())

    def entropy(self) -> float:
        """Returns the normalised entropy of the decisions: 1 for equal options, 0 for one."""
        return self.relaxation.entropy(self._weights())

    def _weights(self) -> np.ndarray:
        return self.relaxation.softmax(keras.ops.convert_to_numpy(self.logits)).numpy()
