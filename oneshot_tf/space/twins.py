"""Twins: different architectures that are the same stand-alone net.

Blocks that do not read each other can be put in another order. The net stays
the same, up to the order of the channels of a cell's output: it computes the
same functions, with the weights of what reads those channels permuted. It also
trains alike. The one-shot model has its own weights for each block, so twins
have different candidate accuracies: two looks at one net.

Nothing else makes two architectures the same net. Every block goes into the
cell's output, every path changes what its block computes, and two blocks of
equal inputs and operations have weights of their own. (In a stack of one cell
`prev2` and `prev1` are both the stem; that is a matter of the stack, not of the
architecture, and is left out here.)
"""

import functools
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from oneshot_tf.space.architecture import Architecture, Choice

_MOST_CHOICES = 2**16  # that are remembered


def canonical(architecture: Architecture) -> Architecture:
    """The least of an architecture's twins, itself among them; equal for all of them.

    Places are filled one after another with the least block that reads placed blocks only.
    Where several are equally small, all are followed; of the ways to go on, those are
    equal that leave the same blocks, which read the same places.
    """
    blocks = architecture.blocks
    reads = [_reads(choice) for choice in blocks]
    ways: list[tuple[int, ...]] = [
        ()
    ]  # the block at each place; the placed choices are equal in all ways
    placed: list[Choice] = []
    for _ in blocks:
        best: list[tuple[int, ...]] = []
        least: Choice | None = None
        for way in ways:
            places: dict[int, int] = {block: place for place, block in enumerate(way)}
            for block, choice in enumerate(blocks):
                if block in places or not all(read in places for read in reads[block]):
                    continue
                choice = _renamed(choice, tuple([places[read] for read in reads[block]]))
                if least is None or choice < least:
                    best, least = [], choice
                if choice == least:
                    best.append((*way, block))
        assert least is not None  # some block can always be placed next
        placed.append(least)
        if len(best) > 1:
            best = list({_open_ends(way, reads): way for way in reversed(best)}.values())
        ways = best
    return Architecture(tuple(placed))


@functools.lru_cache(_MOST_CHOICES)
def _reads(choice: Choice) -> tuple[int, ...]:
    """The numbers of the blocks that a block reads, ascending."""
    return tuple(sorted(int(n[5:]) for n in choice.inputs if n.startswith("block")))


@functools.lru_cache(_MOST_CHOICES)
def _renamed(choice: Choice, places: tuple[int, ...]) -> Choice:
    """A block that reads blocks at new places, one for each of `_reads`."""
    if places == _reads(choice):
        return choice
    names = {f"block{block}": f"block{place}" for block, place in zip(_reads(choice), places)}
    return Choice(tuple(names.get(name, name) for name in choice.inputs), choice.operations)


def _open_ends(way: tuple[int, ...], reads: list[tuple[int, ...]]):
    """What the rest depends on: the blocks that are left, and the places that they read."""
    left = set(range(len(reads))) - set(way)
    read = set().union(*(reads[block] for block in left))
    return frozenset(left), tuple(block if block in read else None for block in way)


@functools.cache
def num_distinct(num_blocks: int, num_operation_sets: int) -> int:
    """How many cells of `num_blocks` blocks remain if twins count once. Exact.

    A block's level is 0 if it reads no block, otherwise one more than the highest
    level that it reads. A cell with n_0, n_1, … blocks on its levels is a
    twin of another one exactly if a permutation within levels leads from one to
    the other. So Burnside's lemma counts them level by level: the mean, over the
    permutations of each level, of the number of cells that they leave as they
    are. A cycle of c blocks leaves 1 choice of operations and of `prev2` and `prev1`
    for all of its blocks, and may read a lower cycle of l blocks in 2^gcd(c, l) ways.

    Args:
        num_blocks: in a cell.
        num_operation_sets: how many sets of operations a block can sum.
    """

    def count(left: int, lower: tuple[int, ...], last: tuple[int, ...]) -> Fraction:
        """Of the levels that remain, given the cycles of all lower levels and of the last one."""
        if left == 0:
            return Fraction(1)
        total = Fraction(0)
        for size in range(1, left + 1):
            for cycles in _partitions(size):
                ways = 1
                for cycle in cycles:
                    ways *= num_operation_sets * _input_sets(cycle, lower, last)
                total += Fraction(ways, _centralizer(cycles)) * count(
                    left - size, lower + cycles, cycles
                )
        return total

    return int(count(num_blocks, (), ()))


def _input_sets(cycle: int, lower: tuple[int, ...], last: tuple[int, ...]) -> int:
    """Which inputs a block of a cycle can read so that the permutation changes nothing."""
    if not lower:
        return 3  # prev2, prev1 or both
    older = lower[: len(lower) - len(last)]  # these alone would make it a block of a lower level
    some = 2 ** sum(math.gcd(cycle, other) for other in lower)
    return 4 * (some - 2 ** sum(math.gcd(cycle, other) for other in older))


def _centralizer(cycles: tuple[int, ...]) -> int:
    """n! over the number of permutations of n that have these cycles."""
    counts = Counter(cycles)
    return math.prod(length**count * math.factorial(count) for length, count in counts.items())


def _partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """The ways to write a number as a sum of numbers that do not rise."""
    if total == 0:
        yield ()
    for first in range(min(total, largest or total), 0, -1):
        for rest in _partitions(total - first, first):
            yield (first, *rest)
