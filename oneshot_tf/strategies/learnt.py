"""What a learner derived, as proposals for a search."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.protocols import Proposer

_MOST_REPEATS = 10_000  # draws in a row that were seen before or are outside the limits


@dataclasses.dataclass(frozen=True)
class LearntSettings(StrategySettings):
    """Learnt."""

    strategy: str = setting("learnt", "How the search chooses architectures.", choices=("learnt",))


class Learnt(Proposer):
    """Proposes the mode of what a learner derived, then distinct draws from its probabilities.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> even = [np.full(d.num_options, 1 / d.num_options) for d in space.decisions]
        >>> str(Learnt(space, even).propose(1)[0])
        'prev2:identity'

    Args:
        space: The search space, which may have limits.
        probabilities: The probability of each option, one array for each decision.
        seed: The seed of the draws.
    """

    def __init__(self, space: SearchSpace, probabilities: Sequence[np.ndarray], seed: int = 0):
        self.space = space
        exact = [np.asarray(p, np.float64) for p in probabilities]
        self._probabilities = [p / p.sum() for p in exact]
        self._rng = np.random.default_rng(seed)
        self._seen: set[Architecture] = set()

    @property
    def limit(self) -> int:
        """The number of architectures in the space."""
        return self.space.num_architectures

    def propose(self, count: int) -> list[Architecture]:
        """Returns up to `count` new architectures; fewer if draws only repeat themselves."""
        proposed: list[Architecture] = []
        repeats = 0
        while len(proposed) < count and repeats < _MOST_REPEATS:
            architecture = self._draw() if self._seen else self._mode()
            repeats += 1
            new = architecture not in self._seen
            self._seen.add(architecture)
            if new and self.space.allows(architecture):
                proposed.append(architecture)
                repeats = 0
        return proposed

    def _mode(self) -> Architecture:
        return self.space.architecture(tuple(int(p.argmax()) for p in self._probabilities))

    def _draw(self) -> Architecture:
        return self.space.architecture(
            tuple(int(self._rng.choice(len(p), p=p)) for p in self._probabilities)
        )

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Does nothing: the probabilities are fixed."""
