"""Losses, as plain functions of tensors."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0):
    """Returns the softmax cross-entropy of each image in nats, float32 `[B]`.

    Args:
        labels: Int `[B]`.
        logits: Float `[B, K]`.
        label_smoothing: A number s in [0, 1). The target is 1 - s + s / K for the label and
            s / K for all other classes.
    """
    logits = tf.cast(logits, tf.float32)
    classes = logits.shape[-1]
    targets = tf.one_hot(labels, classes) * (1.0 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns a weight for each class, so that all classes count the same: float32 `[K]`.

    The weight of a class of n images is N / (K n), where N is the number of all images. Its mean
    over the images is 1. A class without images gets 0, and does not count in K.

    Example:

        >>> balanced_weights([0, 0, 0, 1], num_classes=2).tolist()
        [0.6666666865348816, 2.0]

    Args:
        labels: Int `[N]`.
        num_classes: The number of classes.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype(np.float32)


def masked_l2(kernels: Iterable[tf.Tensor], usage: tf.Tensor | None = None):
    """Returns the L2 loss of the parts in use (section 3.2, "Preventing Over-regularization").

    The loss is sum_k share_k * |w_k|^2 / 2, where share_k is the share of ghost batches that use
    kernel k. A kernel that no ghost batch uses gets exactly zero gradient.

    Example:

        >>> usage = tf.constant([[1.0, 0.0], [1.0, 1.0]])  # two ghost batches, two kernels
        >>> float(masked_l2([tf.ones([2]), tf.ones([2])], usage))
        1.5

    Args:
        kernels: K variables or tensors.
        usage: Float `[G, K]`, whether each ghost batch uses each kernel, from `Supernet.usage`.
            None counts every kernel in full.

    Returns:
        A float32 scalar.
    """
    halves = [tf.nn.l2_loss(tf.cast(w, tf.float32)) for w in kernels]
    return tf.reduce_sum(tf.stack(halves) * l2_shares(len(halves), usage))


def l2_shares(num_kernels: int, usage: tf.Tensor | None = None):
    """Returns the shares of `masked_l2`, float32 `[K]`. Its gradient is share * w."""
    return tf.ones([num_kernels]) if usage is None else tf.reduce_mean(usage, axis=0)
