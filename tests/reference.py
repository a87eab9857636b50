"""The net of one architecture, written down a second time and as plainly as can be.

One ghost batch, no masks, no layers: a block concatenates what it has chosen
and convolves it 1x1 with one kernel, as section 3.1 says. Weights are looked up
by name. Slow, and independent of `oneshot_tf.nn`.
"""

import numpy as np
import tensorflow as tf


class Reference:
    """Called with the images of one ghost batch, float32 `[B, H, W, 3]`; gives logits."""

    def __init__(self, net, architecture, num_cells):
        # Names end in the layer's and the variable's; what is before is the layers around it.
        short = {"/".join(v.path.split("/")[-2:]): v for v in net.trainable_variables}
        self.weights = {name: v.numpy() for name, v in short.items()}
        self.architecture = architecture
        self.num_cells = num_cells
        self.reducing = {num_cells // 3, 2 * num_cells // 3} - {0}

    def __call__(self, images):
        x = tf.nn.conv2d(images, self.weights["stem/kernel"], 1, "SAME")
        outputs = [x, x]
        for cell in range(self.num_cells):
            outputs.append(self.cell(cell, outputs[-2], outputs[-1]))
        x = self.bn_relu(outputs[-1], "last_bn")
        x = tf.reduce_mean(x, axis=[1, 2])
        return x @ self.weights["classifier/kernel"] + self.weights["classifier/bias"]

    def bn_relu(self, x, name):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        x = (x - mean) / tf.sqrt(variance + 1e-3) + self.weights[f"{name}/beta"]
        return tf.nn.relu(x)

    def cell(self, index, prev2, prev1):
        """Both inputs have the cell's size, or twice or four times as many rows."""
        used = {name for block in self.architecture.blocks for name in block.inputs}
        rows = prev1.shape[1] // (2 if index in self.reducing else 1)
        tensors = {}
        for name, x in (("prev2", prev2), ("prev1", prev1)):
            prefix = f"cell{index}_{name}"
            stride = x.shape[1] // rows
            if name in used and f"{prefix}_bn/beta" in self.weights:
                if index in self.reducing:
                    x = self.bn_relu(x, f"{prefix}_join_bn")
                    x = tf.nn.conv2d(x, self.weights[f"{prefix}_join/kernel"], stride, "SAME")
                elif stride > 1:
                    x = tf.nn.avg_pool2d(x, stride, stride, "VALID")
                tensors[name] = self.bn_relu(x, f"{prefix}_bn")
        blocks = []
        for number, block in enumerate(self.architecture.blocks):
            prefix = f"cell{index}_block{number}"
            chosen = tf.concat([tensors[name] for name in block.inputs], axis=-1)
            kernels = [self.weights[f"{prefix}_{name}/kernel"] for name in block.inputs]
            hidden = tf.nn.conv2d(chosen, np.concatenate(kernels, axis=2), 1, "SAME")
            blocks.append(sum(self.operation(o, hidden, f"{prefix}_{o}") for o in block.operations))
            if f"block{number}" in used:
                tensors[f"block{number}"] = self.bn_relu(
                    blocks[-1], f"cell{index}_block{number}_bn"
                )
        return tf.concat(blocks, axis=-1)

    def operation(self, name, x, prefix):
        if name == "identity":
            return x
        if name == "max3x3":
            return tf.nn.max_pool2d(x, 3, 1, "SAME")
        if name == "avg3x3":
            return tf.nn.avg_pool2d(x, 3, 1, "SAME")
        for i in range(2):
            x = self.bn_relu(x, f"{prefix}_{i}_bn")
            if name == "conv1x7_7x1":
                x = tf.nn.conv2d(x, self.weights[f"{prefix}_{i}/kernel"], 1, "SAME")
            else:
                depthwise = self.weights[f"{prefix}_{i}/depthwise"]
                x = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "SAME")
                x = tf.nn.conv2d(x, self.weights[f"{prefix}_{i}/pointwise"], 1, "SAME")
        return x
