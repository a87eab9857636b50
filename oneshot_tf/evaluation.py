"""How good: one score for each architecture, or for one stand-alone net.

Three accuracies are kept apart everywhere: *all-on* (the one-shot model with
every path), *candidate* (shared weights under an architecture's masks) and
*stand-alone* (a net trained from scratch).
"""

import dataclasses

import numpy as np
import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.learning.losses import cross_entropy

_GHOSTS_PER_CALL = 8
_STANDALONE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Score:
    """What was measured on how many images.

    Args:
        accuracy: share of images classified rightly, in [0, 1].
        cross_entropy: mean over the images, in nats.
        num_images: how many.
    """

    accuracy: float
    cross_entropy: float
    num_images: int


class CandidateEvaluator:
    """Scores architectures with the shared weights (section 3.3): `evaluator(architecture)`.

    The images are cut, in their order, into ghost batches whose statistics are
    computed on the fly (section 3.2). The last ghost batch is filled up with
    images from the beginning, which serve its statistics and aren't counted. So
    every image is counted once, and a score doesn't depend on what else is evaluated.

    Args:
        supernet: a trained `Supernet`.
        split: the images, a `Split`.
        normalize: makes float images of uint8 images, such as `dataset.normalize`.
        ghost_batch_size: images a ghost batch; best that of training.
    """

    def __init__(self, supernet, split, normalize, ghost_batch_size: int = 32):
        if len(split) == 0 or ghost_batch_size < 1:
            raise InputError(
                f"{len(split)} images in ghost batches of {ghost_batch_size}; needed is at least 1."
            )
        self.space = supernet.space
        self.num_images = len(split)
        self._ghosts = min(_GHOSTS_PER_CALL, -(-len(split) // ghost_batch_size))
        size = self._ghosts * ghost_batch_size
        self._parts = []
        for start in range(0, len(split), size):
            rows = np.arange(start, start + size)
            counted = (rows < len(split)).astype(np.float32)
            part = split.take(rows % len(split))
            self._parts.append(
                (normalize(part.images), tf.constant(part.labels), tf.constant(counted))
            )

        @tf.function
        def sums(images, labels, counted, masks):
            logits = supernet(images, masks, training=False)
            hits = tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), labels), tf.float32)
            losses = cross_entropy(labels, logits)
            return tf.stack([tf.reduce_sum(hits * counted), tf.reduce_sum(losses * counted)])

        self._sums = sums

    def __call__(self, architecture) -> Score:
        mask = self.space.masks([architecture])
        masks = tf.constant(np.repeat(mask, self._ghosts, axis=0))
        total = np.zeros(2)
        for images, labels, counted in self._parts:
            total += self._sums(images, labels, counted, masks).numpy()
        accuracy, entropy = total / self.num_images
        return Score(float(accuracy), float(entropy), self.num_images)


def evaluate(supernet, architectures, dataset, ghost_batch_size: int = 32) -> list[Score]:
    """Scores architectures with the shared weights on the validation images.

    Args:
        supernet: a trained `Supernet`.
        architectures: of its space; All On too.
        dataset: a `Dataset`.
        ghost_batch_size: images that share batch statistics.

    Returns:
        A `Score` for each, in order.
    """
    evaluator = CandidateEvaluator(
        supernet, dataset.validation, dataset.normalize, ghost_batch_size
    )
    return [evaluator(architecture) for architecture in architectures]


def evaluate_standalone(net, split, normalize) -> Score:
    """Scores a stand-alone net with its moving averages.

    Args:
        net: a trained `Standalone`.
        split: the images, a `Split`.
        normalize: makes float images of uint8 images, such as `dataset.normalize`.
    """
    size = split.images.shape[1]
    # One graph for any number of images.
    forward = tf.function(lambda images: net(images, training=False)).get_concrete_function(
        tf.TensorSpec([None, size, size, 3], tf.float32)
    )
    hits = entropy = 0.0
    for start in range(0, len(split), _STANDALONE_BATCH):
        part = split.take(slice(start, start + _STANDALONE_BATCH))
        logits = forward(normalize(part.images))
        hits += int(np.sum(np.argmax(logits.numpy(), axis=1) == part.labels))
        entropy += float(tf.reduce_sum(cross_entropy(part.labels, logits)))
    return Score(hits / len(split), entropy / len(split), len(split))
