"""Scores architectures with shared weights, and stand-alone models with their own.

Three accuracies have different names everywhere. The *all-on accuracy* is that of the one-shot
model with every path on. A *candidate accuracy* is that of the shared weights under the masks of
an architecture. A *stand-alone accuracy* is that of a model trained from scratch.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from oneshot_tf.cost import counts
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.devices.accelerators import accelerators
from oneshot_tf.evaluation.forward import NotFinite, check_finite, log_probabilities
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError

_CPU_ELEMENTS = 2**19  # per call, in the blocks of the first cell; see docs/performance.md
_ACCELERATOR_IMAGES = 1024
_STANDALONE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Score:
    """The accuracy and cross-entropy of one model on some images.

    Example:

        >>> Score(accuracy=0.5, cross_entropy=1.0, num_images=100).accuracy
        0.5

    Args:
        accuracy: The share of images classified correctly, in [0, 1].
        cross_entropy: The mean cross-entropy over the images, in nats.
        num_images: The number of images.
        balanced_accuracy: The mean over the classes of the share of their images classified
            correctly (classes without images left out). None if not measured.
    """

    accuracy: float
    cross_entropy: float
    num_images: int
    balanced_accuracy: float | None = None


class Answers(NamedTuple):
    """What a stand-alone model answered for N images.

    labels, predicted: Int32 `[N]`, the right and the predicted classes.
    probability, of_label: Float32 `[N]`, the probabilities of the predicted and right classes.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    of_label: np.ndarray


