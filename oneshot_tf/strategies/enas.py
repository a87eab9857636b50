"""ENAS: a controller and the shared weights are trained in turn (Pham et al. 2018)."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.decisions import mean_share
from oneshot_tf.space.space import Space
from oneshot_tf.strategies.controller import Controller, reinforce
from oneshot_tf.strategies.draws import uniform
from oneshot_tf.strategies.protocols import Learner, Outcome
from oneshot_tf.strategies.relaxation import Relaxation

_TRAIN, _TRIAL, _SHOWN = 0, 1, 2  # streams of random numbers
_DRAWS = 500  # architectures that stand for the probabilities of the options
_PHASES = 150  # published: one after each of 150 epochs


@dataclasses.dataclass(frozen=True)
class EnasSettings(StrategySettings):
    """ENAS."""

    strategy: str = setting("enas", "How training chooses paths.", choices=("enas",))
    phase_steps: int = setting(
        0,
        "Number of training steps before each phase of controller updates. 0: a 150th of the "
        "training.",
        least=0,
        common=True,
    )
    phase_updates: int = setting(
        30, "Number of controller updates in each phase.", least=1, common=True
    )
    architectures: int = setting(
        10,
        "Largest number of architectures in a controller update. Each has at least one ghost "
        "batch, so there are no more of them than ghost batches in a batch.",
        least=1,
        common=True,
    )
    units: int = setting(64, "Number of units of the controller's LSTM.", least=1, most=4096)
    controller_learning_rate: float = setting(
        0.0035, "Learning rate of the controller, for Adam.", above=0.0, most=100.0, common=True
    )
    entropy_weight: float = setting(
        1e-4, "Weight of the entropy of the controller in the reward.", least=0.0, most=100.0
    )
    baseline_decay: float = setting(
        0.99, "Decay of the moving mean of rewards.", least=0.0, below=1.0
    )
    tanh_constant: float = setting(
        1.1, "Logits x of the controller become c tanh(x) with this c.", above=0.0, most=1e6
    )


class Enas(Learner):
    """A controller draws an architecture for each ghost batch.

    After each phase of training steps follow controller updates. An update draws architectures,
    measures their accuracy on held-out images with the shared weights, and makes accurate ones more
    probable (REINFORCE). The reward is the accuracy plus the weighted entropy. Adam has no momentum
    and an epsilon of 0.001, as published.

    What differs from the published code: a training step draws an architecture for each ghost
    batch, not one. The baseline is the moving mean of the rewards of earlier updates, so that the
    gradient is unbiased; there, it includes those of the update. In the first update, it is their
    mean, not 0. Operations have no prior, and all logits have the same tanh constant. A decision is
    a set of inputs or of operations.

    Example:

        >>> enas = Enas(bender2018(num_blocks=1), EnasSettings(), num_steps=10)
        >>> enas.sample(num_ghosts=2, step=0, seed=0).shape.as_list()
        [2, 9]

    Args:
        space: The search space.
        settings: The phases, and how to train the controller.
        num_steps: Length of the training, at least 1.
    """

    wants = "scores"

    def __init__(self, space: Space, settings: EnasSettings, num_steps: int):
        self.space, self.settings = space, settings
        self.phase_steps = settings.phase_steps or max(1, num_steps // _PHASES)
        self.controller = Controller(
            space.decisions, settings.units, tanh_constant=settings.tanh_constant
        )
        self._relaxation = Relaxation(space)
        starts = np.cumsum(self._relaxation.sizes) - self._relaxation.sizes
        self._starts = starts.astype(np.int32)
        with keras.name_scope("learner"):
            self.weights = [
                keras.Variable(value, name=f"controller_{i}", autocast=False)
                for i, value in enumerate(self.controller.initial(seed=0))
            ]
            self.baseline = keras.Variable(
                np.float32(0.0), name="baseline", trainable=False, autocast=False,
                aggregation="only_first_replica",
            )  # fmt: skip
        self.optimizer = keras.optimizers.Adam(
            settings.controller_learning_rate, beta_1=0.0, epsilon=1e-3, name="learner_adam"
        )
        self.optimizer.build(self.weights)
        self.variables = [*self.weights, self.baseline, *self.optimizer.variables]
        self._kept_share = mean_share(space.decisions, space.num_paths)

    def begin(self, seed: int) -> None:
        """Sets the controller to the initial weights of a seed."""
        for weight, value in zip(self.weights, self.controller.initial(seed)):
            weight.assign(value)

    def kept_share(self, step: int) -> float:
        """Returns the share of paths of a step while all options are equally probable."""
        return self._kept_share

    def updates_before(self, step: int) -> int:
        """Returns the number of controller updates before a training step."""
        return step // self.phase_steps * self.settings.phase_updates

    def sample(self, num_ghosts: int, step: int | tf.Tensor, seed: int) -> tf.Tensor:
        """Returns masks float32 `[num_ghosts, P]` of 0 and 1: an architecture in each row."""
        return self._masks(self._draw(num_ghosts, step, seed, _TRAIN))

    def trial(self, num_ghosts: int, update: tf.Tensor, seed: int) -> tf.Tensor:
        """Returns the masks of an update: each architecture has consecutive ghost batches."""
        rows = self._rows(num_ghosts)
        masks = self._masks(self._draw(rows[-1] + 1, update, seed, _TRIAL))
        return tf.gather(masks, rows)

    def _rows(self, num_ghosts: int) -> np.ndarray:
        """Returns which architecture each ghost batch has, from 0: int `[num_ghosts]`."""
        count = min(self.settings.architectures, num_ghosts)
        return np.arange(num_ghosts) * count // num_ghosts

    def _tensors(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(weight.value) for weight in self.weights]

    def _draw(self, count: int, number: int | tf.Tensor, seed: int, stream: int) -> tf.Tensor:
        uniforms = uniform([count, len(self.space.decisions)], seed, stream, number)
        return self.controller.draw(self._tensors(), uniforms)

    def _masks(self, genes: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.gather(self._relaxation.rows, self._starts + genes), axis=1)

    def learn(self, outcome: Outcome, update: tf.Tensor, seed: int) -> dict[str, tf.Tensor]:
        """Updates the controller. Returns the reward, the baseline and the controller's entropy."""
        rows = self._rows(outcome.accuracies.shape[0])
        genes = self._draw(rows[-1] + 1, update, seed, _TRIAL)
        accuracies = tf.math.segment_mean(outcome.accuracies, rows)
        before = tf.convert_to_tensor(self.baseline.value)
        with tf.GradientTape() as tape:
            tensors = [weight.value for weight in self.weights]
            logs, entropies = self.controller.score(tensors, genes)
            rewards = accuracies + self.settings.entropy_weight * tf.stop_gradient(entropies)
            mean = tf.reduce_mean(rewards)
            baseline = tf.where(tf.equal(update, 0), mean, before)
            loss = reinforce(logs, rewards, baseline)
        gradients = tape.gradient(loss, tensors)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        dense = [tf.convert_to_tensor(gradient) / replicas for gradient in gradients]
        self.optimizer.apply(dense, self.weights)
        baseline += (1.0 - self.settings.baseline_decay) * (mean - baseline)
        self.baseline.assign(baseline)
        entropy = tf.reduce_mean(entropies)
        return {"reward": mean, "baseline": baseline, "controller_entropy": entropy}

    def probabilities(self) -> list[np.ndarray]:
        """Returns the frequency of each option among 500 draws, one array for each decision."""
        genes = self._draw(_DRAWS, 0, 0, _SHOWN).numpy()
        return [
            np.bincount(column, minlength=decision.num_options) / _DRAWS
            for column, decision in zip(genes.T, self.space.decisions)
        ]

    def mode(self) -> Architecture:
        """Returns the architecture of the most probable option, decision by decision."""
        return self.space.architecture(tuple(self.controller.best(self._tensors()).numpy()[0]))

    def draw(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Draws architectures from the controller."""
        uniforms = rng.random((count, len(self.space.decisions))).astype(np.float32)
        genes = self.controller.draw(self._tensors(), tf.constant(uniforms)).numpy()
        return [self.space.architecture(tuple(map(int, row))) for row in genes]
