"""Ranks architectures without labels, by their divergence from references (section 5)."""

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
_REFERENCE_RATE = 1e-8  # references have nearly all paths on (section 5)
_DIVERGENCE_IMAGES = 64


class DivergenceEvaluator:
    """Callable: `divergences = evaluator(architectures)`.

    A reference is the one-shot model with nearly all paths on. The divergence says how far the
    predictions of an architecture are from those of the references. It is the symmetrised KL
    divergence D(p||q) + D(q||p) of section 5, in nats, averaged over images and references. Here
    p is the prediction of a reference and q that of the architecture. It needs no labels.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> references = tf.ones([1, space.num_paths])
        >>> images = digits.train.images[:32]
        >>> evaluator = DivergenceEvaluator(supernet, images, digits.normalize, references)
        >>> evaluator([space.all_on()]).shape
        (1,)

    Args:
        supernet: A trained `Supernet`.
        images: Uint8 `[N, H, W, 3]`. N is a multiple of `ghost_batch_size`. The paper takes 64
            of the training images.
        normalize: Converts uint8 images to float images.
        references: Masks `[R, P]` of the references.
        ghost_batch_size: Images in a ghost batch.

    Raises:
        InputError: The number of images is not a multiple of the ghost batch size.
        NotFinite: An output of a reference is not finite.
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
        """Computes the predictions of the references again, after the weights have changed.

        Raises:
            NotFinite: An output of a reference is not finite.
        """
        self._references = self._log_probabilities(self._images, self._masks).numpy()
        if not np.isfinite(self._references).all():
            raise NotFinite(
                "With nearly all paths on, the one-shot model has outputs that are not finite. "
                "Train it again with a lower --learning_rate."
            )

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Returns the divergences of A architectures, float64 `[A]`.

        Raises:
            NotFinite: A divergence is not finite.
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
    """Returns the `DivergenceEvaluator` of section 5, on 64 random training images.

    Args:
        supernet: A `Supernet`.
        dataset: A `Dataset`.
        ghost_batch_size: Images that share batch statistics. If it does not divide 64, a few
            more images fill the last ghost batch.
        seed: The seed of the images and of the references.
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
    """Callable: `line = tracker(step)`. Follows architectures through training (figure 7).

    The call returns the divergences of some random architectures under the current weights of
    the one-shot model. At the last step it returns their candidate accuracies, too.

    Args:
        supernet: The `Supernet` in training.
        dataset: A `Dataset`.
        count: The number of architectures.
        num_steps: The number of steps of the training.
        ghost_batch_size: Images that share batch statistics.
        seed: The seed of the architectures, the images and the references.
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
        # A chunk is one ghost batch: all workers need chunks of the same size, and their free
        # memory may differ.
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