class CandidateEvaluator:
    """Callable: `scores = evaluator(architectures)`, with the shared weights (section 3.3).

    The images are cut, in their order, into ghost batches, and batch statistics are computed on
    the fly (section 3.2). Images from the beginning fill the last ghost batch. They count for its
    statistics, but not for the score. So every image is counted once, and a score does not depend
    on other architectures.

    A call of the graph takes one *chunk* of the images, a few ghost batches, through many
    architectures. Images are decoded and normalised, and the stem is computed, once for all
    architectures. Each architecture skips the paths that it does not use. A few architectures are
    computed at the same time. Memory grows with the size of a chunk and with this number, not with
    the number of all architectures.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> evaluator = CandidateEvaluator(supernet, digits.validation, digits.normalize)
        >>> len(evaluator(RandomSearch(space).propose(3)))
        3

    Args:
        supernet: A trained `Supernet`.
        split: The images, a `Split`.
        normalize: Converts uint8 images to float images, for example `dataset.normalize`.
        ghost_batch_size: Images in a ghost batch. The size used in training is best.
        max_memory_gb: The most memory for activations, in 10^9 bytes. None allows half of the
            free memory.
        largest_chunk: The most images in a chunk, though a chunk has at least one ghost batch.
            None chooses the fastest size.

    Attributes:
        num_images: The number of images.
        chunk_size: Images in a chunk. The last chunk may have fewer images that count.

    Raises:
        InputError: There are no images, or one ghost batch does not fit into memory.
    """

    def __init__(
        self,
        supernet: Supernet,
        split: Any,
        normalize: Callable[[tf.Tensor], tf.Tensor],
        ghost_batch_size: int = 32,
        max_memory_gb: float | None = None,
        largest_chunk: int | None = None,
    ):
        if len(split) == 0 or ghost_batch_size < 1:
            raise InputError(
                f"There must be at least 1 image and ghost_batch_size must be at least 1; got "
                f"{len(split)} and {ghost_batch_size}."
            )
        self.space = supernet.space
        self.num_images = len(split)
        ghosts, in_flight = plan_chunks(supernet, split, ghost_batch_size, max_memory_gb)
        if largest_chunk is not None:
            ghosts = min(ghosts, max(1, largest_chunk // ghost_batch_size))
        size = ghosts * ghost_batch_size
        self._split, self.chunk_size = split.in_memory(), size
        self._starts = range(0, len(split), size)
        self._log_probabilities = log_probabilities(
            supernet, normalize, size, split.image_size, ghosts, in_flight
        )

    @property
    def num_chunks(self) -> int:
        """The number of chunks that the images are cut into."""
        return len(self._starts)

    def outcomes(
        self, architectures: Sequence[Architecture], chunks: Iterable[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classifies images with each architecture.

        Args:
            architectures: The A architectures.
            chunks: The indices of the chunks to classify, in order. None takes all chunks.

        Returns:
            For the n images of the chunks: whether each image is classified correctly, bool
            `[A, n]`, and its cross-entropy in nats, float32 `[A, n]`.

        Raises:
            NotFinite: A cross-entropy is not finite.
        """
        architectures = list(architectures)
        hits, losses = self.outcomes_of(self.space.masks(architectures), chunks)
        check_finite(losses, architectures, "cross-entropy")
        return hits, losses

    def outcomes_of(
        self, masks: np.ndarray, chunks: Iterable[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classifies images with masks `[A, P]`, which may be mixtures. The rest is `outcomes`.

        Cross-entropies may be infinite or not a number.
        """
        masks = tf.constant(masks, tf.float32)
        hits, losses = [], []
        for chunk in range(self.num_chunks) if chunks is None else chunks:
            rows = np.arange(self._starts[chunk], self._starts[chunk] + self.chunk_size)
            images = self._split.take(rows % self.num_images)
            outcome = self._log_probabilities(tf.constant(images.images), masks).numpy()
            counted = rows < self.num_images  # the others only fill the last ghost batch
            outcome, labels = outcome[:, counted], images.labels[counted]
            hits.append(np.argmax(outcome, axis=2) == labels)
            losses.append(-outcome[:, np.arange(len(labels)), labels])
        return np.concatenate(hits, axis=1), np.concatenate(losses, axis=1)

    def __call__(self, architectures: Sequence[Architecture]) -> list[Score]:
        """Returns the `Score` of each architecture on all images."""
        hits, losses = self.outcomes(architectures)
        return [
            Score(float(h.mean()), float(entropy.mean(dtype=np.float64)), self.num_images)
            for h, entropy in zip(hits, losses)
        ]


def plan_chunks(
    supernet: Supernet, split: Any, ghost_batch_size: int, max_memory_gb: float | None = None
) -> tuple[int, int]:
    """Returns how many ghost batches a call takes, and how many architectures run at once.

    A CPU is fastest if the activations of a call fit into its caches and each thread computes an
    architecture of its own. An accelerator is fastest with large calls, one after another. Both
    numbers are reduced to what fits into `max_memory_gb`.

    Raises:
        InputError: One ghost batch does not fit into memory.
    """
    size = split.image_size
    stack = supernet.stack
    ghost = ghost_batch_size * counts.activation_bytes(supernet.space, stack, size)
    if accelerators():
        ghosts, in_flight = _ACCELERATOR_IMAGES // ghost_batch_size, 1
    else:
        inside = -(-size // stack.stem_stride)
        ghosts = _CPU_ELEMENTS // (ghost_batch_size * inside * inside * stack.filters)
        in_flight = os.cpu_count() or 1
    ghosts = max(1, min(ghosts, -(-len(split) // ghost_batch_size)))
    if max_memory_gb is None:
        max_memory_gb = psutil.virtual_memory().available / 2e9
    fitting = int(max_memory_gb * 1e9 // ghost)  # ghost batches in memory at the same time
    if fitting < 1:
        raise InputError(
            f"--max_memory_gb={max_memory_gb:.3g} is too little: a ghost batch of "
            f"{ghost_batch_size} images of {size}x{size} pixels needs about {ghost / 1e9:.2g} GB. "
            "Give more memory, or train a smaller one-shot model."
        )
    ghosts = min(ghosts, fitting)
    return ghosts, max(1, min(in_flight, fitting // ghosts))


def evaluate(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    dataset: Dataset,
    ghost_batch_size: int = 32,
    max_memory_gb: float | None = None,
) -> list[Score]:
    """Scores architectures with the shared weights on the validation images.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> scores = evaluate(supernet, RandomSearch(space).propose(2), digits)
        >>> scores[0].num_images
        100

    Args:
        supernet: A trained `Supernet`.
        architectures: Architectures of its search space. All On is allowed.
        dataset: A `Dataset`.
        ghost_batch_size: Images that share batch statistics.
        max_memory_gb: The most memory for activations, in 10^9 bytes. None allows half of the
            free memory.

    Returns:
        The `Score` of each architecture, in their order.
    """
    evaluator = CandidateEvaluator(
        supernet, dataset.validation, dataset.normalize, ghost_batch_size, max_memory_gb
    )
    return evaluator(list(architectures))


def evaluate_standalone(net: Any, split: Any, normalize: Callable[[tf.Tensor], tf.Tensor]) -> Score:
    """Scores a stand-alone model or a baseline with its moving averages, in float32.

    The exported model computes in float32, too, whatever precision was used in training.

    Example:

        >>> cell = Architecture.from_text("prev1:max3x3")
        >>> net = Standalone(bender2018(num_blocks=1), cell, Stack(1, 4), num_classes=10)
        >>> evaluate_standalone(net, digits.validation, digits.normalize).num_images
        100

    Args:
        net: A trained `Standalone` or `BaselineModel`.
        split: The images, a `Split`.
        normalize: Converts uint8 images to float images, for example `dataset.normalize`.

    Raises:
        NotFinite: The cross-entropy is not finite.
    """
    return score_and_answers(net, split, normalize)[0]


def score_and_answers(
    net: Any, split: Any, normalize: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[Score, Answers]:
    """Scores a model as `evaluate_standalone` does, and returns its answers for all images too."""
    split, size, net = split.in_memory(), split.image_size, _in_float32(net)
    # One graph for any number of images.
    forward = tf.function(lambda images: net(images, training=False)).get_concrete_function(
        tf.TensorSpec([None, size, size, 3], tf.float32)
    )
    entropy, parts = 0.0, []
    for start in range(0, len(split), _STANDALONE_BATCH):
        part = split.take(slice(start, start + _STANDALONE_BATCH))
        logits = forward(normalize(part.images))
        entropy += float(tf.reduce_sum(cross_entropy(part.labels, logits)))
        parts.append(_answers(part.labels, logits))
    if not np.isfinite(entropy):
        raise NotFinite(
            f"The stand-alone model {net.architecture} has a cross-entropy of {entropy}: its "
            "weights are too large. Train it again with a lower --learning_rate."
        )
    answers = Answers(*map(np.concatenate, zip(*parts)))
    hits = answers.predicted == split.labels
    counts, right = np.bincount(split.labels), np.bincount(split.labels, weights=hits)
    balanced = float(np.mean(right[counts > 0] / counts[counts > 0]))
    score = Score(int(hits.sum()) / len(split), entropy / len(split), len(split), balanced)
    return score, answers


def _answers(labels: np.ndarray, logits: tf.Tensor) -> Answers:
    predicted = np.argmax(logits.numpy(), axis=1).astype(np.int32)
    probabilities, rows = tf.nn.softmax(logits).numpy(), np.arange(len(labels))
    return Answers(labels, predicted, probabilities[rows, predicted], probabilities[rows, labels])


def _in_float32(net: Any) -> Any:
    """Returns the net, or a copy of it that computes in float32."""
    if net.compute_dtype == "float32":
        return net
    twin = type(net).from_config({**net.get_config(), "dtype": "float32"})
    for variable, trained in zip(twin.variables, net.variables):
        variable.assign(trained.value)
    return twin
