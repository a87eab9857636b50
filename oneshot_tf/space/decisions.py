"""A search space as a list of decisions. Search strategies work on decisions only.

Each decision takes exactly one of its options. An option is a row of 0/1 masks over the paths of
the decision. Counting, sampling, mutation, crossover and mixtures need nothing else.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from oneshot_tf.system.errors import InputError

Genes = tuple[int, ...]
"""The option of each decision, by its number: an architecture for strategies."""


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """A choice of exactly one option.

    Example:

        >>> decision = Decision("skip or not", (4,), np.array([[0], [1]], np.float32))
        >>> decision.num_options
        2

    Args:
        name: What is decided, for people.
        paths: The k paths that it governs, as columns of the masks.
        options: 0/1 rows, float32 `[N, k]`, each different.

    Raises:
        InputError: The options have another shape, other values, or repeat each other.
    """

    name: str
    paths: tuple[int, ...]
    options: np.ndarray

    def __post_init__(self) -> None:
        shape = self.options.shape
        if len(shape) != 2 or shape[0] < 1 or shape[1] != len(self.paths):
            raise InputError(
                f"The options of '{self.name}' must have the shape [N, {len(self.paths)}]; got "
                f"{list(shape)}."
            )
        if not np.isin(self.options, (0, 1)).all():
            raise InputError(f"The options of '{self.name}' must hold only 0 and 1.")
        if len(np.unique(self.options, axis=0)) < shape[0]:
            raise InputError(f"The options of '{self.name}' must differ; some are equal.")

    @property
    def num_options(self) -> int:
        """N, the number of options."""
        return len(self.options)

    @functools.cached_property
    def neighbours(self) -> tuple[np.ndarray, ...]:
        """The neighbours of each option: options with one path added, dropped or exchanged."""
        changes = (self.options[:, None] != self.options[None]).sum(axis=2)
        sizes = self.options.sum(axis=1)
        exchanged = (changes == 2) & (sizes[:, None] == sizes[None])
        return tuple(np.flatnonzero(row) for row in (changes == 1) | exchanged)

    @functools.cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.tobytes(): place for place, row in enumerate(self.options)}

    def find(self, masks: np.ndarray) -> int:
        """Returns the option that a row of masks `[P]` takes.

        Raises:
            KeyError: No option has these paths.
        """
        return self._places[masks[list(self.paths)].astype(np.float32).tobytes()]


def subsets(name: str, paths: Sequence[int]) -> Decision:
    """Returns the decision for a non-empty subset of paths. Option i has the bits of i + 1."""
    bits = np.arange(1, 2 ** len(paths))[:, None] >> np.arange(len(paths)) & 1
    return Decision(name, tuple(paths), bits.astype(np.float32))


def combinations(name: str, paths: Sequence[int], most: int) -> Decision:
    """Returns the decision for one to `most` paths. Smaller sets come first."""
    sizes = range(1, most + 1)
    sets = [c for size in sizes for c in itertools.combinations(range(len(paths)), size)]
    rows = np.zeros([len(sets), len(paths)], np.float32)
    for row, chosen in zip(rows, sets):
        row[list(chosen)] = 1.0
    return Decision(name, tuple(paths), rows)


def count(decisions: Sequence[Decision]) -> int:
    """Returns the number of architectures, exactly."""
    return math.prod(decision.num_options for decision in decisions)


def sample(decisions: Sequence[Decision], rng: np.random.Generator) -> Genes:
    """Samples genes uniformly: each decision independently and uniformly over its options."""
    return tuple(int(rng.integers(decision.num_options)) for decision in decisions)


def mutate(decisions: Sequence[Decision], genes: Genes, rng: np.random.Generator) -> Genes:
    """Returns genes in which one decision moves to a neighbouring option.

    The decision is drawn uniformly from those with neighbours, its new option uniformly from the
    neighbours. Genes without any neighbour are returned as they are.
    """
    free = [i for i, d in enumerate(decisions) if len(d.neighbours[genes[i]])]
    if not free:
        return genes
    where = free[int(rng.integers(len(free)))]
    options = decisions[where].neighbours[genes[where]]
    return (*genes[:where], int(options[rng.integers(len(options))]), *genes[where + 1 :])


def redraw(
    decisions: Sequence[Decision], genes: Genes, rate: float, rng: np.random.Generator
) -> Genes:
    """Returns genes in which each decision is drawn anew with probability `rate`."""
    new = sample(decisions, rng)
    return tuple(n if rng.random() < rate else g for n, g in zip(new, genes))


def crossover(first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
    """Returns genes that take each decision from either parent, with equal probability."""
    return tuple(a if rng.random() < 0.5 else b for a, b in zip(first, second))


def mean_distance(population: Sequence[Genes]) -> float:
    """Returns the mean number of decisions in which two members of a population differ.

    Members that are equal count, too, so a population of copies has the distance 0.

    Example:

        >>> mean_distance([(0, 1), (0, 2), (3, 1)])
        1.3333333333333333

    Args:
        population: At least two genes of the same length.
    """
    size = len(population)
    counts = [np.unique(column, return_counts=True)[1] for column in np.array(population).T]
    equal = sum(int((c * (c - 1)).sum()) for c in counts)  # ordered pairs, over all decisions
    return len(counts) - equal / (size * (size - 1))


def mean_share(decisions: Sequence[Decision], num_paths: int) -> float:
    """Returns the mean share of the P paths that an architecture uses, over all architectures."""
    return float(sum(d.options.mean(axis=0).sum() for d in decisions) / num_paths)


def mixture(decisions: Sequence[Decision], weights: Sequence[Any], num_paths: int) -> np.ndarray:
    """Returns masks in which each path has the total weight of the options that use it.

    One-hot weights give the masks of an architecture, a softmax gives a relaxation.

    Args:
        decisions: D decisions.
        weights: D arrays `[..., N]`, the weight of each option.
        num_paths: P.

    Returns:
        Float32 `[..., P]`.
    """
    masks = np.zeros([*np.shape(weights[0])[:-1], num_paths], np.float32)
    for decision, weight in zip(decisions, weights):
        masks[..., list(decision.paths)] = np.asarray(weight) @ decision.options
    return masks
