"""How good: one score for each architecture, or for one stand-alone net.

Three accuracies are kept apart everywhere: *all-on* (the one-shot model with
every path), *candidate* (shared weights under an architecture's masks) and
*stand-alone* (a net trained from scratch).
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import psutil
import tensorflow as tf

from oneshot_tf.cost import counts
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.devices.accelerators import accelerators
from oneshot_tf.evaluation.forward import NotFinite, check_finite, log_probabilities
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError

_CPU_ELEMENTS = 2**19  # of the first cell's blocks, a call; measured in BUILD_NOTES.md
_ACCELERATOR_IMAGES = 1024
_STANDALONE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Score:
    """What was measured on how many images.

    Example:

        >>> Score(accuracy=0.5, cross_entropy=1.0, num_images=100).accuracy
        0.5

    Args:
        accuracy: share of images classified rightly, in [0, 1].
        cross_entropy: mean over the images, in nats.
        num_images: how many.
    """

    accuracy: float
    cross_entropy: float
    num_images: int


class CandidateEvaluator:
    """Scores architectures with the shared weights (section 3.3).

    The images are cut, in their order, into ghost batches whose statistics are
    computed on the fly (section 3.2). The last ghost batch is filled up with
    images from the beginning, which serve its statistics and are not counted. So
    every image is counted once, and a score does not depend on what else is evaluated.

    A call of the graph takes a *chunk* of the images, a few ghost batches, through
    many architectures: decoding, normalising and the stem are done once for all
    of them; of each, what it does not use is skipped. A few are in flight at a
    time. Memory grows with the images of a chunk and the architectures in flight,
    not with the number of architectures.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> evaluator = CandidateEvaluator(supernet, digits.validation, digits.normalize)
        >>> len(evaluator(RandomSearch(space).propose(3)))
        3

    Args:
        supernet: a trained `Supernet`.
        split: the images, a `Split`.
        normalize: makes float images of uint8 images, such as `dataset.normalize`.
        ghost_batch_size: images a ghost batch; best that of training.
        max_memory_gb: what the activations may take, in 10^9 bytes; None: half of what is free.
        largest_chunk: images of a chunk at most, but for a ghost batch; None: what is fastest.

    Attributes:
        num_images: how many images there are.
        chunk_size: images of a chunk; the last one may have fewer.

    Raises:
        InputError: no images, or a ghost batch does not fit into the memory.
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
        """How many chunks the images are cut into."""
        return len(self._starts)

    def outcomes(
        self, architectures: Sequence[Architecture], chunks: Iterable[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What becomes of each image.

        Args:
            architectures: A of them.
            chunks: which chunks of the images, in order; None for all.

        Returns:
            bool `[A, n]`, whether each image is classified rightly, and float32
            `[A, n]`, its cross-entropy in nats; n images.

        Raises:
            NotFinite: a cross-entropy is not finite.
        """
        architectures = list(architectures)
        masks = tf.constant(self.space.masks(architectures))
        hits, losses = [], []
        for chunk in range(self.num_chunks) if chunks is None else chunks:
            rows = np.arange(self._starts[chunk], self._starts[chunk] + self.chunk_size)
            images = self._split.take(rows % self.num_images)
            outcome = self._log_probabilities(tf.constant(images.images), masks).numpy()
            counted = rows < self.num_images  # the others fill up the last ghost batch
            outcome, labels = outcome[:, counted], images.labels[counted]
            hits.append(np.argmax(outcome, axis=2) == labels)
            losses.append(-outcome[:, np.arange(len(labels)), labels])
            check_finite(losses[-1], architectures, "cross-entropy")
        return np.concatenate(hits, axis=1), np.concatenate(losses, axis=1)

    def __call__(self, architectures: Sequence[Architecture]) -> list[Score]:
        """A `Score` for each, on all images."""
        hits, losses = self.outcomes(architectures)
        return [
            Score(float(h.mean()), float(entropy.mean(dtype=np.float64)), self.num_images)
            for h, entropy in zip(hits, losses)
        ]


def plan_chunks(
    supernet: Supernet, split: Any, ghost_batch_size: int, max_memory_gb: float | None = None
) -> tuple[int, int]:
    """How many ghost batches a call takes, and how many architectures are in flight at a time.

    On a CPU a call is best small enough for its caches, and each thread has an
    architecture of its own; an accelerator wants large calls, one after another.
    Either is cut down to what fits into `max_memory_gb`.
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
    fitting = int(max_memory_gb * 1e9 // ghost)  # ghost batches at a time
    if fitting < 1:
        raise InputError(
            f"--max_memory_gb={max_memory_gb:.3g}, but a ghost batch of {ghost_batch_size} images "
            f"of {size}x{size} needs about {ghost / 1e9:.2g} GB here; give more memory, or train a "
            "smaller one-shot model."
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
        supernet: a trained `Supernet`.
        architectures: of its space; All On too.
        dataset: a `Dataset`.
        ghost_batch_size: images that share batch statistics.
        max_memory_gb: what the activations may take; None: half of the memory that is free.

    Returns:
        A `Score` for each, in order.
    """
    evaluator = CandidateEvaluator(
        supernet, dataset.validation, dataset.normalize, ghost_batch_size, max_memory_gb
    )
    return evaluator(list(architectures))


def evaluate_standalone(
    net: Standalone, split: Any, normalize: Callable[[tf.Tensor], tf.Tensor]
) -> Score:
    """Scores a stand-alone net with its moving averages, in float32.

    So does the served model, whatever the net was trained in.

    Example:

        >>> cell = Architecture.from_text("prev1:max3x3")
        >>> net = Standalone(bender2018(num_blocks=1), cell, Stack(1, 4), num_classes=10)
        >>> evaluate_standalone(net, digits.validation, digits.normalize).num_images
        100

    Args:
        net: a trained `Standalone`.
        split: the images, a `Split`.
        normalize: makes float images of uint8 images, such as `dataset.normalize`.

    Raises:
        NotFinite: the cross-entropy is not finite.
    """
    split, size, net = split.in_memory(), split.image_size, _in_float32(net)
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
    if not np.isfinite(entropy):
        raise NotFinite(
            f"The stand-alone net {net.architecture} has a cross-entropy of {entropy}: its "
            "weights are too large. Train it again with a lower --learning_rate."
        )
    return Score(hits / len(split), entropy / len(split), len(split))


def _in_float32(net: Standalone):
    """The net, or its twin with the same weights that computes in float32."""
    if net.compute_dtype == "float32":
        return net
    twin = Standalone(net.space, net.architecture, net.stack, net.num_classes, dtype="float32")
    for variable, trained in zip(twin.variables, net.variables):
        variable.assign(trained.value)
    return twin
