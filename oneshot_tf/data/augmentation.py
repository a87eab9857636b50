"""Normalizes and augments batches of images.

To add an augmentation, write a function with the signature of `Augmentation`, and one entry in
AUGMENTATIONS.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_AUGMENTATION_STREAM = 1  # folded into the seed, so that path dropout draws other numbers


def normalize(
    images: np.ndarray | tf.Tensor, mean: np.ndarray | tf.Tensor, std: np.ndarray | tf.Tensor
) -> tf.Tensor:
    """Computes (images / 255 - mean) / std.

    Args:
        images: Uint8 `[B, H, W, 3]`.
        mean: Float32 `[3]`, of images in [0, 1].
        std: Float32 `[3]`, of images in [0, 1].

    Returns:
        Float32 `[B, H, W, 3]`.
    """
    return (tf.cast(images, tf.float32) / 255.0 - mean) / std


def augment(
    images: np.ndarray | tf.Tensor,
    first: int | tf.Tensor,
    batch_size: int,
    *,
    flip: bool,
    seed: int | tf.Tensor,
    step: int | tf.Tensor,
) -> tf.Tensor:
    """Shifts each image by up to an eighth of its size, padding with zeros, and mirrors half.

    The draws are for the whole global batch and depend only on (seed, step). The result does not
    depend on how the batch is distributed over devices.

    Args:
        images: Uint8 `[b, H, W, 3]`, rows `first` to `first + b` of the global batch.
        first: First row, int or int32 `[]`.
        batch_size: Size of the global batch.
        flip: Whether to mirror images.
        seed: Random seed.
        step: Training step.

    Returns:
        Uint8 `[b, H, W, 3]`.
    """
    count, height, width = images.shape[:3]
    pad = max(1, height // 8)
    draws = _draws(batch_size, 3, 2 * (2 * pad + 1), seed, step)
    draws = tf.slice(draws, [first, 0], [count, 3])
    shifts = draws % (2 * pad + 1)
    rows = shifts[:, :1] + tf.range(height)
    columns = tf.broadcast_to(tf.range(width), [count, width])
    if flip:
        mirrored = draws[:, 2:] > 2 * pad
        columns = tf.where(mirrored, width - 1 - columns, columns)
    columns = shifts[:, 1:2] + columns
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    padded = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(padded, columns, axis=2, batch_dims=1)


def mirror(
    images: np.ndarray | tf.Tensor,
    first: int | tf.Tensor,
    batch_size: int,
    *,
    seed: int | tf.Tensor,
    step: int | tf.Tensor,
) -> tf.Tensor:
    """Mirrors half of the images. The arguments are those of `augment`."""
    draws = _draws(batch_size, 1, 2, seed, step)
    mirrored = tf.slice(draws, [first, 0], [images.shape[0], 1])[:, :, None, None] > 0
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images)


def _draws(
    batch_size: int, columns: int, below: int, seed: int | tf.Tensor, step: int | tf.Tensor
) -> tf.Tensor:
    """Returns int32 `[batch_size, columns]`, from 0 to `below` - 1, by (seed, step)."""
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)])
    key = tf.random.experimental.stateless_fold_in(key, _AUGMENTATION_STREAM)
    return tf.random.stateless_uniform(
        [batch_size, columns], seed=key, minval=0, maxval=below, dtype=tf.int32
    )


def unchanged(
    images: tf.Tensor,
    first: int | tf.Tensor,
    batch_size: int,
    *,
    seed: int | tf.Tensor,
    step: int | tf.Tensor,
) -> tf.Tensor:
    """Returns the images unchanged. The arguments are those of `augment`."""
    return images


# Called as `augmentation(images, first, batch_size, seed=…, step=…)`, like `augment`.
Augmentation = Callable[..., tf.Tensor]

# The names of `train --augmentation=NAME`. For "inception", decoding crops the images.
AUGMENTATIONS: dict[str, Augmentation] = {
    "crop_flip": functools.partial(augment, flip=True),
    "crop": functools.partial(augment, flip=False),
    "flip": mirror,
    "inception": unchanged,
    "none": unchanged,
}
