"""Twins: different architectures that are the same stand-alone model.

Blocks that do not read each other can change places. The model stays the same, up to the order of
the channels of a cell's output. It computes the same functions, if the weights of the layers that
read these channels are permuted too. It also trains alike. The one-shot model has separate weights
for each block, so twins have different candidate accuracies: two estimates for one model.

Nothing else makes two architectures the same model. Every block goes into the cell's output. Every
path changes the function of its block. Two blocks with equal inputs and operations have separate
weights. (In a stack of one cell, `prev2` and `prev1` are both the stem. That depends on the stack,
not on the architecture, so this module ignores it.)
"""

import functools
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from oneshot_tf.space.architecture import Architecture, Choice

_MOST_CHOICES = 2**16  # size of the caches


def canonical(architecture: Architecture) -> Architecture:
    """Returns the least architecture among the twins of one, itself included.

    All twins have the same result. The function fills the places one after another. Each place
    gets the least block that reads only placed blocks. If several blocks are equally small, the
    function follows all of them. Two ways are equivalent if they leave the same blocks, and these
    read the same places. Of equivalent ways the function follows one.
    """
    blocks = architecture.blocks
    reads = [_reads(choice) for choice in blocks]
    # A way is the block at each place. The placed choices are equal in all ways.
    ways: list[tuple[int, ...]] = [()]
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
    """Returns the numbers of the blocks that a block reads, in ascending order."""
    return tuple(sorted(int(n[5:]) for n in choice.inputs if n.startswith("block")))


@functools.lru_cache(_MOST_CHOICES)
def _renamed(choice: Choice, places: tuple[int, ...]) -> Choice:
    """Returns a choice that reads blocks at new places, one place for each of `_reads`."""
    if places == _reads(choice):
        return choice
    names = {f"block{block}": f"block{place}" for block, place in zip(_reads(choice), places)}
    return Choice(tuple(names.get(name, name) for name in choice.inputs), choice.operations)


def _open_ends(way: tuple[int, ...], reads: list[tuple[int, ...]]):
    """Returns the blocks that are left and the places that they read. The rest depends on these."""
    left = set(range(len(reads))) - set(way)
    read = set().union(*(reads[block] for block in left))
    return frozenset(left), tuple(block if block in read else None for block in way)


@functools.cache
def num_distinct(num_blocks: int, num_operation_sets: int) -> int:
    """Counts the cells of `num_blocks` blocks, twins once. The result is exact.

    The level of a block is 0 if it reads no block. Otherwise it is one more than the highest level
    that it reads. Two cells with n_0, n_1, … blocks on their levels are twins exactly if a
    permutation within levels turns one into the other. So Burnside's lemma counts them level by
    level: the count is the mean, over the permutations of each level, of the number of cells that
    a permutation leaves unchanged. In such a cell, all blocks of a cycle share one choice of
    operations, and one of `prev2` and `prev1`. A cycle of c blocks can read a lower cycle of l
    blocks in 2^gcd(c, l) ways.

    Args:
        num_blocks: Choice blocks in a cell.
        num_operation_sets: Number of sets of operations that a block can sum.
    """

    def count(left: int, lower: tuple[int, ...], last: tuple[int, ...]) -> Fraction:
        """Returns the count for the remaining levels.

        Args:
            left: Blocks on the remaining levels.
            lower: Lengths of the cycles of all lower levels.
            last: Lengths of the cycles of the highest of them.
        """
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
    """Returns how many input sets of a cycle's blocks the permutation leaves unchanged."""
    if not lower:
        return 3  # prev2, prev1 or both
    older = lower[: len(lower) - len(last)]  # a block that reads only these has a lower level
    some = 2 ** sum(math.gcd(cycle, other) for other in lower)
    return 4 * (some - 2 ** sum(math.gcd(cycle, other) for other in older))


def _centralizer(cycles: tuple[int, ...]) -> int:
    """Returns n! divided by the number of permutations of n with these cycles."""
    counts = Counter(cycles)
    return math.prod(length**count * math.factorial(count) for length, count in counts.items())


def _partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """Yields the ways to write a number as a sum of positive numbers, largest first."""
    if total == 0:
        yield ()
    for first in range(min(total, largest or total), 0, -1):
        for rest in _partitions(total - first, first):
            yield (first, *rest)
