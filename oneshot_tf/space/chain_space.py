"""A space of chains: each layer of a chain takes one operation of its menu.

A path is an operation of a layer. A layer that skips uses none of its paths.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from oneshot_tf.space.architecture import Architecture, Choice
from oneshot_tf.space.decisions import Decision, Genes
from oneshot_tf.space.layer import SKIP, Layer
from oneshot_tf.space.own import OwnOperation, refuse_own
from oneshot_tf.space.space import Space
from oneshot_tf.system.errors import InputError, short

_MOST_LAYERS = 64


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """One layer of a chain of some size.

    Args:
        operations: The names of its paths.
        paths: The paths, in the same order.
        skips: Whether it can skip.
        source_width: Channels of its input.
        width: Channels of its output.
        stride: Factor by which it divides height and width.
        divisor: The height and width of its output are those of the image divided by this, rounded
            up.
        residual: Whether its input is added to its output.
        own: The operations that users made, by name.
    """

    operations: tuple[str, ...]
    paths: range
    skips: bool
    source_width: int
    width: int
    stride: int
    divisor: int
    residual: bool
    own: Mapping[str, OwnOperation]


@dataclasses.dataclass(frozen=True)
class ChainSpace(Space):
    """All chains of layers: each layer takes one operation of its menu.

    The stem comes first, then a batch norm and a ReLU, the layers, an optional 1x1 convolution (the
    head), and the classifier. A layer of stride 1 that keeps the number of channels has a residual
    connection.

    Example:

        >>> space = ChainSpace((Layer(("mb3k3", "mb3k5", "skip"), width=8, repeats=2),), filters=8)
        >>> space.num_paths, space.num_architectures
        (4, 9)

    Args:
        layers: The layers, from the stem on.
        filters: Channels of the stem. With another number of filters F, all widths are multiplied
            by F / `filters` and rounded.
        head: Channels of the head; 0 for none.

    Raises:
        InputError: A value has a wrong type or is out of its range.
    """

    part: ClassVar[str] = "layer"

    layers: tuple[Layer, ...]
    filters: int = 16
    head: int = 0

    def __post_init__(self) -> None:
        layers = self.layers
        if not isinstance(layers, (tuple, list)) or not layers:
            raise InputError(f"`layers` must be a list of Layer; got {short(layers)}.")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise InputError(f"`layers` must hold only Layer; got {short(layer)}.")
        object.__setattr__(self, "layers", tuple(layers))
        total = sum(layer.repeats for layer in layers)
        if total > _MOST_LAYERS:
            raise InputError(f"A chain must have at most {_MOST_LAYERS} layers; got {total}.")
        for field, least in (("filters", 1), ("head", 0)):
            value = getattr(self, field)
            if not isinstance(value, int) or not least <= value <= 2**16:
                raise InputError(
                    f"`{field}` must be a whole number from {least} to {2**16:,}; got {value!r}."
                )

    def width_of(self, channels: int, filters: int) -> int:
        """Returns a width for a stem of `filters` channels."""
        return max(1, round(channels * filters / self.filters))

    def plans(self, filters: int, stem_stride: int = 1) -> tuple[LayerPlan, ...]:
        """Returns the plan of each layer, for a stem with these channels and this stride."""
        plans: list[LayerPlan] = []
        before, divisor, first = self.filters, stem_stride, 0
        for layer in self.layers:
            names = tuple(name for name in layer.operations if name != SKIP)
            own = {operation.name: operation for operation in layer.own}
            for repeat in range(layer.repeats):
                stride = layer.stride if repeat == 0 else 1
                residual, divisor = stride == 1 and before == layer.width, divisor * stride
                skips = residual and SKIP in layer.operations
                source, width = (self.width_of(c, filters) for c in (before, layer.width))
                paths = range(first, first + len(names))
                plans.append(
                    LayerPlan(names, paths, skips, source, width, stride, divisor, residual, own)
                )
                before, first = layer.width, paths.stop
        return tuple(plans)

    def least_image_size(self, stem_stride: int) -> int:
        """Returns the factor by which stem and layers divide height and width."""
        return self.plans(self.filters, stem_stride)[-1].divisor

    @functools.cached_property
    def _plans(self) -> tuple[LayerPlan, ...]:
        return self.plans(self.filters)

    @functools.cached_property
    def _menus(self) -> tuple[tuple[str, ...], ...]:
        """The options of each layer, in the order of its menu."""
        every = [layer for layer in self.layers for _ in range(layer.repeats)]
        return tuple(
            tuple(name for name in layer.operations if name != SKIP or plan.skips)
            for layer, plan in zip(every, self._plans)
        )

    @property
    def num_paths(self) -> int:
        """P, the number of paths."""
        return self._plans[-1].paths.stop

    @functools.cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One for each layer. Its options have one path each; `skip` has none."""
        found = []
        for index, (plan, menu) in enumerate(zip(self._plans, self._menus)):
            rows = [[float(name == path) for path in plan.operations] for name in menu]
            options = np.array(rows, np.float32)
            found.append(Decision(f"layer {index}", tuple(plan.paths), options))
        return tuple(found)

    def genes(self, architecture: Architecture) -> Genes:
        """Returns the option of each layer that an architecture takes.

        Raises:
            InputError: It is not a member of this space.
        """
        self.check(architecture)
        choices = zip(self._menus, architecture.blocks)
        return tuple(menu.index(choice.operations[0]) for menu, choice in choices)

    def architecture(self, genes: Genes) -> Architecture:
        """Returns the architecture that takes these options. It is the inverse of `genes`."""
        pairs = zip(self._menus, genes, strict=True)
        return Architecture(tuple(_choice(menu[option]) for menu, option in pairs))

    def all_on(self) -> Architecture:
        """Returns All On: each layer sums all its operations."""
        return Architecture(tuple(Choice((), plan.operations) for plan in self._plans))

    def masks(self, architectures: Iterable[Architecture]) -> np.ndarray:
        """Returns the paths of architectures as float32 `[A, P]`: 1 is used, 0 is not.

        Raises:
            InputError: The space has no such layers or operations.
        """
        found = list(architectures)
        masks = np.zeros([len(found), self.num_paths], np.float32)
        for row, architecture in zip(masks, found):
            self._check_names(architecture)
            for plan, choice in zip(self._plans, architecture.blocks):
                used = [p for p, name in zip(plan.paths, plan.operations)
                        if name in choice.operations]  # fmt: skip
                row[used] = 1.0
        return masks

    def architectures(self, masks: np.ndarray) -> list[Architecture]:
        """Returns the architectures of binary masks `[A, P]`. It is the inverse of `masks`.

        Raises:
            InputError: The masks have another shape, are not binary, or a layer that cannot skip
                has no path.
        """
        return [self._of_row(row) for row in self._check_masks(masks)]

    def _of_row(self, row: np.ndarray) -> Architecture:
        choices = []
        for index, plan in enumerate(self._plans):
            names = tuple(n for n, used in zip(plan.operations, row[list(plan.paths)]) if used)
            if not names and not plan.skips:
                raise InputError(f"`masks` must keep a path of layer {index}, which cannot skip.")
            choices.append(Choice((), names or (SKIP,)))
        return Architecture(tuple(choices))

    def check(self, architecture: Architecture) -> None:
        """Checks that an architecture is a member of this space.

        Raises:
            InputError: It is not a member. The message says why.
        """
        self._check_names(architecture)
        for index, choice in enumerate(architecture.blocks):
            if len(choice.operations) > 1:
                raise InputError(
                    f"A layer of this space must have one operation; got {len(choice.operations)} "
                    f"in layer {index} of '{architecture}'."
                )

    def _check_names(self, architecture: Architecture) -> None:
        for choice in architecture.blocks:
            if choice.inputs:
                raise InputError(
                    f"A layer of a chain has no inputs, as in '{self._menus[0][0]}'; got "
                    f"'{choice}' in '{architecture}'."
                )
        if len(architecture.blocks) != len(self._menus):
            raise InputError(
                f"A chain of this space must have {len(self._menus)} layer(s); got "
                f"{len(architecture.blocks)} in '{architecture}'."
            )
        for index, (menu, choice) in enumerate(zip(self._menus, architecture.blocks)):
            for name in choice.operations:
                if name not in menu or (name == SKIP and len(choice.operations) > 1):
                    raise InputError(
                        f"Layer {index} must be one of {', '.join(menu)} in this space; got "
                        f"'{choice}' in '{architecture}'."
                    )

    def parameter_free(self, architecture: Architecture) -> float:
        """Returns the share of layers that skip."""
        skips = [choice.operations == (SKIP,) for choice in architecture.blocks]
        return sum(skips) / len(skips)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values. `from_dict` makes the space again from them."""
        layers = []
        for layer in self.layers:
            values = {"operations": list(layer.operations), "width": layer.width}
            values |= {"stride": layer.stride, "repeats": layer.repeats}
            layers.append(values)
            if layer.own:
                values["own"] = [operation.name for operation in layer.own]
        return {"kind": "chain", "layers": layers, "filters": self.filters, "head": self.head}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ChainSpace":
        """Returns the space that `to_dict` describes.

        Raises:
            InputError: `values` has other names, or a value is wrong.
        """
        try:
            refuse_own({name for layer in values["layers"] for name in layer.get("own", ())})
            layers = tuple(Layer(**layer) for layer in values["layers"])
            return cls(layers, **{n: v for n, v in values.items() if n not in ("kind", "layers")})
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"A chain must have kind, layers, filters and head; got {short(dict(values))} "
                f"({error})."
            ) from None


@functools.cache
def _choice(name: str) -> Choice:
    return Choice((), (name,))


def digits_chain() -> ChainSpace:
    """Returns a small space: 4 layers of kernels 3, 5 and 7, or skipped; 256 nets.

    Example:

        >>> digits_chain().num_architectures
        256
    """
    return ChainSpace((Layer(("mb3k3", "mb3k5", "mb3k7", SKIP), 16, repeats=4),), filters=16)


def mobile_chain() -> ChainSpace:
    """Returns the space of ProxylessNAS (Cai et al. 2019): 21 layers with 6 or 7 options each.

    The widths are published for a stem of 32 channels and stride 2. The first layer has no choice.

    Example:

        >>> mobile_chain().num_paths
        127
    """
    menu = (*(f"mb{e}k{k}" for k in (3, 5, 7) for e in (3, 6)), SKIP)
    sizes = zip((24, 40, 80, 96, 192, 320), (2, 2, 2, 1, 2, 1), (4, 4, 4, 4, 4, 1))
    stages = [Layer(menu, width, stride, repeats) for width, stride, repeats in sizes]
    return ChainSpace((Layer(("mb1k3",), 16), *stages), filters=32, head=1280)
