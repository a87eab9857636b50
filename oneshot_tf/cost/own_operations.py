"""Costs of operations that users make of Keras layers, from their weights and their graphs."""

import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.space.own import OwnOperation

_KERNELS = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Conv3D")


def own_costs(
    operation: OwnOperation, side: int, source_width: int, width: int, stride: int
) -> tuple[int, int]:
    """Returns trainable parameters, and multiply-adds for one image.

    Multiply-adds are those of convolutions and matrix products in the graph of the layer.

    Args:
        operation: The operation.
        side: Height and width of its input.
        source_width: Channels of its input.
        width, stride: Channels and stride of its output.
    """
    return _traced(operation, side, source_width, width, stride)[:2]


def own_elements(
    operation: OwnOperation, side: int, source_width: int, width: int, stride: int
) -> int:
    """Returns how many numbers all tensors in the graph of the layer have, for one image."""
    return _traced(operation, side, source_width, width, stride)[2]


@functools.lru_cache(maxsize=256)
def _traced(
    operation: OwnOperation, side: int, source_width: int, width: int, stride: int
) -> tuple[int, int, int]:
    layer = operation.make_layer(width, stride)
    layer.build((None, None, None, source_width))
    spec = tf.TensorSpec([1, side, side, source_width])
    graph = tf.function(layer, autograph=False).get_concrete_function(spec).graph
    parameters = sum(int(np.prod(v.shape)) for v in layer.trainable_variables)
    nodes = [node for node in graph.get_operations() if node.outputs]
    elements = sum(_elements(output) for node in nodes for output in node.outputs)
    return parameters, sum(map(_products, nodes)), elements


def _elements(tensor: Any) -> int:
    shape = tensor.shape.as_list() if tensor.shape.rank is not None else [0]
    return math.prod(n or 0 for n in shape)


def _products(node: Any) -> int:
    """Returns the multiply-adds of an operation of a graph, 0 if it is not a product."""
    if node.type not in _KERNELS:
        return 0
    kernel, out = node.inputs[1].shape.as_list(), _elements(node.outputs[0])
    if node.type.startswith("Conv"):  # [h, w, in, out]
        return out * math.prod(kernel[:-1])
    if node.type.startswith("Depthwise"):  # [h, w, in, multiplier]
        return out * math.prod(kernel[:2])
    attribute = "transpose_b" if node.type == "MatMul" else "adj_y"
    return out * kernel[-1 if node.get_attr(attribute) else -2]
