"""Costs of the units of cells; see `space.stacking` for their order."""

from oneshot_tf.cost.names import size_text
from oneshot_tf.cost.own_operations import own_costs, own_elements
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import CellPlan, Stack, num_reads

STEM_NORM = False  # the batch norms of the stem's output belong to the cells that read it
_SEPARABLE = {"sep3x3": 3, "sep5x5": 5, "sep7x7": 7}


def body_costs(space: CellSpace, stack: Stack, image_size: int) -> list[tuple[int, int]]:
    """Returns parameters and multiply-adds for one image of each unit of the cells."""
    units = []
    for cell in stack.plans(space):
        width = cell.width
        pixels = (-(-image_size // cell.divisor)) ** 2
        read_widths = [i.width for i in cell.inputs] + [width] * (num_reads(space) - 2)
        side = -(-image_size // cell.divisor)
        own = {o.name: own_costs(o, side, width, width, 1) for o in space.own}
        for block in range(space.num_blocks):
            for read_width in read_widths[: 2 + block]:
                units.append((read_width * width, read_width * width * pixels))
            for name in space.operations:
                if name in own:
                    units.append(own[name])
                    continue
                weights, betas = _operation(name, width)
                units.append((weights + betas, weights * pixels))
        for i, read_width in enumerate(read_widths):
            weights = betas = 0
            if i < 2 and cell.inputs[i].convolved:
                betas = cell.inputs[i].source_width
                weights = betas * width
            units.append((weights + betas + read_width, weights * pixels))
    return units


def features(space: CellSpace, stack: Stack) -> tuple[int, int]:
    """Returns channels and divisor of the last cell's output."""
    last = stack.plans(space)[-1]
    return space.num_blocks * last.width, last.divisor


def _operation(name: str, width: int) -> tuple[int, int]:
    """Returns convolution weights and batch norms' betas of an operation on `width` channels."""
    if name in _SEPARABLE:
        return 2 * (_SEPARABLE[name] ** 2 * width + width**2), 2 * width
    if name == "conv1x7_7x1":
        return 14 * width**2, 2 * width
    return 0, 0


def activation_bytes(space: CellSpace, stack: Stack, image_size: int) -> int:
    """Returns an upper bound on the memory for the activations of one image, in bytes.

    It is that of the largest cell at its widest moment: both inputs, the tensors read from them,
    everything inside the cell, and its output twice (the blocks and their concatenation).
    """
    most = 0
    for plan in stack.plans(space):
        outer = sum(i.source_width * i.stride**2 * 2 + i.width for i in plan.inputs)
        inner = (3 * space.num_blocks + 4) * plan.width
        size = -(-image_size // plan.divisor)
        own = [own_elements(o, size, plan.width, plan.width, 1) for o in space.own]
        most = max(most, 4 * (size * size * (outer + inner) + max(own, default=0)))
    return most


def body_names(space: CellSpace, stack: Stack, image_size: int) -> list[str]:
    """Returns the name of each unit of the cells; see `cost.unit_names`."""
    plans = stack.plans(space)
    return [name for plan in plans for name in _of_cell(space, plan, image_size)]


def _of_cell(space: CellSpace, plan: CellPlan, image_size: int) -> list[str]:
    side, width = -(-image_size // plan.divisor), plan.width
    widths = [i.width for i in plan.inputs] + [width] * (space.num_blocks - 1)
    names = []
    for block in range(space.num_blocks):
        names += [f"input {size_text(side, w)} to {width}" for w in widths[: 2 + block]]
        names += [f"{operation} {size_text(side, width)}" for operation in space.operations]
    for index, channels in enumerate(widths):
        kind, size = "read", size_text(side, channels)
        if index < 2 and (plan.inputs[index].convolved or plan.inputs[index].stride > 1):
            outer = plan.inputs[index]
            before = -(-image_size // (plan.divisor // outer.stride))
            kind = "join" if outer.convolved else "pooled read"
            size = f"{size_text(before, outer.source_width)} to {size}"
        names.append(f"{kind} {size}")
    return names
