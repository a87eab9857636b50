"""Convolutions as pure functions, with "same" padding. Special cases for CPUs stay in here."""

import tensorflow as tf

from oneshot_tf.devices.accelerators import accelerators

_NARROWEST = 8  # the gradient below pays from this image width on; see docs/performance.md


def convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int = 1):
    """Convolves `[B, H, W, C]` with a kernel `[h, w, C, D]`.

    Returns:
        `[B, H / stride, W / stride, D]`.
    """
    if kernel.shape[:2] == (1, 1):
        # A matrix product of the pixels that the stride keeps gives the same numbers, and it is
        # faster on CPUs. Also, oneDNN's gradient of a 1x1 kernel with a stride is wrong on some
        # CPUs (TensorFlow 2.21).
        x = x[:, ::stride, ::stride] if stride > 1 else x
        rows = tf.reshape(x, [-1, x.shape[-1]])
        y = tf.matmul(rows, kernel[0, 0])
        return tf.reshape(y, [*_sizes(x), kernel.shape[-1]])
    return tf.nn.conv2d(x, kernel, stride, "SAME")


def _sizes(x: tf.Tensor):
    dynamic = tf.shape(x)
    return [dynamic[i] if n is None else n for i, n in enumerate(x.shape[:-1])]


def depthwise_convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int = 1):
    """Convolves every channel of `[B, H, W, C]` with its own filter of `[h, w, C, 1]`."""
    height, width = kernel.shape[:2]
    wide = width in (5, 7) and height > 1 and (x.shape[2] or 0) >= _NARROWEST
    if wide and stride == 1 and not accelerators():
        return _depthwise_by_columns(x, kernel)
    return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")


@tf.custom_gradient
def _depthwise_by_columns(x: tf.Tensor, kernel: tf.Tensor):
    """Convolves depthwise. The filter gradient is put together from groups of columns.

    TensorFlow's CPU kernel for the filter gradient is slow for filters wider than 3. This way takes
    a fifth to two fifths of its time. One call gives the three middle columns. Two more calls give
    the columns to the left and to the right, from images shifted by two pixels.
    """
    y = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")

    def gradient(dy: tf.Tensor):
        dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=tf.shape(x),
            filter=kernel,
            out_backprop=dy,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        height, width = kernel.shape[:2]
        side = width // 2 - 1  # columns left and right of the three
        narrow = 2 * side - 1  # a centred filter that holds them: 1, or 3
        left = _filter_gradient(x[:, :, :-2], dy[:, :, 2:], height, narrow)
        middle = _filter_gradient(x, dy, height, 3)
        right = _filter_gradient(x[:, :, 2:], dy[:, :, :-2], height, narrow)
        return dx, tf.concat([left[:, :side], middle, right[:, -side:]], axis=1)

    return y, gradient


def _filter_gradient(x: tf.Tensor, dy: tf.Tensor, height: int, width: int):
    return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=x,
        filter_sizes=[height, width, x.shape[-1], 1],
        out_backprop=dy,
        strides=[1, 1, 1, 1],
        padding="SAME",
    )
