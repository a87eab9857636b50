"""How good: one score for each architecture, or for one stand-alone net.

Three accuracies are kept apart everywhere: *all-on* (the one-shot model with
every path), *candidate* (shared weights under an architecture's masks) and
*stand-alone* (a net trained from scratch).
"""

import dataclasses
import os

import numpy as np
import psutil
import tensorflow as tf

from oneshot_tf.devices import accelerators
from oneshot_tf.errors import InputError
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.space import cost
from oneshot_tf.strategies import PathDropout

_CPU_ELEMENTS = 2**19  # of the first cell's blocks, a call; measured in BUILD_NOTES.md
_ACCELERATOR_IMAGES = 1024
_STANDALONE_BATCH = 256
_TPU_BLOCK = 16  # architectures a call and replica
_NUM_REFERENCES = 8
_REFERENCE_RATE = 1e-8  # section 5: nearly all paths on
_DIVERGENCE_IMAGES = 64


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


def _log_probabilities(supernet, normalize, num_images, image_size, ghosts, in_flight):
    """Log-probabilities `[A, B, K]` of uint8 images `[B, H, W, 3]` under masks `[A, P]`.

    Decoding, normalising and the stem are done once for all architectures, of which
    each replica of the strategy in force takes its share.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)  # processes
    skip = "TPU" not in accelerators()  # which wants shapes and work that don't depend on values

    def outcomes(images, masks):
        stem = supernet.stem_of(normalize(images), ghosts)

        def one(mask):
            mask = mask[tf.newaxis]
            logits = supernet(stem, mask, num_ghosts=ghosts, skip=skip, after_stem=True)
            return tf.nn.log_softmax(logits)

        signature = tf.TensorSpec([num_images, supernet.num_classes], tf.float32)
        return tf.map_fn(one, masks, fn_output_signature=signature, parallel_iterations=in_flight)

    def of_replica(images, masks):
        count = tf.shape(masks)[0] // replicas if block is None else block // replicas
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * count
        own = masks[first : first + count]
        found = outcomes(images, own if block is None else tf.ensure_shape(own, [count, None]))
        return tf.distribute.get_replica_context().all_gather(found, axis=0) if several else found

    def of_all(images, masks):
        return strategy.run(of_replica, args=(images, masks))

    def together(results):
        results = strategy.experimental_local_results(results)
        return results[0] if several else tf.concat(results, axis=0)

    # A TPU wants one shape; elsewhere any multiple of the replicas will do.
    block = None if skip else _TPU_BLOCK * replicas
    alone = replicas == 1 and skip
    graph = tf.function(outcomes if alone else of_all, autograph=False).get_concrete_function(
        tf.TensorSpec([num_images, image_size, image_size, 3], tf.uint8),
        tf.TensorSpec([block, supernet.space.num_paths], tf.float32),
    )
    if alone:
        return graph

    def filled_up(images, masks):
        count, size = masks.shape[0], block or -(-masks.shape[0] // replicas) * replicas
        rows = [
            np.resize(np.arange(first, min(first + size, count)), size)
            for first in range(0, count, size)
        ]
        parts = [together(graph(images, tf.gather(masks, each))) for each in rows]
        return tf.concat(parts, axis=0)[:count]

    return filled_up


class CandidateEvaluator:
    """Scores architectures with the shared weights (section 3.3).

    The images are cut, in their order, into ghost batches whose statistics are
    computed on the fly (section 3.2). The last ghost batch is filled up with
    images from the beginning, which serve its statistics and aren't counted. So
    every image is counted once, and a score doesn't depend on what else is evaluated.

    A call of the graph takes a *part* of the images, a few ghost batches, through
    many architectures: decoding, normalising and the stem are done once for all
    of them; of each, what it doesn't use is skipped. A few are in flight at a
    time. Memory grows with the images of a part and the architectures in flight,
    not with the number of architectures.

    Args:
        supernet: a trained `Supernet`.
        split: the images, a `Split`.
        normalize: makes float images of uint8 images, such as `dataset.normalize`.
        ghost_batch_size: images a ghost batch; best that of training.
        max_memory_gb: what the activations may take, in 10^9 bytes; None: half of what is free.
        largest_part: images of a part at most, but for a ghost batch; None: what is fastest.

    Attributes:
        num_images: how many images there are.
        part_size: images of a part; the last one may have fewer.

    Raises:
        InputError: no images, or a ghost batch doesn't fit into the memory.
    """

    def __init__(
        self,
        supernet,
        split,
        normalize,
        ghost_batch_size: int = 32,
        max_memory_gb=None,
        largest_part=None,
    ):
        if len(split) == 0 or ghost_batch_size < 1:
            raise InputError(
                f"{len(split)} images in ghost batches of {ghost_batch_size}; needed is at least 1."
            )
        self.space = supernet.space
        self.num_images = len(split)
        ghosts, in_flight = plan_parts(supernet, split, ghost_batch_size, max_memory_gb)
        if largest_part is not None:
            ghosts = min(ghosts, max(1, largest_part // ghost_batch_size))
        size = ghosts * ghost_batch_size
        self._split, self.part_size = split.in_memory(), size
        self._starts = range(0, len(split), size)
        self._log_probabilities = _log_probabilities(
            supernet, normalize, size, split.image_size, ghosts, in_flight
        )

    @property
    def num_parts(self) -> int:
        """Into how many parts the images are cut."""
        return len(self._starts)

    def outcomes(self, architectures, parts=None) -> tuple[np.ndarray, np.ndarray]:
        """What becomes of each image.

        Args:
            architectures: A of them.
            parts: which parts of the images, in order; None for all.

        Returns:
            bool `[A, n]`, whether each image is classified rightly, and float32
            `[A, n]`, its cross-entropy in nats; n images.
        """
        masks = tf.constant(self.space.masks(architectures))
        hits, losses = [], []
        for part in range(self.num_parts) if parts is None else parts:
            rows = np.arange(self._starts[part], self._starts[part] + self.part_size)
            images = self._split.take(rows % self.num_images)
            outcome = self._log_probabilities(tf.constant(images.images), masks).numpy()
            counted = rows < self.num_images  # the others fill up the last ghost batch
            outcome, labels = outcome[:, counted], images.labels[counted]
            hits.append(np.argmax(outcome, axis=2) == labels)
            losses.append(-outcome[:, np.arange(len(labels)), labels])
        return np.concatenate(hits, axis=1), np.concatenate(losses, axis=1)

    def __call__(self, architectures) -> list[Score]:
        """A `Score` for each, on all images."""
        hits, losses = self.outcomes(architectures)
        return [
            Score(float(h.mean()), float(entropy.mean(dtype=np.float64)), self.num_images)
            for h, entropy in zip(hits, losses)
        ]


class DivergenceEvaluator:
    """How far predictions are from those with nearly all paths on: `evaluator(architectures)`.

    The symmetrised KL divergence D(p||q) + D(q||p) of section 5, in nats, p of a
    reference and q of the architecture, averaged over images and references. It
    needs no labels.

    Args:
        supernet: a trained `Supernet`.
        images: uint8 `[N, H, W, 3]`, N a multiple of `ghost_batch_size`; the paper
            takes 64 of the training images.
        normalize: makes float images of uint8 images.
        references: masks `[R, P]` of the references.
        ghost_batch_size: images a ghost batch.
    """

    def __init__(self, supernet, images, normalize, references, ghost_batch_size: int = 32):
        if len(images) == 0 or len(images) % ghost_batch_size:
            raise InputError(
                f"{len(images)} images, ghost batches of {ghost_batch_size}; needed is a multiple."
            )
        self.space, self._images = supernet.space, tf.constant(images)
        self._log_probabilities = _log_probabilities(
            supernet,
            normalize,
            len(images),
            images.shape[1],
            len(images) // ghost_batch_size,
            os.cpu_count() or 1,
        )
        self._masks = tf.constant(references)
        self.recompute()

    def recompute(self) -> None:
        """Brings the references' predictions up to date with the weights, if these changed."""
        self._references = self._log_probabilities(self._images, self._masks).numpy()

    def __call__(self, architectures) -> np.ndarray:
        """float64 `[A]`."""
        masks = tf.constant(self.space.masks(architectures))
        log_q = self._log_probabilities(self._images, masks).numpy().astype(np.float64)
        total = np.zeros(len(log_q))
        for log_p in self._references.astype(np.float64):
            # sum_i p_i log(p_i / q_i) + q_i log(q_i / p_i)
            per_image = np.sum((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q), axis=2)
            total += per_image.mean(axis=1)
        return total / len(self._references)


