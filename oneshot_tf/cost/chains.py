"""Costs of the units of chains; see `space.chain_units` for their order."""

from typing import Any

from oneshot_tf.cost.names import size_text
from oneshot_tf.cost.own_operations import own_costs, own_elements
from oneshot_tf.space.chain_space import ChainSpace, LayerPlan
from oneshot_tf.space.chain_units import expanded, sizes
from oneshot_tf.space.stacking import Stack

STEM_NORM = True  # a batch norm follows the stem and belongs to it


def body_costs(space: ChainSpace, stack: Stack, image_size: int) -> list[tuple[int, int]]:
    """Returns parameters and multiply-adds for one image of each unit of the layers."""
    units: list[tuple[int, int]] = []
    for plan in space.plans(stack.filters, stack.stem_stride):
        before, after = _pixels(plan, image_size)
        expansions = []
        for name in plan.operations:
            if name in plan.own:
                units.append(_own(own_costs, plan, name, image_size))
                continue
            expansion, kernel = sizes(name)
            inner = expansion * plan.source_width
            weights = kernel**2 * inner + inner * plan.width
            betas = inner + 2 * plan.width  # the last batch norm has a scale
            units.append((weights + betas, weights * after))
            if expanded(name):
                weights = plan.source_width * inner
                expansions.append((weights + inner, weights * before))
        units += expansions
    if space.head:
        width, divisor = _last(space, stack)
        weights = width * features(space, stack)[0]
        units.append((weights, weights * (-(-image_size // divisor)) ** 2))
    return units


def features(space: ChainSpace, stack: Stack) -> tuple[int, int]:
    """Returns channels and divisor of the output of the last layer, or of the head."""
    width, divisor = _last(space, stack)
    return space.width_of(space.head, stack.filters) if space.head else width, divisor


def activation_bytes(space: ChainSpace, stack: Stack, image_size: int) -> int:
    """Returns an upper bound on the memory for the activations of one image, in bytes.

    It is that of the largest layer: its input and output, and all tensors inside of its widest
    operation, before and after each batch norm.
    """
    most = 0
    for plan in space.plans(stack.filters, stack.stem_stride):
        before, after = _pixels(plan, image_size)
        named = [sizes(name)[0] for name in plan.operations if name not in plan.own]
        inner = 2 * max(named, default=0) * plan.source_width * (before + after)
        inner = max(inner, *(_own(own_elements, plan, name, image_size) for name in plan.own), 0)
        inside = inner + plan.source_width * before + 4 * plan.width * after
        most = max(most, 4 * inside)
    width, divisor = features(space, stack)
    return max(most, 4 * 3 * width * (-(-image_size // divisor)) ** 2)


def body_names(space: ChainSpace, stack: Stack, image_size: int) -> list[str]:
    """Returns the name of each unit of the layers; see `cost.unit_names`."""
    names: list[str] = []
    for plan in space.plans(stack.filters, stack.stem_stride):
        side = -(-image_size // (plan.divisor // plan.stride))
        end = f"to {plan.width}" + (f" by {plan.stride}" if plan.stride > 1 else "")
        expansions = []
        for name in plan.operations:
            if name in plan.own:
                names.append(f"{name} {size_text(side, plan.source_width)} {end}")
                continue
            expansion, kernel = sizes(name)
            inner = expansion * plan.source_width
            names.append(f"mobile {kernel}x{kernel} {size_text(side, inner)} {end}")
            if expanded(name):
                expansions.append(f"expansion {size_text(side, plan.source_width)} to {inner}")
        names += expansions
    if space.head:
        width, divisor = _last(space, stack)
        size = size_text(-(-image_size // divisor), width)
        names.append(f"head {size} to {features(space, stack)[0]}")
    return names


def _own(function: Any, plan: LayerPlan, name: str, image_size: int) -> Any:
    """Calls a function of `cost.own_operations` for an operation of a layer."""
    side = -(-image_size // (plan.divisor // plan.stride))
    return function(plan.own[name], side, plan.source_width, plan.width, plan.stride)


def _pixels(plan: LayerPlan, image_size: int) -> tuple[int, int]:
    """Returns the numbers of pixels of a layer's input and output."""
    return tuple(  # type: ignore[return-value]
        (-(-image_size // divisor)) ** 2 for divisor in (plan.divisor // plan.stride, plan.divisor)
    )


def _last(space: ChainSpace, stack: Stack) -> tuple[int, int]:
    last = space.plans(stack.filters, stack.stem_stride)[-1]
    return last.width, last.divisor
