"""Tabular Q-learning with replay (Baker et al. 2017, MetaQNN)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.decisions import Genes
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.protocols import Proposer

# Published: architectures drawn at each epsilon, of 2,700 (metaqnn, state_space_parameters.py).
SCHEDULE = (
    (1.0, 1500), (0.9, 100), (0.8, 100), (0.7, 100), (0.6, 150), (0.5, 150), (0.4, 150),
    (0.3, 150), (0.2, 150), (0.1, 150),
)  # fmt: skip
_FIRST = 0.5  # Q of a pair that was never updated (published)
_TRIES = 1000  # draws until an architecture is within the limits


@dataclasses.dataclass(frozen=True)
class QLearningSettings(StrategySettings):
    """Q-learning."""

    strategy: str = setting(
        "q_learning", "How the search chooses architectures.", choices=("q_learning",)
    )
    episodes: int = setting(
        0,
        "Number of different architectures over which epsilon, the share of random choices, falls "
        "from 1 to 0.1. It stays at 0.1 afterwards. 0: --num_candidates.",
        least=0,
    )
    q_learning_rate: float = setting(0.01, "Learning rate of the Q-values.", above=0.0, most=1.0)
    discount: float = setting(1.0, "Discount factor of the Q-values.", least=0.0, most=1.0)
    replays: int = setting(
        128, "Number of earlier architectures replayed after each new one.", least=0
    )

    def for_budget(self, num_candidates: int) -> "QLearningSettings":
        """Returns the settings for a search of `num_candidates` architectures."""
        return dataclasses.replace(self, episodes=self.episodes or num_candidates)


class QLearning(Proposer):
    """Builds architectures decision by decision, with the option of the greatest Q-value.

    A state is a decision together with the option of the decision before. With probability
    epsilon an option is drawn uniformly instead. The reward, the accuracy, comes after the last
    decision. Updates go from the last decision back:
    Q(s, u) += rate * (reward + discount * max Q(s', .) - Q(s, u)).

    Example:

        >>> agent = QLearning(bender2018(), QLearningSettings(episodes=100))
        >>> agent.epsilon(0), agent.epsilon(99)
        (1.0, 0.1)

    Args:
        space: The search space.
        settings: The schedule, the rates and the number of replays. `episodes` is at least 1.
        seed: The seed of all draws.

    Attributes:
        tables: The Q-values of each decision: D arrays [options before, options].
    """

    learns = True

    def __init__(self, space: SearchSpace, settings: QLearningSettings, seed: int = 0):
        self.space, self.settings = space, settings
        sizes = [decision.num_options for decision in space.decisions]
        self.tables = [np.full(pair, _FIRST) for pair in zip([1, *sizes], sizes)]
        self._rng = np.random.default_rng(seed)
        self._episodes: list[tuple[Genes, float]] = []
        self._distinct: set[Genes] = set()  # a repeat does not lower epsilon

    @property
    def limit(self) -> int:
        """The number of architectures in the space."""
        return self.space.num_architectures

    def epsilon(self, episode: int) -> float:
        """Returns the share of random choices after `episode` different architectures."""
        share = (episode + 0.5) / max(1, self.settings.episodes)
        total, reached = sum(number for _, number in SCHEDULE), 0
        for epsilon, number in SCHEDULE:
            reached += number
            if share * total < reached:
                return epsilon
        return SCHEDULE[-1][0]

    def propose(self, count: int) -> list[Architecture]:
        """Returns one architecture. While all choices are random, it returns up to `count`."""
        first = len(self._distinct)
        random = [i for i in range(first, first + count) if self.epsilon(i) == 1.0]
        return [self._draw(i) for i in random or [first]]

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Updates the Q-values with each architecture, then with replayed ones."""
        for architecture, accuracy in zip(architectures, accuracies):
            episode = self.space.genes(architecture), float(accuracy or 0.0)
            self._episodes.append(episode)
            self._distinct.add(episode[0])
            self.update(*episode)
            replays = self._rng.integers(len(self._episodes), size=self.settings.replays)
            for replay in replays.tolist():
                self.update(*self._episodes[replay])

    def update(self, genes: Genes, reward: float) -> None:
        """Updates the Q-values of one architecture, from its last decision back."""
        rate, discount = self.settings.q_learning_rate, self.settings.discount
        for place in reversed(range(len(genes))):
            state = genes[place - 1] if place else 0
            target = reward
            if place + 1 < len(genes):
                target = discount * self.tables[place + 1][genes[place]].max()
            table = self.tables[place]
            table[state, genes[place]] += rate * (target - table[state, genes[place]])

    def greedy(self) -> Architecture:
        """Returns the architecture of the greatest Q-values. Of equal ones, the first counts."""
        genes: list[int] = []
        for table in self.tables:
            genes.append(int(np.argmax(table[genes[-1] if genes else 0])))
        return self.space.architecture(tuple(genes))

    def _draw(self, episode: int) -> Architecture:
        epsilon = self.epsilon(episode)
        for _ in range(_TRIES):
            architecture = self._walk(epsilon)
            if self.space.allows(architecture):
                return architecture
        return self.space.sample(self._rng)

    def _walk(self, epsilon: float) -> Architecture:
        """Draws an option for each decision. Equal Q-values have equal chances."""
        genes: list[int] = []
        for table in self.tables:
            values = table[genes[-1] if genes else 0]
            options = np.arange(len(values))
            if self._rng.random() >= epsilon:
                options = np.flatnonzero(values == values.max())
            genes.append(int(options[self._rng.integers(len(options))]))
        return self.space.architecture(tuple(genes))
