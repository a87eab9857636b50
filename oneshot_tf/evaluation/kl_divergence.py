"""Divergence: how far predictions are from those with nearly all paths on (section 5)."""

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from oneshot_tf.data.dataset import Dataset
from oneshot_tf.evaluation.forward import NotFinite, check_finite, log_probabilities
from oneshot_tf.evaluation.shared_weights import CandidateEvaluator
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.strategies import PathDropout
from oneshot_tf.system.errors import InputError

_NUM_REFERENCES = 8
_REFERENCE_RATE = 1e-8  # section 5: nearly all paths on
_DIVERGENCE_IMAGES = 64


class DivergenceEvaluator:
    """How far predictions are from those with nearly all paths on: `evaluator(architectures)`.

    The symmetrised KL divergence D(p||q) + D(q||p) of section 5, in nats, p of a
    reference and q of the architecture, averaged over images and references. It
    needs no labels.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> references = tf.ones([1, space.num_paths])
        >>> images = digits.train.images[:32]
        >>> evaluator = DivergenceEvaluator(supernet, images, digits.normalize, references)
        >>> evaluator([space.all_on()]).shape
        (1,)

    Args:
        supernet: a trained `Supernet`.
        images: uint8 `[N, H, W, 3]`, N a multiple of `ghost_batch_size`; the paper
            takes 64 of the training images.
        normalize: makes float images of uint8 images.
        references: masks `[R, P]` of the references.
        ghost_batch_size: images a ghost batch.

    Raises:
        InputError: the images do not fill ghost batches.
        NotFinite: an output is not finite.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: tf.Tensor,
        normalize: Callable[[tf.Tensor], tf.Tensor],
        references: tf.Tensor,
        ghost_batch_size: int = 32,
    ):
        if len(images) == 0 or len(images) % ghost_batch_size:
            raise InputError(
                f"The number of images must be a multiple of the ghost batch size "
                f"{ghost_batch_size}; got {len(images)}."
            )
        self.space, self._images = supernet.space, tf.constant(images)
        self._log_probabilities = log_probabilities(
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
        """Brings the references' predictions up to date with the weights, if these changed.

        Raises:
            NotFinite: an output of a reference is not finite.
        """
        self._references = self._log_probabilities(self._images, self._masks).numpy()
        if not np.isfinite(self._references).all():
            raise NotFinite(
                "With nearly all paths on, the one-shot model has outputs that are not finite: "
                "train it again with a lower --learning_rate."
            )

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """float64 `[A]`.

        Raises:
            NotFinite: a divergence is not finite.
        """
        architectures = list(architectures)
        masks = tf.constant(self.space.masks(architectures))
        log_q = self._log_probabilities(self._images, masks).numpy().astype(np.float64)
        total = np.zeros(len(log_q))
        for log_p in self._references.astype(np.float64):
            # sum_i p_i log(p_i / q_i) + q_i log(q_i / p_i)
            per_image = np.sum((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q), axis=2)
            total += per_image.mean(axis=1)
        check_finite(total, architectures, "divergence")
        return total / len(self._references)


def divergence_evaluator(supernet: Supernet, dataset: Dataset, ghost_batch_size: int, seed: int):
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

    def __init__(
        self,
        supernet: Supernet,
        dataset: Dataset,
        count: int,
        num_steps: int,
        ghost_batch_size: int,
        seed: int,
    ):
        rng = np.random.default_rng([seed, 2])
        self.architectures = [supernet.space.sample(rng) for _ in range(count)]
        self._texts = [str(a) for a in self.architectures]
        self._divergence = divergence_evaluator(supernet, dataset, ghost_batch_size, seed)
        self._num_steps = num_steps
        # A ghost batch at a time: in several processes chunks must be the same, whatever is free.
        self._evaluate = lambda: CandidateEvaluator(
            supernet, dataset.validation, dataset.normalize, ghost_batch_size,
            largest_chunk=ghost_batch_size,
        )(self.architectures)  # fmt: skip

    def __call__(self, step: int) -> dict:
        self._divergence.recompute()
        values = self._divergence(self.architectures)
        line = {"divergence": dict(zip(self._texts, values.tolist()))}
        if step == self._num_steps:
            accuracies = [score.accuracy for score in self._evaluate()]
            line["candidate_accuracy"] = dict(zip(self._texts, accuracies))
        return line
