"""Candidates that don't depend on how good others were: random ones, and given ones."""

import numpy as np

from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.twins import canonical

_MAX_REPEATS = 10_000  # draws in a row that were all seen before: the space is spent


class RandomSearch:
    """The paper's way (section 3.3): samples independently from a fixed distribution.

    Architectures drawn before are passed over. The sequence depends on the seed
    alone, so a search that starts again proposes the same ones in the same order.

    Args:
        space: has the distribution, `space.sample`.
        seed: of the sequence.
        distinct: whether to pass over twins of architectures drawn before, which are the same
            stand-alone net (`CellSpace.canonical`). The others keep their order.
    """

    def __init__(self, space: CellSpace, seed: int = 0, distinct: bool = False):
        self.space = space
        self.distinct = distinct
        self._size = space.num_distinct if distinct else space.num_architectures
        self._rng = np.random.default_rng(seed)
        self._seen = set()

    def propose(self, count: int) -> list:
        """Up to `count` new architectures; fewer only when the space has no more."""
        proposed = []
        repeats = 0
        while len(proposed) < count and len(self._seen) < self._size:
            architecture = self.space.sample(self._rng)
            repeats += 1
            known_as = canonical(architecture) if self.distinct else architecture
            if known_as not in self._seen:
                self._seen.add(known_as)
                proposed.append(architecture)
                repeats = 0
            if repeats > _MAX_REPEATS:
                break
        return proposed

    def observe(self, architectures, accuracies) -> None:
        """Learns nothing: the distribution is fixed."""


class Listed:
    """Proposes given architectures, in their order.

    Args:
        architectures: to propose, each once.
    """

    def __init__(self, architectures):
        self._left = list(dict.fromkeys(architectures))

    def propose(self, count: int) -> list:
        """The next `count`; fewer when there are no more."""
        proposed, self._left = self._left[:count], self._left[count:]
        return proposed

    def observe(self, architectures, accuracies) -> None:
        """Learns nothing."""
