"""Limits on the cost of architectures, which hold for every search strategy."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from oneshot_tf.cost import counts
from oneshot_tf.space import decisions
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.limited import LimitedSpace, SearchSpace
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError

_STARTS = 8  # random starts of the descent to the smallest architecture


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on stand-alone models of one stack.

    Args:
        stack: The stack of the models, with their number of filters.
        num_classes: The number of classes.
        image_size: Height and width of the images.
        max_parameters: The most parameters; 0 for no limit.
        max_multiply_adds: The most multiply-adds for one image; 0 for no limit.
    """

    stack: Stack
    num_classes: int
    image_size: int
    max_parameters: int = 0
    max_multiply_adds: int = 0

    def ratios(self, space: CellSpace, architectures: Sequence[Architecture]) -> np.ndarray:
        """Returns for each architecture its cost over the limit, the greater one: float `[A]`."""
        costs = counts.costs(space, architectures, self.stack, self.num_classes, self.image_size)
        pairs = zip(costs, (self.max_parameters, self.max_multiply_adds))
        ratios = [cost / limit for cost, limit in pairs if limit]
        return np.max(ratios, axis=0) if ratios else np.zeros(len(architectures))

    def apply(self, space: CellSpace) -> SearchSpace:
        """Returns the space within the limits; the space itself if there are none.

        Raises:
            InputError: No architecture is within the limits. The message has the smallest one.
        """
        if not self.max_parameters and not self.max_multiply_adds:
            return space
        smallest = self.smallest(space)
        if self.ratios(space, [smallest])[0] > 1:
            size = counts.costs(space, [smallest], self.stack, self.num_classes, self.image_size)
            names = {
                "--max_parameters": self.max_parameters,
                "--max_multiply_adds": self.max_multiply_adds,
            }
            given = " and ".join(f"{name}={value}" for name, value in names.items() if value)
            raise InputError(
                f"No architecture is within {given}. The smallest one found, {smallest}, has "
                f"{size[0][0]:,} parameters and {size[1][0]:,} multiply-adds with "
                f"{self.stack.filters} filters. Raise the limit, or train with fewer --filters."
            )
        return LimitedSpace(space, lambda some: (self.ratios(space, some) <= 1).tolist(), smallest)

    def smallest(self, space: CellSpace) -> Architecture:
        """Returns the architecture of the least `ratios`, by descent from several starts.

        Each step changes one decision to its best option.
        """
        rng = np.random.default_rng(0)
        starts = [decisions.sample(space.decisions, rng) for _ in range(_STARTS)]
        found = [self._descend(space, start) for start in starts]
        return min(found, key=lambda pair: pair[0])[1]

    def _descend(self, space: CellSpace, genes: decisions.Genes) -> tuple[float, Architecture]:
        best = float("inf")
        while True:
            before = best
            for place, decision in enumerate(space.decisions):
                options = [
                    (*genes[:place], option, *genes[place + 1 :])
                    for option in range(decision.num_options)
                ]
                ratios = self.ratios(space, [space.architecture(each) for each in options])
                genes, best = options[int(np.argmin(ratios))], float(ratios.min())
            if best >= before:
                return best, space.architecture(genes)
