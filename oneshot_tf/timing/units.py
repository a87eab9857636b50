"""The units of a net as functions of their own, so that each can be timed alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from oneshot_tf.cost.unit_names import unit_names
from oneshot_tf.nn.operations import Stage, bn_relu_stages, pooling, run_stages
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.space.stacking import CellPlan

_CONTEXT: dict[str, Any] = {"num_ghosts": 1, "training": False, "micro_batch": (0, 1)}


@dataclasses.dataclass(frozen=True)
class Unit:
    """A kind of unit of a net; see `cost.unit_names`.

    Args:
        name: Its name.
        shape: Height, width and channels of its input.
        function: Maps float32 `[N, *shape]` to its output.
    """

    name: str
    shape: tuple[int, int, int]
    function: Callable[[tf.Tensor], tf.Tensor]


def units_of(net: Standalone, image_size: int) -> list[Unit]:
    """Returns the units of a net, one for each name.

    Args:
        net: The stand-alone model of All On, which has every unit.
        image_size: Height and width of the images.
    """
    plans = net.stack.plans(net.space)
    parts = []
    for cell, plan in zip(net.cells, plans):
        parts += _of_cell(cell, plan, image_size)
    last = -(-image_size // plans[-1].divisor)
    parts.append(((image_size, image_size, 3), functools.partial(_stem, net)))
    features = net.space.num_blocks * plans[-1].width
    parts.append(((last, last, features), functools.partial(_classify, net)))
    names = unit_names(net.space, net.stack, image_size)
    units: dict[str, Unit] = {}
    for name, part in zip(names, parts, strict=True):
        units.setdefault(name, Unit(name, *part))
    return list(units.values())


def _of_cell(cell: Any, plan: CellPlan, image_size: int) -> list[tuple]:
    """Returns the input shape and the function of each unit of a cell."""
    space, widths = cell.space, cell.read_widths
    side = -(-image_size // plan.divisor)
    parts: list[tuple] = []
    for block in range(space.num_blocks):
        paths = [*zip(widths, space.input_paths(block))]
        paths += [(plan.width, path) for path in space.operation_paths(block)]
        for channels, path in paths:
            # `call` reads the weights each time, as a whole net does.
            function = functools.partial(cell.path_layers[path].call, **_CONTEXT)
            parts.append(((side, side, channels), function))
    return [*parts, *(_read(cell, plan, i, image_size) for i in range(len(widths)))]


def _read(cell: Any, plan: CellPlan, index: int, image_size: int) -> tuple:
    """Returns the unit that makes a tensor ready for the blocks: its join, batch norm and ReLU."""
    side, channels, stride, join = -(-image_size // plan.divisor), cell.read_widths[index], 1, None
    if index < 2:
        outer, join = plan.inputs[index], cell.joins[index]
        side = -(-image_size // (plan.divisor // outer.stride))
        channels, stride = outer.source_width, outer.stride

    def read(x: tf.Tensor) -> tf.Tensor:
        stages: list[Stage] = []
        if join is not None:
            stages = join.stages(**_CONTEXT)
        elif stride > 1:
            stages = [Stage(pooling("AVG", stride, stride))]
        return run_stages([*stages, *bn_relu_stages(cell.norms[index], **_CONTEXT)], x)

    return (side, side, channels), read


def _stem(net: Any, x: tf.Tensor) -> tf.Tensor:
    return net.stem(x, **_CONTEXT)


def _classify(net: Standalone, x: tf.Tensor) -> tf.Tensor:
    x = tf.nn.relu(net.last_norm(x, **_CONTEXT))
    return tf.nn.softmax(net.classifier(tf.reduce_mean(x, axis=[1, 2])))
