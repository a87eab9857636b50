"""Baselines of a given size: a plain CNN and a small MobileNet. Their layers, counted exactly.

`nn.baselines` builds the layers that are listed here, so the plan is written once. Both baselines
have the stem stride and the reductions of the searched nets, and two blocks at each resolution:

- plain_cnn: 3x3 convolutions of widths W, W, then 2W, 2W, and so on, after a first one of width W.
- mobile_net: inverted residuals (Sandler et al. 2018) of the same widths, with a sixfold expansion
  (the first one: none), and a 1x1 convolution to four times the last width.

Each convolution has a batch norm with scale and offset. A global average and one linear layer end
both nets.
"""

import dataclasses
import functools
import re
from collections.abc import Callable

from oneshot_tf.space.stacking import Stack

LARGEST = 4096  # width
_BLOCKS = 2  # at each resolution
_EXPANSION, _HEAD = 6, 4
_TEXT = re.compile(r"([a-z_]+):([1-9]\d{0,3})", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Unit:
    """A convolution with its batch norm.

    Args:
        source: Number of input channels.
        width: Number of output channels.
        size: Height and width of the kernel.
        stride: Stride of both.
        divisor: The output has the height and width of the image divided by this, rounded up.
        depthwise: Whether each channel has a filter of its own. Then `source` equals `width`.
        relu: Whether a ReLU follows.
    """

    source: int
    width: int
    size: int
    stride: int
    divisor: int
    depthwise: bool = False
    relu: bool = True

    @property
    def weights(self) -> int:
        """Number of weights of the kernel."""
        return self.size**2 * self.width * (1 if self.depthwise else self.source)


@dataclasses.dataclass(frozen=True)
class Block:
    """Units, one after another.

    Args:
        units: The units.
        residual: Whether the block's input is added to its output.
    """

    units: tuple[Unit, ...]
    residual: bool = False


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A baseline of a given width.

    Example:

        >>> str(Baseline("plain_cnn", 24))
        'plain_cnn:24'

    Args:
        kind: A name in `BASELINES`.
        width: The width W, 1 to 4,096.
    """

    kind: str
    width: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.width}"

    def blocks(self, stack: Stack) -> tuple[Block, ...]:
        """Returns the blocks, from the stem on. Of the stack, stem and reductions matter."""
        return _blocks(self, stack.stem_stride, stack.num_reductions or 0)

    def parameters(self, stack: Stack, num_classes: int) -> int:
        """Returns the number of trained parameters."""
        blocks = self.blocks(stack)
        units = [unit for block in blocks for unit in block.units]
        features = units[-1].width
        return sum(u.weights + 2 * u.width for u in units) + (features + 1) * num_classes

    def multiply_adds(self, stack: Stack, num_classes: int, image_size: int) -> int:
        """Returns the multiply-adds of convolutions and classifier for one image."""
        units = [unit for block in self.blocks(stack) for unit in block.units]
        pixels = [(-(-image_size // unit.divisor)) ** 2 for unit in units]
        convolutions = sum(u.weights * n for u, n in zip(units, pixels))
        return convolutions + units[-1].width * num_classes


def of_text(text: str) -> Baseline | None:
    """Returns the baseline that a text names; None if it names none, as an architecture's."""
    match = _TEXT.fullmatch(text)
    if not match or match[1] not in BASELINES or int(match[2]) > LARGEST:
        return None
    return Baseline(match[1], int(match[2]))


def of_size(kind: str, parameters: int, stack: Stack, num_classes: int) -> Baseline:
    """Returns the baseline whose number of parameters is nearest to a given one.

    Args:
        kind: A name in `BASELINES`.
        parameters: The number of parameters to come near to.
        stack: The stack of the nets to compare with.
        num_classes: The number of classes.
    """
    low, high = 1, LARGEST
    while low < high:  # the smallest width with at least as many parameters
        middle = (low + high) // 2
        if Baseline(kind, middle).parameters(stack, num_classes) < parameters:
            low = middle + 1
        else:
            high = middle
    near = [Baseline(kind, width) for width in (low - 1, low) if width >= 1]
    return min(near, key=lambda b: abs(b.parameters(stack, num_classes) - parameters))


@functools.lru_cache(maxsize=64)
def _blocks(baseline: Baseline, stem_stride: int, reductions: int) -> tuple[Block, ...]:
    return BASELINES[baseline.kind](baseline.width, stem_stride, reductions)


def _stem(width: int, stride: int) -> list[Block]:
    """Returns 3x3 convolutions of a stride of 2 at most, as the stem of the searched nets has."""
    strides = {1: [1], 2: [2], 4: [2, 2]}[stride]
    sources, divisors = [3, width], [strides[0], stride]
    return [Block((Unit(*pair, 3, s, d),)) for pair, s, d in
            zip(((c, width) for c in sources), strides, divisors)]  # fmt: skip


def _plain_cnn(width: int, stem_stride: int, reductions: int) -> tuple[Block, ...]:
    blocks, divisor = _stem(width, stem_stride), stem_stride
    for stage in range(reductions + 1):
        for place in range(_BLOCKS):
            stride = 2 if stage and not place else 1
            source, divisor = blocks[-1].units[-1].width, divisor * stride
            blocks.append(Block((Unit(source, width * 2**stage, 3, stride, divisor),)))
    return tuple(blocks)


def _mobile_net(width: int, stem_stride: int, reductions: int) -> tuple[Block, ...]:
    blocks, divisor = _stem(width, stem_stride), stem_stride
    for stage in range(reductions + 1):
        for place in range(_BLOCKS):
            stride = 2 if stage and not place else 1
            source, target = blocks[-1].units[-1].width, width * 2**stage
            inside = source * (_EXPANSION if stage or place else 1)
            units = [Unit(source, inside, 1, 1, divisor)] if inside > source else []
            divisor *= stride
            units.append(Unit(inside, inside, 3, stride, divisor, depthwise=True))
            units.append(Unit(inside, target, 1, 1, divisor, relu=False))
            blocks.append(Block(tuple(units), residual=stride == 1 and source == target))
    last = blocks[-1].units[-1].width
    return (*blocks, Block((Unit(last, _HEAD * last, 1, 1, divisor),)))


# `retrain --select=NAME`. A baseline makes its blocks from its width, a stem stride and a number
# of reductions.
BASELINES: dict[str, Callable[[int, int, int], tuple[Block, ...]]] = {
    "plain_cnn": _plain_cnn,
    "mobile_net": _mobile_net,
}
