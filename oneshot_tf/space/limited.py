"""A search space within limits: strategies see only the architectures that are allowed."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.decisions import Decision, Genes, mutate
from oneshot_tf.space.space import Space
from oneshot_tf.system.errors import InputError

_TRIES = 20_000  # draws in a row outside the limits
_STEPS = 50  # of a random walk
_FEW = 20_000  # architectures of a space that are tested one and all


class LimitedSpace:
    """The architectures of a space that pass a test. It offers strategies what `Space` does.

    Example:

        >>> space = bender2018()
        >>> small = LimitedSpace(space, lambda some: [len(a.blocks[0].inputs) == 1 for a in some])
        >>> len(small.sample(np.random.default_rng(0)).blocks[0].inputs)
        1

    Args:
        space: The whole space.
        test: Says of each of several architectures whether it is within the limits. A pure
            function.
        start: An architecture within the limits, from which to walk if random draws find none.
    """

    def __init__(
        self,
        space: Space,
        test: Callable[[Sequence[Architecture]], Sequence[bool]],
        start: Architecture | None = None,
    ):
        self.whole, self._test, self._start = space, test, start
        self._known: dict[Architecture, bool] = {}
        self._all = self._enumerated() if space.num_architectures <= _FEW else None

    def _enumerated(self) -> list[Architecture]:
        options = itertools.product(*(range(d.num_options) for d in self.decisions))
        every = [self.whole.architecture(genes) for genes in options]
        return [a for a, allowed in zip(every, self._test(every)) if allowed]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of the whole space."""
        return self.whole.decisions

    @property
    def num_architectures(self) -> int:
        """The number of architectures within the limits; for a large space an upper bound."""
        return self.whole.num_architectures if self._all is None else len(self._all)

    @property
    def num_distinct(self) -> int:
        """The number of architectures within the limits if twins count once; see above."""
        if self._all is None:
            return self.whole.num_distinct
        return len({self.whole.canonical(a) for a in self._all})

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

        If 20,000 draws in a row are outside the limits, a random walk of 50 mutations replaces
        them. It starts at the architecture `start` and stays within the limits. Such samples are
        not uniform.

        Raises:
            InputError: No draw is within the limits, and there is no `start`.
        """
        if self._all:
            return self._all[int(rng.integers(len(self._all)))]
        drawn, some = 0, 1
        while drawn < _TRIES:
            architectures = [self.whole.sample(rng) for _ in range(some)]
            for architecture, allowed in zip(architectures, self._test(architectures)):
                if allowed:
                    return architecture
            drawn, some = drawn + some, min(2 * some, 256)  # testing many at once is faster
        if self._start is None:
            raise InputError(
                f"The limits allow fewer than one in {_TRIES:,} architectures. Raise the limits."
            )
        genes = self.genes(self._start)
        for _ in range(_STEPS):
            mutant = mutate(self.decisions, genes, rng)
            genes = mutant if self.allows(self.architecture(mutant)) else genes
        return self.architecture(genes)


SearchSpace = Space | LimitedSpace
"""What strategies search: a whole space, or one within limits."""
