"""The weights of a chain that are in use. A unit is a set of weights used as a whole."""

from typing import Any

from oneshot_tf.space.chain_space import ChainSpace
from oneshot_tf.space.layer import MOBILE

# The units of a chain, in order: for each layer its k paths, then the expansions of those that
# have one; then the head, if there is one, the stem and the classifier.


def expanded(name: str) -> bool:
    """Returns whether an operation begins with a 1x1 convolution that widens its input."""
    match = MOBILE.fullmatch(name)
    return match is not None and match.group(1) != "1"


def sizes(name: str) -> tuple[int, int]:
    """Returns expansion and kernel size of an inverted bottleneck.

    Example:

        >>> sizes("mb3k5")
        (3, 5)
    """
    match = MOBILE.fullmatch(name)
    assert match is not None, name
    return int(match.group(1)), int(match.group(2))


def num_units(space: ChainSpace, num_cells: int) -> int:
    """Returns the number of columns of `unit_usage`. A chain has no cells."""
    del num_cells
    plans = space.plans(space.filters)
    layers = sum(len(p.operations) + sum(map(expanded, p.operations)) for p in plans)
    return layers + (3 if space.head else 2)


def unit_usage(space: ChainSpace, num_cells: int, used: Any) -> list[Any]:
    """Returns the weights that rows of masks use, as a list of arrays to concatenate on axis 1.

    A weight is in use if the loss depends on it. Members of a space use all weights of their paths.
    Other masks can drop all operations of a layer without a residual connection. Its output is then
    zero:

    - Nothing before this layer is in use.
    - The tensor is *constant*: one value per channel at all pixels of all images. An expansion or a
      head that reads it gives constants, which the next batch norm removes. A depthwise convolution
      pads its input with zeros, so its output varies towards the border, unless the constant is
      zero.

    The code uses only `*`, `-` and slices, so it takes both NumPy arrays and tensors.

    Args:
        space: The search space of the masks.
        num_cells: Unused; a chain has no cells.
        used: `[A, P]` of 0.0 and 1.0.

    Returns:
        Arrays `[A, n]` of 0.0 and 1.0 whose widths add up to `num_units`.
    """
    del num_cells
    plans = space.plans(space.filters)
    one = used[:, :1] * 0.0 + 1.0
    columns = [[used[:, path : path + 1] for path in plan.paths] for plan in plans]
    kept = [_any(layer) for layer in columns]  # whether a layer has an operation
    alive = [one]  # from the end: whether the loss depends on the output of each layer
    for plan, on in zip(reversed(plans), reversed(kept)):
        alive.append(alive[-1] if plan.residual else alive[-1] * on)
    alive.reverse()
    units: list[Any] = []
    varies, zero = one, one * 0.0  # the layer's input
    for plan, layer, on, lives in zip(plans, columns, kept, alive[1:]):
        pairs = list(zip(layer, plan.operations))
        # Bottlenecks without an expansion make zeros of zeros. Own operations count as in use.
        plain = [not expanded(name) and name not in plan.own for name in plan.operations]
        vary = [path * (1.0 - zero) if is_plain else path for path, is_plain in zip(layer, plain)]
        units += [path * lives for path in vary]
        units += [path * lives * varies for path, name in pairs if expanded(name)]
        varies = _any([*vary, varies] if plan.residual else vary)
        zero = (1.0 - on) * (zero if plan.residual else 1.0)
    if space.head:
        units.append(varies)
    return [*units, alive[0], one]


def _any(columns: Any) -> Any:
    none = 1.0
    for column in columns:
        none = none * (1.0 - column)
    return 1.0 - none
