"""Limits on the cost of architectures, which hold for every search strategy."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from oneshot_tf.cost import counts
from oneshot_tf.space import decisions
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import LimitedSpace, SearchSpace
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError

_STARTS = 8  # random starts of the descent to the smallest architecture

# Maps architectures to their costs, float `[A]`.
Costs = Callable[[Sequence[Architecture]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit on one cost.

    Args:
        flag: The flag that sets it, for example "--max_parameters".
        most: The largest cost that is allowed, in the unit of the flag.
        costs: Returns the costs of architectures. An estimate includes its margin.
        words: What a cost is called in a message, with a place for the number, for example
            "{:,.0f} parameters".
    """

    flag: str
    most: float
    costs: Costs
    words: str


class Limits:
    """Limits on stand-alone models of one stack.

    Args:
        limits: The limits.
        filters: Number of filters of the models, for messages.
    """

    def __init__(self, limits: Sequence[Limit], filters: int):
        self.limits, self.filters = list(limits), filters

    def __bool__(self) -> bool:
        return bool(self.limits)

    def ratios(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Returns for each architecture its cost over the limit, the greatest one: float `[A]`."""
        ratios = [limit.costs(architectures) / limit.most for limit in self.limits]
        return np.max(ratios, axis=0) if ratios else np.zeros(len(architectures))

    def within(self, architectures: Sequence[Architecture]) -> list[bool]:
        """Returns whether each architecture is within the limits."""
        return (self.ratios(architectures) <= 1).tolist() if architectures else []

    def given(self) -> str:
        """Returns the flags with their values."""
        return " and ".join(f"{limit.flag}={limit.most:.12g}" for limit in self.limits)

    def described(self, architecture: Architecture) -> str:
        """Returns the costs of an architecture as text."""
        parts = [x.words.format(float(x.costs([architecture])[0])) for x in self.limits]
        return " and ".join(parts)

    def apply(self, space: Space) -> SearchSpace:
        """Returns the space within the limits; the space itself if there are none.

        Raises:
            InputError: No architecture is within the limits. The message has the nearest one.
        """
        if not self:
            return space
        smallest = self.smallest(space)
        if self.ratios([smallest])[0] > 1:
            raise InputError(
                f"No architecture is within {self.given()}. The nearest one found, {smallest}, has "
                f"{self.described(smallest)} with {self.filters} filters. Raise the limit, or "
                "use fewer filters."
            )
        return LimitedSpace(space, self.within, smallest)

    def smallest(self, space: Space) -> Architecture:
        """Returns the architecture of the least `ratios`, by descent from several starts.

        Each step changes one decision to its best option.
        """
        rng = np.random.default_rng(0)
        starts = [decisions.sample(space.decisions, rng) for _ in range(_STARTS)]
        found = [self._descend(space, start) for start in starts]
        return min(found, key=lambda pair: pair[0])[1]

    def _descend(self, space: Space, genes: decisions.Genes) -> tuple[float, Architecture]:
        best = float("inf")
        while True:
            before = best
            for place, decision in enumerate(space.decisions):
                options = [
                    (*genes[:place], option, *genes[place + 1 :])
                    for option in range(decision.num_options)
                ]
                ratios = self.ratios([space.architecture(each) for each in options])
                genes, best = options[int(np.argmin(ratios))], float(ratios.min())
            if best >= before:
                return best, space.architecture(genes)


def counted(space: Space, stack: Stack, num_classes: int, image_size: int, index: int) -> Costs:
    """Returns exact costs.

    Args:
        space: The search space.
        stack: The stack of the models.
        num_classes: Number of classes.
        image_size: Height and width of the images.
        index: 0 for parameters, 1 for multiply-adds.
    """

    def costs(architectures: Sequence[Architecture]) -> np.ndarray:
        return counts.costs(space, architectures, stack, num_classes, image_size)[index]

    return costs


def counted_limits(
    space: Space,
    stack: Stack,
    num_classes: int,
    image_size: int,
    max_parameters: int = 0,
    max_multiply_adds: int = 0,
) -> list[Limit]:
    """Returns limits on parameters and multiply-adds. 0 stands for no limit."""
    net = (space, stack, num_classes, image_size)
    every = [
        Limit("--max_parameters", max_parameters, counted(*net, 0), "{:,.0f} parameters"),
        Limit("--max_multiply_adds", max_multiply_adds, counted(*net, 1), "{:,.0f} multiply-adds"),
    ]
    return [limit for limit in every if limit.most]
