"""Architecture updates that see the weights after one more step (second-order DARTS).

With the masks m of the next training step and the masks n on held-out images,

    w' = w + mu * a - rate * dL_train(w, m) / dw

where a is the optimizer's accumulator, which holds minus the rate times past gradients, and L_train
includes L2. As in the published code, this step has plain momentum and no clipping, though the
training step has Nesterov momentum. The gradient of L_val(w', n) has two parts: by n, at w'; and
by m, through w',

    -rate * d/dm (dL_train(w, m) / dw . v)    with v = dL_val(w', n) / dw'

The second part is exact: forward over reverse differentiation gives the derivative of
dL_train / dm in the direction v. Nothing is assigned, so no kill can leave a half step behind.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from oneshot_tf.learning.architecture_steps import ArchitectureStep, all_reduce, replica
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.strategies.protocols import Outcome

Weights = list[tf.Tensor]


class UnrolledStep(ArchitectureStep):
    """The step of a learner that unrolls: `step(images, labels, update, images, labels, number)`.

    The last three are the next training batch and the number of its step.
    """

    def _outcome(  # type: ignore[override]
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor,
        train_images: tf.Tensor,
        train_labels: tf.Tensor,
        number: tf.Tensor,
    ) -> Outcome:
        train = self.train
        first = replica() * (train.batch_size // train.replicas)
        train_images = train.prepare(train_images, first, train.batch_size, number)
        train_masks = self._own(train.masks(number))
        batch = train_images, train_labels, train_masks
        weights = [tf.convert_to_tensor(v.value) for v in train.variables]
        gradients, _ = train.gradients(*batch, None, train.micro_batches, False, train.replicas)
        rate = tf.cast(train.optimizer.learning_rate, tf.float32)
        after = self._after(weights, all_reduce(gradients), rate)
        direction, found = self._held_out(after, images, labels, masks)
        found, direction = self._whole(found), all_reduce(direction)
        mixed = self._mixed(weights, direction, *batch)
        return Outcome(found[:, 2:], found[:, 0], found[:, 1], -rate * self._whole(mixed))

    def _after(self, weights: Weights, gradients: Weights, rate: tf.Tensor) -> Weights:
        """Returns the weights after a training step with these gradients."""
        optimizer = self.train.optimizer
        if not optimizer.momentum:
            return [w - rate * g for w, g in zip(weights, gradients)]
        momentums = [tf.convert_to_tensor(m.value) for m in optimizer.momentums]
        return [
            w + optimizer.momentum * a - rate * g for w, a, g in zip(weights, momentums, gradients)
        ]

    def _loss(
        self,
        weights: Weights,
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor,
        label_smoothing: float = 0.0,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns this micro-batch's part of the mean loss, the losses, and the logits."""
        net = self.train.net
        others = [variable.value for variable in net.non_trainable_variables]
        logits, _ = net.stateless_call(weights, others, images, masks, training=True, skip=False)
        losses = cross_entropy(labels, logits, label_smoothing)
        return tf.reduce_sum(losses) / self.train.batch_size, losses, logits

    def _held_out(
        self, weights: Weights, images: tf.Tensor, labels: tf.Tensor, masks: tf.Tensor
    ) -> tuple[Weights, tf.Tensor]:
        """Returns d loss / d weights, and what `_micro_batch` finds, at given weights."""
        size = self.train.ghost_batch_size

        def part(images: tf.Tensor, labels: tf.Tensor, masks: tf.Tensor) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([*weights, masks])
                loss, losses, logits = self._loss(weights, images, labels, masks)
            *direction, gradient = tape.gradient(loss, [*weights, masks])
            hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
            columns = [
                tf.reduce_mean(tf.reshape(x, [masks.shape[0], size]), axis=1, keepdims=True)
                for x in (losses, tf.cast(hits, tf.float32))
            ]
            return direction, tf.concat([*columns, tf.cast(gradient, tf.float32)], axis=1)

        return self._over_micro_batches(part, images, labels, masks, 2 + masks.shape[1])

    def _mixed(
        self,
        weights: Weights,
        direction: Weights,
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the derivative of d loss / d masks, with the weights moving in a direction."""
        smoothing = self.train.settings.label_smoothing

        def part(images: tf.Tensor, labels: tf.Tensor, masks: tf.Tensor) -> Any:
            with tf.autodiff.ForwardAccumulator(weights, direction) as moving:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(masks)
                    loss, _, _ = self._loss(weights, images, labels, masks, smoothing)
                gradient = tape.gradient(loss, masks)
            return [], tf.cast(moving.jvp(gradient, tf.UnconnectedGradients.ZERO), tf.float32)

        return self._over_micro_batches(part, images, labels, masks, masks.shape[1])[1]

    def _over_micro_batches(
        self,
        part: Callable[..., tuple[Weights, tf.Tensor]],
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor,
        columns: int,
    ) -> tuple[Weights, tf.Tensor]:
        """Returns the sums of the first results of `part`, and the rows of its second ones."""
        count, ghosts = self.train.micro_batches, masks.shape[0]
        if count == 1:
            return part(images, labels, masks)
        images, labels, masks = (
            tf.reshape(x, [count, x.shape[0] // count, *x.shape[1:]])
            for x in (images, labels, masks)
        )
        sums, first = part(images[0], labels[0], masks[0])
        rows = tf.TensorArray(tf.float32, count, element_shape=[ghosts // count, columns])

        def body(index: tf.Tensor, sums: Weights, rows: tf.TensorArray) -> Any:
            more, found = part(images[index], labels[index], masks[index])
            return index + 1, [a + b for a, b in zip(sums, more)], rows.write(index, found)

        _, sums, rows = tf.while_loop(
            lambda index, *_: index < count, body, (1, sums, rows.write(0, first)),
            parallel_iterations=1, maximum_iterations=count,
        )  # fmt: skip
        return list(sums), tf.reshape(rows.stack(), [ghosts, columns])
