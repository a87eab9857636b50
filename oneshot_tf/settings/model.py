"""Settings of the one-shot model: its search space and its sizes."""

import dataclasses
from typing import Any

from oneshot_tf.settings.setting import Settings, setting
from oneshot_tf.space.cell_space import CellSpace, bender2018
from oneshot_tf.space.known import find
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class ModelSettings(Settings):
    """One-shot model."""

    space: str = setting(
        "bender2018",
        "Search space. bender2018: cells of choice blocks, as in the paper. mobile_chain: chains "
        "of inverted bottlenecks, as in ProxylessNAS. digits_chain: chains of four layers. "
        "package.module:NAME: the space NAME in a Python module of your own. Chains have fixed "
        "layers; --filters scales their widths.",
        common=True,
        added=True,
    )
    num_cells: int = setting(
        6, "Number of cells. The paper uses 6 for CIFAR-10.", least=1, most=64, common=True
    )
    filters: int = setting(
        16,
        "Number of filters of the first convolution, F in the paper.",
        least=1,
        most=4096,
        common=True,
    )
    num_blocks: int = setting(
        4, "Number of choice blocks in a cell, N_choice in the paper.", least=1, most=8
    )
    num_reductions: int = setting(
        -1,
        "Number of reductions. A reduction is a cell that halves height and width and doubles the "
        "filters. Use 2 for 32x32 images and 3 for 224x224. It must be less than --num_cells. -1: "
        "2, or fewer if there are fewer than 3 cells.",
        least=-1,
        most=6,
    )
    stem_stride: int = setting(
        1,
        "Factor by which the stem, the convolutions before the first cell, reduces height and "
        "width. Use 1 for 32x32 images and 4 for 224x224.",
        choices=(1, 2, 4),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fix_sizes()
        object.__setattr__(self, "num_reductions", self.stack().num_reductions)

    def _fix_sizes(self) -> None:
        """Sets the sizes that the space decides.

        Raises:
            InputError: Another size was given.
        """
        if self.space == "bender2018":
            return
        space = find(self.space)
        sizes = {"num_blocks": 4, "num_cells": len(space.decisions), "num_reductions": 0}
        if isinstance(space, CellSpace):
            sizes = {"num_blocks": space.num_blocks}
        for name, value in sizes.items():
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) not in (default, value):
                raise InputError(
                    f"--{name} has no meaning with --space={self.space}, which decides it; got "
                    f"{getattr(self, name)}. Remove it."
                )
            object.__setattr__(self, name, value)

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> "ModelSettings":
        """Returns the settings in a run's file, as `Settings.from_stored` does.

        Earlier versions stored more reductions than the cells allow, and used one reduction per
        cell after the first one. This method stores the number that they used.
        """
        if ":" in str(values.get("space")) and not isinstance(find(values["space"]), CellSpace):
            # `RunDirectory.space` tells whether the space has changed.
            decided = ("num_cells", "num_blocks", "num_reductions")
            values = {name: value for name, value in values.items() if name not in decided}
        if isinstance(values.get("num_cells"), int) and "num_reductions" in values:
            most = max(0, values["num_cells"] - 1)
            values = {**values, "num_reductions": min(values["num_reductions"], most)}
        return super().from_stored(values)

    def search_space(self) -> Space:
        """Returns the search space. The paper's cells have `num_blocks` choice blocks."""
        if self.space == "bender2018":
            return bender2018(self.num_blocks)
        return find(self.space)

    def stack(self, num_cells: int = 0, filters: int = 0) -> Stack:
        """Returns the stack: the sizes that nets and `cost` need besides the search space.

        Args:
            num_cells, filters: Sizes of the net. 0 means the size of the one-shot model. A net with
                fewer cells has as many reductions as its cells allow.
        """
        if num_cells or filters:
            cells = num_cells or self.num_cells
            other = dataclasses.replace(
                self,
                num_cells=cells,
                filters=filters or self.filters,
                num_reductions=min(self.num_reductions, cells - 1),
            )
            return other.stack()
        reductions = None if self.num_reductions == -1 else self.num_reductions
        return Stack(self.num_cells, self.filters, reductions, self.stem_stride)
