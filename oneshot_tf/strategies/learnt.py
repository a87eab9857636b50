"""What a learner derived, as proposals for a search."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.protocols import Learner, Proposer

_TOGETHER = 100  # draws at a time
_MOST_REPEATS = 10_000  # draws in a row that were seen before or are outside the limits


@dataclasses.dataclass(frozen=True)
class LearntSettings(StrategySettings):
    """What a training learnt."""

    strategy: str = setting("learnt", "How the search chooses architectures.", choices=("learnt",))


class Learnt(Proposer):
    """Proposes the mode of a learner, then distinct draws from what it learnt.

    Example:

        >>> learner = Darts(bender2018(num_blocks=1), DartsSettings())
        >>> str(Learnt(learner.space, learner).propose(1)[0])
        'prev2:identity'

    Args:
        space: The search space of the learner, which may have limits here.
        learner: The learner, after its training.
        seed: The seed of the draws.
    """

    def __init__(self, space: SearchSpace, learner: Learner, seed: int = 0):
        self.space, self.learner = space, learner
        self._rng = np.random.default_rng(seed)
        self._seen: set[Architecture] = set()
        self._drawn: list[Architecture] = [learner.mode()]  # the next one is at the end

    @property
    def limit(self) -> int:
        """The number of architectures in the space."""
        return self.space.num_architectures

    def mixture(self) -> np.ndarray | None:
        """Returns the masks of the learnt mixture, float32 `[1, P]`; None without logits."""
        logits = self.learner.logits
        if logits is None:
            return None
        return keras.ops.convert_to_numpy(self.learner.mixture(logits.value, 1))

    def propose(self, count: int) -> list[Architecture]:
        """Returns up to `count` new architectures; fewer if draws only repeat themselves."""
        proposed: list[Architecture] = []
        repeats = 0
        while len(proposed) < count and repeats < _MOST_REPEATS:
            architecture = self._next()
            repeats += 1
            new = architecture not in self._seen
            self._seen.add(architecture)
            if new and self.space.allows(architecture):
                proposed.append(architecture)
                repeats = 0
        return proposed

    def _next(self) -> Architecture:
        if not self._drawn:
            self._drawn = self.learner.draw(_TOGETHER, self._rng)[::-1]
        return self._drawn.pop()

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Does nothing: the probabilities are fixed."""
