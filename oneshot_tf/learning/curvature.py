"""The dominant eigenvalue of the architecture Hessian, a sign that mixtures hide bad architectures.

H is the second derivative of the held-out loss by the logits of a learner. Zela et al. 2020 found
that a large dominant eigenvalue goes with architectures that do badly once they are made discrete.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.learning.architecture_steps import ArchitectureStep, all_reduce, replica
from oneshot_tf.learning.losses import cross_entropy

_PRODUCTS = 20  # of the power iteration


class Curvature:
    """Callable: `eigenvalue = curvature(images, labels, update)`, in nats, with its sign.

    The power iteration multiplies H by a vector 20 times, and the estimate is the last Rayleigh
    quotient. If two eigenvalues have nearly the same modulus, it lies between them. Products are
    exact: they come from forward over reverse differentiation. All ghost batches use the mixture of
    the logits. Replicas and micro-batches divide the work as in `ArchitectureStep`, and nothing is
    assigned.

    Args:
        step: The architecture step. Its learner must have logits.
    """

    def __init__(self, step: ArchitectureStep):
        self.train, self.learner, self.prepare = step.train, step.learner, step.prepare
        assert step.learner.logits is not None
        self._logits = step.learner.logits
        self._run = tf.function(self._distributed, autograph=False)

    def __call__(self, images: Any, labels: Any, update: int) -> float:
        """Returns an estimate of the eigenvalue of the largest modulus.

        Args:
            images: This worker's part of a batch of held-out images, as in `ArchitectureStep`.
            labels: Their labels.
            update: The number of the update that has this batch.
        """
        rng = np.random.default_rng(self.train.seed)
        product = vector = rng.standard_normal(self._logits.shape)
        for _ in range(_PRODUCTS):
            vector = product / max(np.linalg.norm(product), np.finfo(np.float32).tiny)
            given = tf.constant(vector, tf.float32), tf.constant(update, tf.int32)
            product = np.asarray(self._run(images, labels, *given), np.float64)
        return float(vector @ product)

    def _distributed(
        self, images: Any, labels: Any, vector: tf.Tensor, update: tf.Tensor
    ) -> tf.Tensor:
        strategy = self.train.strategy
        found = strategy.run(self._on_replica, args=(images, labels, vector, update))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, found, None)

    def _on_replica(
        self, images: tf.Tensor, labels: tf.Tensor, vector: tf.Tensor, update: tf.Tensor
    ) -> tf.Tensor:
        share = self.train.batch_size // self.train.replicas
        images = self.prepare(images, replica() * share, self.train.batch_size, update)
        logits = tf.convert_to_tensor(self._logits)
        return all_reduce(self._product(logits, vector, images, labels))

    def _product(
        self, logits: tf.Tensor, vector: tf.Tensor, images: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor:
        """Returns this replica's part of H times a vector, `[N]`."""
        count = self.train.micro_batches
        parts = (
            tf.reshape(x, [count, x.shape[0] // count, *x.shape[1:]]) for x in (images, labels)
        )
        products = tf.map_fn(
            lambda part: self._of_micro_batch(logits, vector, *part),
            tuple(parts),
            fn_output_signature=tf.TensorSpec(logits.shape, tf.float32),
            parallel_iterations=1,
        )
        return tf.reduce_sum(products, axis=0)

    def _of_micro_batch(
        self, logits: tf.Tensor, vector: tf.Tensor, images: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor:
        ghosts = images.shape[0] // self.train.ghost_batch_size
        with tf.autodiff.ForwardAccumulator(logits, vector) as moving:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(logits)
                loss = self._loss(self.learner.mixture(logits, ghosts), images, labels)
            gradient = tape.gradient(loss, logits)
        return moving.jvp(gradient, tf.UnconnectedGradients.ZERO)

    def _loss(self, masks: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns this micro-batch's part of the mean loss."""
        logits = self.train.net(images, masks, training=True, skip=False)
        return tf.reduce_sum(cross_entropy(labels, logits)) / self.train.batch_size
