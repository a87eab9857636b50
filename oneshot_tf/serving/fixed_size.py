"""Resizes images of one known size with two constant matrices.

`data.images.resize` becomes the operation ScaleAndTranslate, which only TensorFlow has. Resizing is
linear, and independent in height and width. So for images of one known size it is two products with
constant matrices, which every converter knows.
"""

import numpy as np
import tensorflow as tf


def resize_matrix(length: int, size: int) -> np.ndarray:
    """Returns the matrix of `tf.image.resize` with antialiasing in one dimension.

    Args:
        length: Number of pixels of the image in this dimension.
        size: Number of pixels of the result.

    Returns:
        Float32 `[size, length]`. Every row sums to 1, except for rounding.
    """
    columns = tf.eye(length)[..., tf.newaxis]  # column i is an image that is 1 in row i only
    return tf.image.resize(columns, (size, length), antialias=True)[..., 0].numpy()


def cropped(height: int, width: int, fit: str) -> tuple[int, int, int, int]:
    """Returns the part that `data.images.resize` takes of an image: top, left, height, width."""
    if fit != "center":
        return 0, 0, height, width
    side = max(min(height, width) * 7 // 8, 1)
    return (height - side) // 2, (width - side) // 2, side, side


def resize_fixed(images: tf.Tensor, size: int, fit: str) -> tf.Tensor:
    """Resizes images as `data.images.resize` does. Their height and width must be known.

    Before rounding, a value differs from that of `data.images.resize` by at most 1e-4 of the 255.
    So a rounded value may differ by 1, but only where the exact one is halfway between two whole
    numbers.

    Args:
        images: Float32 `[N, h, w, 3]`, from 0 to 255.
        size: Height and width of the result in pixels.
        fit: "stretch" or "center".

    Returns:
        Float32 `[N, size, size, 3]`: whole numbers from 0 to 255.
    """
    top, left, height, width = cropped(images.shape[1], images.shape[2], fit)
    images = multiplied(images[:, top : top + height, left : left + width], size)
    return tf.clip_by_value(tf.round(images), 0.0, 255.0)


def multiplied(images: tf.Tensor, size: int) -> tf.Tensor:
    """Returns `tf.image.resize` of images with antialiasing, as products with two matrices.

    Args:
        images: Float32 `[N, h, w, 3]`. Height and width must be known.
        size: Height and width of the result in pixels.

    Returns:
        Float32 `[N, size, size, 3]`.
    """
    height, width = images.shape[1:3]
    with tf.init_scope():  # the matrices become constants of the graph that calls this function
        rows, columns = resize_matrix(height, size), resize_matrix(width, size)
    # The matrices come second in products of two dimensions: fully connected layers, which every
    # runtime has. With matrices from the left, quantised to 8 bits, the interpreter in TensorFlow
    # 2.21 gave wrong answers.
    channels = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, width])
    narrow = tf.reshape(tf.matmul(channels, tf.constant(columns.T)), [-1, 3, height, size])
    turned = tf.reshape(tf.transpose(narrow, [0, 1, 3, 2]), [-1, height])
    small = tf.reshape(tf.matmul(turned, tf.constant(rows.T)), [-1, 3, size, size])
    return tf.transpose(small, [0, 3, 2, 1])
