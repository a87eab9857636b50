"""Genetic search in generations, under limits (Guo et al. 2020, single path one-shot)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space import decisions
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.protocols import Proposer
from oneshot_tf.system.errors import InputError

_TRIES = 10  # per child, until one is new and within the limits (published)
_RANDOM_TRIES = 1000


@dataclasses.dataclass(frozen=True)
class GeneticSettings(StrategySettings):
    """Genetic search."""

    strategy: str = setting(
        "genetic", "How the search chooses architectures.", choices=("genetic",)
    )
    generation_size: int = setting(
        50, "Number of architectures in a generation. The first generation is random.", least=2
    )
    generations: int = setting(
        20, "Number of generations, the first included.", least=1, affects_results=False
    )
    parents: int = setting(
        10, "Number of the best architectures so far that have children.", least=1
    )
    mutations: int = setting(
        25, "Number of children by mutation in a generation. The rest is random.", least=0
    )
    crossovers: int = setting(
        25,
        "Number of children by crossover in a generation. Each takes every decision from either "
        "of two parents.",
        least=0,
    )
    mutation_rate: float = setting(
        0.1, "Probability that a mutation draws a decision anew.", above=0.0, most=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mutations + self.crossovers > self.generation_size:
            raise InputError(
                f"--generation_size must be at least --mutations={self.mutations} plus "
                f"--crossovers={self.crossovers}; got {self.generation_size}."
            )


class Genetic(Proposer):
    """Breeds each generation from the best architectures of all generations before.

    A generation has children by mutation, children by crossover, and random architectures for the
    rest. It never repeats an architecture. Children outside the limits are thrown away unscored.

    Args:
        space: The search space.
        settings: The sizes of generations and the rate of mutations.
        seed: The seed of all draws.

    Attributes:
        best: The genes and accuracies of the parents, the best first.
        short: How many children could not be bred and were replaced by random architectures.
    """

    learns = True

    def __init__(self, space: SearchSpace, settings: GeneticSettings, seed: int = 0):
        self.space, self.settings = space, settings
        self.best: list[tuple[decisions.Genes, float]] = []
        self.short = 0
        self._rng = np.random.default_rng(seed)
        self._seen: set[Architecture] = set()
        self._parents: dict[Architecture, Architecture] = {}
        self._left: list[Architecture] = []
        self._generation = self._unscored = 0

    @property
    def limit(self) -> int:
        """The architectures of all generations, at most those of the space."""
        settings = self.settings
        most = settings.generation_size * settings.generations
        return min(most, self.space.num_architectures)

    def propose(self, count: int) -> list[Architecture]:
        """Returns the next architectures of the generation, or of a new one if all are scored."""
        if not self._left:
            if self._unscored or self._generation == self.settings.generations:
                return []
            self._left = self._next_generation()
            self._generation += 1
            self._unscored = len(self._left)
        proposed, self._left = self._left[:count], self._left[count:]
        return proposed

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Keeps the best architectures as parents. Of equals, the older one comes first."""
        self._unscored -= len(architectures)
        for architecture, accuracy in zip(architectures, accuracies):
            self.best.append((self.space.genes(architecture), float(accuracy or 0.0)))
        self.best.sort(key=lambda member: -member[1])
        if not self._unscored:
            del self.best[self.settings.parents :]

    def parent(self, architecture: Architecture) -> Architecture | None:
        """Returns the (first) parent of a child; None for random architectures."""
        return self._parents.get(architecture)

    def remarks(self) -> list[str]:
        """Says how many children could not be bred."""
        if not self.short:
            return []
        return [
            f"{self.short:,} children could not be bred: all tries were known or outside the "
            "limits. Random architectures replaced them."
        ]

    def _next_generation(self) -> list[Architecture]:
        children: list[Architecture] = []
        if self.best:
            for breed, wanted in (
                (self._mutant, self.settings.mutations),
                (self._crossed, self.settings.crossovers),
            ):
                for _ in range(wanted):
                    children += self._new(breed, _TRIES)
            self.short += self.settings.mutations + self.settings.crossovers - len(children)
        while len(children) < self.settings.generation_size:
            random = self._new(lambda: (self.space.sample(self._rng), None), _RANDOM_TRIES)
            if not random:  # nothing is left in the space
                break
            children += random
        return children

    def _new(self, breed, tries: int) -> list[Architecture]:
        """Returns one new architecture within the limits, or none after some tries."""
        for _ in range(tries):
            child, parent = breed()
            if child not in self._seen and self.space.allows(child):
                self._seen.add(child)
                if parent is not None:
                    self._parents[child] = parent
                return [child]
        return []

    def _mutant(self) -> tuple[Architecture, Architecture]:
        genes = self._choose()
        rate = self.settings.mutation_rate
        child = decisions.redraw(self.space.decisions, genes, rate, self._rng)
        return self.space.architecture(child), self.space.architecture(genes)

    def _crossed(self) -> tuple[Architecture, Architecture]:
        first, second = self._choose(), self._choose()
        child = decisions.crossover(first, second, self._rng)
        return self.space.architecture(child), self.space.architecture(first)

    def _choose(self) -> decisions.Genes:
        return self.best[int(self._rng.integers(len(self.best)))][0]
