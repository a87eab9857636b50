"""Batch statistics of averaged weights, measured after training (Izmailov et al. 2018)."""

import functools
from typing import Any

import tensorflow as tf

from oneshot_tf.learning.averages import Averages
from oneshot_tf.learning.batches import Batches
from oneshot_tf.learning.checkpoints import value_of
from oneshot_tf.learning.steps import TrainStep

STEPS = 100  # batches; with a momentum of 0.95, 0.6 % is left of the statistics before them


class Recalibration:
    """Measures batch statistics anew, with averaged weights on the batches of the last steps.

    The average of statistics is not the statistics of averaged weights, which vary less. All paths
    are on, as in evaluation.

    Args:
        step: The training step, for its batch, its devices and its augmentation.
        averages: The averages of its net. Their statistics are replaced.
    """

    def __init__(self, step: TrainStep, averages: Averages):
        self._step, self._averages = step, averages

    def run(self, batches: Batches, num_steps: int) -> None:
        """Replaces the averaged statistics. The net keeps its own weights and statistics.

        Args:
            batches: The data of each step.
            num_steps: The number of steps of the training.
        """
        net = self._step.net
        before = [value_of(variable) for variable in net.variables]
        self._averages.use()
        for number in range(max(0, num_steps - STEPS), num_steps):
            images, _ = batches.own(number)
            self._forward(images, tf.constant(number, tf.int32))
        self._averages.take_statistics()
        for variable, value in zip(net.variables, before):
            variable.assign(value)

    @functools.partial(tf.function, autograph=False)
    def _forward(self, images: Any, number: tf.Tensor) -> None:
        self._step.strategy.run(self._on_replica, args=(images, number))

    def _on_replica(self, images: tf.Tensor, number: tf.Tensor) -> None:
        step, count = self._step, self._step.micro_batches
        share = step.batch_size // step.replicas
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * share
        images = step.prepare(images, first, step.batch_size, number)
        images = tf.reshape(images, [count, share // count, *images.shape[1:]])
        ghosts = share // count // step.ghost_batch_size

        def body(index: tf.Tensor) -> tuple[tf.Tensor]:
            place = tf.stack([index, count])
            step.net(images[index], training=True, num_ghosts=ghosts, micro_batch=place)
            return (index + 1,)

        tf.while_loop(lambda index: index < count, body, (0,), parallel_iterations=1)
