"""Regularised evolution (Real et al. 2019, AmoebaNet), and tournament selection without ageing."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space import decisions
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.protocols import Proposer
from oneshot_tf.system.errors import InputError

_TRIES = 100  # mutations of one parent, until one is within the limits


@dataclasses.dataclass(frozen=True)
class EvolutionSettings(StrategySettings):
    """Regularised evolution."""

    strategy: str = setting(
        "evolution", "How the search chooses architectures.", choices=("evolution",)
    )
    population: int = setting(
        100, "Number of architectures in the population. The first ones are random.", least=1
    )
    sample_size: int = setting(
        25,
        "Number of members drawn from the population, with replacement. The best of them is the "
        "parent of the next child. A large sample is greedy.",
        least=1,
    )
    identity_rate: float = setting(
        0.05,
        "Probability that a child is a copy of its parent. A copy costs no evaluation, but it is "
        "young again.",
        least=0.0,
        below=1.0,
    )
    brood: int = setting(
        8,
        "Number of children bred before the first of them is scored. More use the hardware "
        "better, 1 learns from each child at once.",
        least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.population < self.sample_size:
            raise InputError(
                f"--population must be at least --sample_size={self.sample_size}; got "
                f"{self.population}."
            )


@dataclasses.dataclass(frozen=True)
class TournamentSettings(EvolutionSettings):
    """Tournament selection."""

    strategy: str = setting(
        "tournament", "How the search chooses architectures.", choices=("tournament",)
    )


class Evolution(Proposer):
    """Evolves a population: the best of a sample has a mutated child, and the oldest member dies.

    Ageing forgets lucky scores. A line survives only if its children are good again and again.
    Without ageing, the worst member of each sample dies instead (tournament selection).

    A mutation moves one decision to a neighbouring option (`space.decisions`). AmoebaNet draws the
    new option from all of them.

    Example:

        >>> evolution = Evolution(bender2018(), population=10, sample_size=3)
        >>> len(evolution.propose(64))
        10

    Args:
        space: The search space.
        population: P, the number of members.
        sample_size: S, the number of members drawn with replacement, at most P.
        identity_rate: The probability that a child is a copy, in [0, 1).
        brood: The number of children bred before the first of them is observed.
        ageing: Whether the oldest member dies, or the worst of the sample.
        seed: The seed of all draws.

    Attributes:
        members: The genes and the accuracy of each member, the oldest first.
    """

    learns = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int = 100,
        sample_size: int = 25,
        identity_rate: float = 0.05,
        brood: int = 8,
        ageing: bool = True,
        seed: int = 0,
    ):
        self.space, self.population, self.sample_size = space, population, sample_size
        self.identity_rate, self.brood, self.ageing = identity_rate, brood, ageing
        self.members: collections.deque[tuple[decisions.Genes, float]] = collections.deque()
        self._rng = np.random.default_rng(seed)
        self._parents: dict[Architecture, Architecture] = {}
        self._dying: collections.deque[tuple[decisions.Genes, float]] = collections.deque()

    @classmethod
    def from_settings(
        cls, space: SearchSpace, settings: EvolutionSettings, seed: int
    ) -> "Evolution":
        """Returns the evolution for a search program."""
        values = settings.to_dict()
        return cls(space, ageing=values.pop("strategy") == "evolution", seed=seed, **values)

    @property
    def limit(self) -> int:
        """The number of architectures in the space."""
        return self.space.num_architectures

    def propose(self, count: int) -> list[Architecture]:
        """Returns random architectures until the population is full, then a brood of children."""
        missing = self.population - len(self.members)
        if missing > 0:
            return [self.space.sample(self._rng) for _ in range(min(count, missing))]
        self._dying.clear()
        return [self._child() for _ in range(min(count, self.brood))]

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Adds members, the youngest last. One member dies for each beyond the population."""
        for architecture, accuracy in zip(architectures, accuracies):
            self.members.append((self.space.genes(architecture), float(accuracy or 0.0)))
            if len(self.members) > self.population:
                self._remove(self._dying.popleft() if self._dying else None)

    def parent(self, architecture: Architecture) -> Architecture | None:
        """Returns the parent of a child that was proposed; None for the first generation."""
        return self._parents.get(architecture)

    def remarks(self) -> list[str]:
        """Says how diverse the population is at the end."""
        if len(self.members) < 2:
            return []
        distance = decisions.mean_distance([genes for genes, _ in self.members])
        return [
            f"Two members of the population of {len(self.members):,} differ in {distance:.1f} of "
            f"{len(self.space.decisions)} decisions on average."
        ]

    def _child(self) -> Architecture:
        """Returns a child of the best of a sample."""
        drawn = self._rng.integers(len(self.members), size=self.sample_size)
        sample = [self.members[i] for i in drawn]
        genes, _ = max(sample, key=lambda member: member[1])
        self._dying.append(min(sample, key=lambda member: member[1]))
        parent = self.space.architecture(genes)
        if self._rng.random() < self.identity_rate:
            return parent
        for _ in range(_TRIES):
            child = self.space.architecture(
                decisions.mutate(self.space.decisions, genes, self._rng)
            )
            if self.space.allows(child):
                self._parents.setdefault(child, parent)
                return child
        return self.space.sample(self._rng)  # a parent that the limits surround

    def _remove(self, worst: tuple[decisions.Genes, float] | None) -> None:
        """Removes the oldest member; without ageing `worst`, unless it has died already."""
        if self.ageing or worst is None:
            self.members.popleft()
        elif worst in self.members:
            self.members.remove(worst)
        else:
            self.members.remove(min(self.members, key=lambda member: member[1]))
