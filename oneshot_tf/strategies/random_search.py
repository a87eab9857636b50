"""Proposers that do not learn: random search, and a given list."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import LimitedSpace, SearchSpace
from oneshot_tf.space.twins import canonical
from oneshot_tf.strategies.protocols import Proposer

_LIMITED_REPEATS = 300  # the same within limits, where a draw takes longer
_MAX_REPEATS = 10_000  # draws in a row that were all seen before: the space is exhausted


@dataclasses.dataclass(frozen=True)
class RandomSearchSettings(StrategySettings):
    """Random search."""

    strategy: str = setting("random", "How the search chooses architectures.", choices=("random",))
    skip_twins: bool = setting(
        True,
        "Evaluate only one of several twins. Twins are architectures that give the same "
        "stand-alone model, because they differ only in the order of blocks that do not read each "
        "other.",
    )


class RandomSearch(Proposer):
    """Samples architectures independently from a fixed distribution (section 3.3).

    It skips architectures that it has drawn before. The sequence depends on the seed alone, so a
    search that starts again proposes the same architectures in the same order.

    Example:

        >>> len(RandomSearch(bender2018(), seed=0).propose(3))
        3

    Args:
        space: The search space. `space.sample` is the distribution.
        seed: The seed of the sequence.
        distinct: Whether to skip twins of architectures drawn before. Twins are the same
            stand-alone model (`space.twins.canonical`). The others keep their order.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, distinct: bool = False):
        self.space = space
        self.distinct = distinct
        self._limited = isinstance(space, LimitedSpace)
        self._rng = np.random.default_rng(seed)
        self._seen: set[Architecture] = set()

    @classmethod
    def from_settings(
        cls, space: SearchSpace, settings: RandomSearchSettings, seed: int
    ) -> "RandomSearch":
        """Returns the random search for a search program."""
        return cls(space, seed, settings.skip_twins)

    @property
    def limit(self) -> int:
        """The number of architectures in the space, without twins if they are skipped."""
        return self.space.num_distinct if self.distinct else self.space.num_architectures

    def propose(self, count: int) -> list[Architecture]:
        """Returns up to `count` new architectures; fewer only when the space has no more."""
        proposed: list[Architecture] = []
        repeats = 0
        while len(proposed) < count and len(self._seen) < self.limit:
            architecture = self.space.sample(self._rng)
            repeats += 1
            known_as = canonical(architecture) if self.distinct else architecture
            if known_as not in self._seen:
                self._seen.add(known_as)
                proposed.append(architecture)
                repeats = 0
            if repeats > (_LIMITED_REPEATS if self._limited else _MAX_REPEATS):
                break
        return proposed

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Does nothing: the distribution is fixed."""


class Listed(Proposer):
    """Proposes given architectures, in their order.

    Args:
        architectures: The architectures to propose, each once.
    """

    repeatable = False  # the list may have grown since the last start

    def __init__(self, architectures: Iterable[Architecture]):
        self._left = list(dict.fromkeys(architectures))
        self._limit = len(self._left)

    @property
    def limit(self) -> int:
        """The number of given architectures."""
        return self._limit

    def propose(self, count: int) -> list[Architecture]:
        """Returns the next `count` architectures; fewer when none are left."""
        proposed, self._left = self._left[:count], self._left[count:]
        return proposed

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Does nothing: the list is fixed."""
