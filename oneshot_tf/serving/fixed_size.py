"""Resizes images of one known size with two constant matrices.

`data.images.resize` becomes the operation ScaleAndTranslate, which only TensorFlow has. Resizing is
linear, and independent in height and width. So for images of one known size it is a product with
one matrix from the left and with one from the right, which every converter knows.
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
    images = images[:, top : top + height, left : left + width]
    with tf.init_scope():  # the matrices become constants of the graph that calls this function
        rows, columns = resize_matrix(height, size), resize_matrix(width, size)
    images = tf.matmul(tf.constant(rows), tf.reshape(images, [-1, height, width * 3]))
    images = tf.matmul(tf.constant(columns), tf.reshape(images, [-1, width, 3]))
    images = tf.reshape(images, [-1, size, size, 3])
    return tf.clip_by_value(tf.round(images), 0.0, 255.0)