def divergence_evaluator(supernet, dataset, ghost_batch_size: int, seed: int):
    """The `DivergenceEvaluator` of section 5, on 64 training images that the seed draws.

    Args:
        supernet: a `Supernet`.
        dataset: a `Dataset`.
        ghost_batch_size: images that share batch statistics.
        seed: of the images and of the references.
    """
    train = dataset.train
    ghosts = -(-_DIVERGENCE_IMAGES // ghost_batch_size)
    rows = np.random.default_rng([seed, 1]).permutation(len(train))
    rows = np.resize(rows, ghosts * ghost_batch_size)
    references = PathDropout(supernet.space, _REFERENCE_RATE, "constant")
    return DivergenceEvaluator(
        supernet,
        train.take(rows).in_memory().images,
        dataset.normalize,
        references.sample(_NUM_REFERENCES, 0, seed),
        ghost_batch_size,
    )


class Tracker:
    """Follows some architectures through the training of the one-shot model (figure 7).

    Called with a step, it gives their divergences, and at the last step their accuracies too.

    Args:
        supernet: the `Supernet` in training.
        dataset: a `Dataset`.
        count: how many architectures, drawn by the seed.
        num_steps: of the training.
        ghost_batch_size: images that share batch statistics.
        seed: of the architectures, the images and the references.
    """

    def __init__(self, supernet, dataset, count, num_steps, ghost_batch_size, seed):
        rng = np.random.default_rng([seed, 2])
        self.architectures = [supernet.space.sample(rng) for _ in range(count)]
        self._texts = [str(a) for a in self.architectures]
        self._divergence = divergence_evaluator(supernet, dataset, ghost_batch_size, seed)
        self._num_steps = num_steps
        # A ghost batch at a time: in several processes parts must be the same, whatever is free.
        self._evaluate = lambda: CandidateEvaluator(
            supernet, dataset.validation, dataset.normalize, ghost_batch_size,
            largest_part=ghost_batch_size,
        )(self.architectures)  # fmt: skip

    def __call__(self, step: int) -> dict:
        self._divergence.recompute()
        values = self._divergence(self.architectures)
        line = {"divergence": dict(zip(self._texts, values.tolist()))}
        if step == self._num_steps:
            accuracies = [score.accuracy for score in self._evaluate()]
            line["candidate_accuracy"] = dict(zip(self._texts, accuracies))
        return line


def plan_parts(supernet, split, ghost_batch_size, max_memory_gb=None) -> tuple[int, int]:
    """How many ghost batches a call takes, and how many architectures are in flight at a time.

    On a CPU a call is best small enough for its caches, and each thread has an
    architecture of its own; an accelerator wants large calls, one after another.
    Either is cut down to what fits into `max_memory_gb`.
    """
    size = split.image_size
    stack = supernet.stack
    ghost = ghost_batch_size * cost.activation_bytes(supernet.space, stack, size)
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
    supernet, architectures, dataset, ghost_batch_size: int = 32, max_memory_gb=None
) -> list[Score]:
    """Scores architectures with the shared weights on the validation images.

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


def evaluate_standalone(net, split, normalize) -> Score:
    """Scores a stand-alone net with its moving averages.

    Args:
        net: a trained `Standalone`.
        split: the images, a `Split`.
        normalize: makes float images of uint8 images, such as `dataset.normalize`.
    """
    split, size = split.in_memory(), split.image_size
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
