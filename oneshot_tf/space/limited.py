"""A search space within limits: strategies see only the architectures that are allowed."""

from collections.abc import Callable, Sequence

import numpy as np

from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.decisions import Decision, Genes
from oneshot_tf.system.errors import InputError

_TRIES = 100_000  # draws in a row outside the limits


class LimitedSpace:
    """The architectures of a space that pass a test. It offers strategies what `CellSpace` does.

    Example:

        >>> space = bender2018()
        >>> small = LimitedSpace(space, lambda some: [len(a.blocks[0].inputs) == 1 for a in some])
        >>> len(small.sample(np.random.default_rng(0)).blocks[0].inputs)
        1

    Args:
        space: The whole space.
        test: Says of each of several architectures whether it is within the limits. A pure
            function.
    """

    def __init__(self, space: CellSpace, test: Callable[[Sequence[Architecture]], Sequence[bool]]):
        self.whole, self._test = space, test
        self._known: dict[Architecture, bool] = {}

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of the whole space."""
        return self.whole.decisions

    @property
    def num_architectures(self) -> int:
        """An upper bound: the number of architectures of the whole space."""
        return self.whole.num_architectures

    @property
    def num_distinct(self) -> int:
        """An upper bound: the number of architectures of the whole space if twins count once."""
        return self.whole.num_distinct

    def allows(self, architecture: Architecture) -> bool:
        """Returns whether an architecture is within the limits."""
        known = self._known.get(architecture)
        if known is None:
            known = self._known[architecture] = bool(self._test([architecture])[0])
        return known

    def genes(self, architecture: Architecture) -> Genes:
        """Returns the option of each decision that an architecture takes."""
        return self.whole.genes(architecture)

    def architecture(self, genes: Genes) -> Architecture:
        """Returns the architecture that takes these options. It may be outside the limits."""
        return self.whole.architecture(genes)

    def check(self, architecture: Architecture) -> None:
        """Checks that an architecture is a member of the whole space, and within the limits.

        Raises:
            InputError: It is not.
        """
        self.whole.check(architecture)
        if not self.allows(architecture):
            raise InputError(f"'{architecture}' is outside the limits.")

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Samples an architecture, uniformly over those within the limits.

        Raises:
            InputError: 100,000 draws in a row were outside the limits.
        """
        drawn, some = 0, 1
        while drawn < _TRIES:
            architectures = [self.whole.sample(rng) for _ in range(some)]
            for architecture, allowed in zip(architectures, self._test(architectures)):
                if allowed:
                    return architecture
            drawn, some = drawn + some, min(2 * some, 256)  # testing many at once is faster
        raise InputError(
            f"The limits allow fewer than one in {_TRIES:,} architectures, so random ones cannot "
            "be found. Raise the limits."
        )


SearchSpace = CellSpace | LimitedSpace
"""What strategies search: a whole space, or one within limits."""
