"""A small chain with every kind of layer, and a plainly written net of a chain."""

import numpy as np
import tensorflow as tf

from oneshot_tf.space.chain_space import ChainSpace
from oneshot_tf.space.layer import Layer

# A stride, a change of width, expansions of 1 and more, layers that skip and that cannot, a head.
MIXED = ChainSpace(
    (
        Layer(("mb1k3",), 4),
        Layer(("mb2k3", "mb1k5", "skip"), 6, stride=2, repeats=2),
        Layer(("mb3k7", "skip", "mb2k3"), 6),
    ),
    filters=4,
    head=10,
)
# 486 nets: with layers that can skip and that cannot, and one without a choice.
LONGER = ChainSpace(
    (
        Layer(("mb1k3",), 4),
        Layer(("mb2k3", "mb1k5", "skip"), 6, stride=2, repeats=3),
        Layer(("mb3k7", "skip", "mb2k3"), 6, repeats=3),
    ),
    filters=4,
)


def plain_logits(net, architecture, images):
    """The logits of a chain with the weights of a one-shot model, written without paths or masks.

    Batch norms use the statistics of the whole batch.
    """
    variables = {"/".join(v.path.split("/")[-2:]): v for v in net.variables}

    def norm(x, name, relu=True):
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        gamma = variables.get(f"{name}_bn/gamma")
        y = (x - mean) / tf.sqrt(variance + 1e-3) * (1.0 if gamma is None else gamma)
        y += variables[f"{name}_bn/beta"]
        return tf.nn.relu(y) if relu else y

    def mobile(x, name, stride):
        if f"{name}_expand/kernel" in variables:
            x = tf.nn.conv2d(x, variables[f"{name}_expand/kernel"], 1, "SAME")
            x = norm(x, f"{name}_expand")
        kernel = variables[f"{name}_depthwise/kernel"]
        x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
        x = norm(x, f"{name}_depthwise")
        x = tf.nn.conv2d(x, variables[f"{name}_project/kernel"], 1, "SAME")
        return norm(x, f"{name}_project", relu=False)

    x = tf.nn.conv2d(images, variables["stem/kernel"], net.stack.stem_stride, "SAME")
    x = norm(x, "first")
    for index, (plan, choice) in enumerate(zip(net.body.plans, architecture.blocks)):
        total = x if plan.residual else 0.0
        for name in choice.operations:
            if name != "skip":
                total = total + mobile(x, f"layer{index}_{name}", plan.stride)
        x = total
    if net.space.head:
        x = tf.nn.conv2d(x, variables["head/kernel"], 1, "SAME")
    x = tf.reduce_mean(norm(x, "last"), axis=[1, 2])
    return np.array(x @ variables["classifier/kernel"] + variables["classifier/bias"])
