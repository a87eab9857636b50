"""Search by reinforcement learning: a controller proposes, and accuracies are its rewards."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.decisions import Genes
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.controller import Controller, clipped, reinforce
from oneshot_tf.strategies.protocols import Proposer

_TRIES = 1_000  # draws beyond the limits in a row, before a random architecture replaces them
_EPSILON, _BETAS = 1e-8, (0.9, 0.999)  # of Adam


# Settings whose defaults differ between the strategies.
_batch = functools.partial(
    setting, help="Number of architectures in an update of the controller.", least=1, common=True
)
_rate = functools.partial(
    setting, help="Learning rate of the controller, for Adam.", above=0.0, most=100.0, common=True
)
_units = functools.partial(setting, help="Number of units of each LSTM layer.", least=1, most=4096)
_layers = functools.partial(setting, help="Number of LSTM layers.", least=1, most=8)
_scale = functools.partial(
    setting, help="The initial weights are uniform between minus and plus this.", above=0.0,
    most=100.0,
)  # fmt: skip
_entropy = functools.partial(
    setting, help="Weight of the entropy of the controller in the objective.", least=0.0, most=100.0
)


@dataclasses.dataclass(frozen=True)
class PolicySettings(StrategySettings):
    """Settings of a search with a controller. The defaults are the published ones of PPO."""

    batch: int = _batch(20)
    controller_learning_rate: float = _rate(3.5e-4)
    units: int = _units(100)
    layers: int = _layers(1)
    initial_scale: float = _scale(0.1)
    entropy_weight: float = _entropy(1e-5)
    baseline_decay: float = setting(
        0.95, "Decay of the moving mean of rewards.", least=0.0, below=1.0
    )


class PolicySearch(Proposer):
    """Proposes what a controller draws, and makes accurate architectures more probable.

    After each batch of architectures, the controller is updated. The baseline is a moving mean of
    the rewards. It begins at the mean of the first batch. Networks compute on the CPU, so a replay
    gives the same proposals.

    Args:
        space: The search space, which may have limits.
        settings: The controller, and how to train it.
        seed: The seed of the initial weights and the draws.
    """

    learns = True

    def __init__(self, space: SearchSpace, settings: PolicySettings, seed: int = 0):
        self.space, self.settings = space, settings
        self.controller = Controller(
            space.decisions, settings.units, settings.layers, settings.initial_scale
        )
        self.weights = self.controller.initial(seed)
        self._moments = [[np.zeros_like(w), np.zeros_like(w)] for w in self.weights]
        self._rng = np.random.default_rng([seed, 1])
        self.baseline: float | None = None
        self.updates = 0
        self._waiting: list[Genes] = []  # drawn, but not proposed yet
        self._seen: list[tuple[Genes, float]] = []  # of the present batch
        self._drawn, self._distinct = 0, set[Genes]()
        self._log: list[tuple[float, float]] = []  # mean reward and entropy of each batch
        self._draw, self._gradients = _functions(type(self), settings, self.controller)

    @abc.abstractmethod
    def _reward(self, accuracy: float) -> float:
        """Returns the reward of an accuracy."""

    @staticmethod
    @abc.abstractmethod
    def loss(
        settings: Any, logs: tf.Tensor, before: tf.Tensor, rewards: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Returns the loss of a batch, without the entropy.

        Args:
            settings: The settings.
            logs: log p of the architectures now, `[count]`.
            before: log p when they were drawn.
            rewards: Their rewards.
            baseline: The moving mean of rewards.
        """

    @property
    def passes(self) -> int:
        """Steps of Adam in an update."""
        return 1

    @property
    def limit(self) -> int:
        """The number of architectures in the space."""
        return self.space.num_architectures

    def propose(self, count: int) -> list[Architecture]:
        """Returns the rest of the present batch, at most `count`."""
        if not self._waiting and not self._seen:
            self._waiting = self._batch()
        proposed, self._waiting = self._waiting[:count], self._waiting[count:]
        self._drawn += len(proposed)
        self._distinct.update(proposed)
        return [self.space.architecture(genes) for genes in proposed]

    def _batch(self) -> list[Genes]:
        """Draws a batch of architectures within the limits."""
        count, found, misses = self.settings.batch, list[Genes](), 0
        while len(found) < count:
            uniforms = self._rng.random((count, len(self.space.decisions))).astype(np.float32)
            with tf.device("CPU:0"):
                rows = self._draw(self.weights, uniforms).numpy()
            drawn = [tuple(map(int, row)) for row in rows]
            allowed = [g for g in drawn if self.space.allows(self.space.architecture(g))]
            found += allowed
            misses = 0 if allowed else misses + count
            if misses >= _TRIES:
                found.append(self.space.genes(self.space.sample(self._rng)))
        return found[:count]

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Receives accuracies. Updates the controller when a batch is complete."""
        for architecture, accuracy in zip(architectures, accuracies):
            assert accuracy is not None
            self._seen.append((self.space.genes(architecture), self._reward(accuracy)))
        if len(self._seen) >= self.settings.batch:
            self._update()
            self._seen = []

    def _update(self) -> None:
        genes = np.array([genes for genes, _ in self._seen], np.int32)
        rewards = np.array([reward for _, reward in self._seen], np.float32)
        mean = float(rewards.mean())
        decay = self.settings.baseline_decay
        before = mean if self.baseline is None else self.baseline
        # Without the rewards of this batch, which would shrink its gradient.
        self.baseline = before + (1.0 - decay) * (mean - before)
        with tf.device("CPU:0"):
            at_first = self.controller.score(self.weights, genes)
            self._log.append((mean, float(tf.reduce_mean(at_first[1]))))
            for _ in range(self.passes):
                given = genes, at_first[0], rewards, np.float32(before)
                found = self._gradients(self.weights, *given)
                self._adam([gradient.numpy() for gradient in found])

    def _adam(self, gradients: list[np.ndarray]) -> None:
        """Moves the weights by a step of Adam."""
        self.updates += 1
        rate = np.float32(self.settings.controller_learning_rate)
        corrections = [1.0 - beta**self.updates for beta in _BETAS]
        for place, gradient in enumerate(gradients):
            scaled = []
            for which, value in enumerate((gradient, gradient**2)):
                moment = self._moments[place][which]
                moment += np.float32(1.0 - _BETAS[which]) * (value - moment)
                scaled.append(moment / np.float32(corrections[which]))
            step = rate * scaled[0] / (np.sqrt(scaled[1]) + np.float32(_EPSILON))
            self.weights[place] = self.weights[place] - step

    def remarks(self) -> list[str]:
        """Returns how the rewards and the entropy of the controller changed."""
        if len(self._log) < 2:
            return []
        (first, most), (last, now) = self._log[0], self._log[-1]
        return [
            f"The controller had {len(self._log)} updates. The mean reward of a batch went from "
            f"{first:.4f} to {last:.4f}, its entropy from {most:.2f} to {now:.2f} nats. "
            f"{len(self._distinct):,} of its {self._drawn:,} draws were different."
        ]


@functools.lru_cache(maxsize=8)
def _functions(
    kind: type[PolicySearch], settings: PolicySettings, controller: Controller
) -> tuple[Callable, Callable]:
    """Returns the graphs that draw and that differentiate. Equal searches share them."""

    def gradients(
        weights: list[tf.Tensor],
        genes: tf.Tensor,
        before: tf.Tensor,
        rewards: tf.Tensor,
        baseline: tf.Tensor,
    ) -> list[tf.Tensor]:
        weights = [tf.convert_to_tensor(weight) for weight in weights]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logs, entropies = controller.score(weights, genes)
            loss = kind.loss(settings, logs, before, rewards, baseline)
            loss -= settings.entropy_weight * tf.reduce_mean(entropies)
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]

    return tuple(
        tf.function(function, autograph=False, reduce_retracing=True)
        for function in (controller.draw, gradients)
    )


@dataclasses.dataclass(frozen=True)
class NasRlSettings(PolicySettings):
    """NAS-RL."""

    strategy: str = setting("nas_rl", "How the search chooses architectures.", choices=("nas_rl",))
    batch: int = _batch(8)
    controller_learning_rate: float = _rate(6e-4)
    units: int = _units(35)
    layers: int = _layers(2)
    initial_scale: float = _scale(0.08)
    entropy_weight: float = _entropy(0.0)


class NasRl(PolicySearch):
    """REINFORCE with the cube of the accuracy as reward (Zoph and Le 2017)."""

    def _reward(self, accuracy: float) -> float:
        return accuracy**3

    @staticmethod
    def loss(
        settings: Any, logs: tf.Tensor, before: tf.Tensor, rewards: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Returns the loss of REINFORCE."""
        return reinforce(logs, rewards, baseline)


@dataclasses.dataclass(frozen=True)
class PpoSettings(PolicySettings):
    """PPO."""

    strategy: str = setting("ppo", "How the search chooses architectures.", choices=("ppo",))
    clip: float = setting(
        0.2, "How far from 1 the ratio of probabilities counts.", above=0.0, below=1.0
    )
    passes: int = setting(
        4, "Number of steps of Adam in an update of the controller.", least=1, most=1000
    )


class Ppo(PolicySearch):
    """Proximal policy optimization, as the search of NASNet uses it (Zoph et al. 2018)."""

    settings: PpoSettings

    @property
    def passes(self) -> int:
        """Steps of Adam in an update."""
        return self.settings.passes

    def _reward(self, accuracy: float) -> float:
        return accuracy

    @staticmethod
    def loss(
        settings: Any, logs: tf.Tensor, before: tf.Tensor, rewards: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Returns the loss of PPO."""
        return clipped(logs, before, rewards - baseline, settings.clip)
