"""The units of a net as functions of their own, so that each can be timed alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from oneshot_tf.cost import bodies
from oneshot_tf.cost.unit_names import unit_names
from oneshot_tf.nn.mobile import MobileConv
from oneshot_tf.nn.operations import Stage, bn_relu_stages, pooling, run_stages
from oneshot_tf.nn.own_operations import OwnLayer
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.chain_space import ChainSpace
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
    parts = _PARTS[type(net.space)](net, image_size)
    parts.append(((image_size, image_size, 3), functools.partial(_stem, net)))
    features, divisor = bodies.of(net.space).features(net.space, net.stack)
    last = -(-image_size // divisor)
    parts.append(((last, last, features), functools.partial(_classify, net)))
    names = unit_names(net.space, net.stack, image_size)
    units: dict[str, Unit] = {}
    for name, part in zip(names, parts, strict=True):
        units.setdefault(name, Unit(name, *part))
    return list(units.values())


def _of_cells(net: Standalone, image_size: int) -> list[tuple]:
    """Returns the input shape and the function of each unit of the cells."""
    pairs = zip(net.body.layers, net.stack.plans(net.space))  # type: ignore[arg-type]
    return [part for cell, plan in pairs for part in _of_cell(cell, plan, image_size)]


def _of_chain(net: Standalone, image_size: int) -> list[tuple]:
    """Returns the input shape and the function of each unit of the layers, and of the head."""
    parts: list[tuple] = []
    for layer in net.body.chain:
        plan = layer.plan
        side = -(-image_size // (plan.divisor // plan.stride))
        expansions = []
        for operation in layer.operations:
            if isinstance(operation, OwnLayer):
                function = functools.partial(operation.call, **_CONTEXT)
                parts.append(((side, side, plan.source_width), function))
                continue
            inner = operation.expansion * plan.source_width
            parts.append(((side, side, inner), functools.partial(_mobile, operation, False)))
            if operation.expand is not None:
                function = functools.partial(_mobile, operation, True)
                expansions.append(((side, side, plan.source_width), function))
        parts += expansions
    if net.body.head is not None:
        last = -(-image_size // plan.divisor)
        parts.append(((last, last, plan.width), net.body.head))
    return parts


def _mobile(operation: MobileConv, expansion: bool, x: tf.Tensor) -> tf.Tensor:
    """Runs the expansion of an operation, or the rest of it."""
    stages = operation.stages(**_CONTEXT)
    count = 0 if operation.expand is None else 2  # the expansion, and BN-ReLU
    return run_stages(stages[:count] if expansion else stages[count:], x)


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
    return net.body.begin(net.stem(x, **_CONTEXT), _CONTEXT)


def _classify(net: Standalone, x: tf.Tensor) -> tf.Tensor:
    x = tf.nn.relu(net.last_norm(x, **_CONTEXT))
    return tf.nn.softmax(net.classifier(tf.reduce_mean(x, axis=[1, 2])))


_PARTS: dict[type, Callable[[Standalone, int], list[tuple]]] = {
    CellSpace: _of_cells,
    ChainSpace: _of_chain,
}
