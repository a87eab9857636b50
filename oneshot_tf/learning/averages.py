"""An exponential moving average of a net's variables over training."""

from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.learning.checkpoints import AVERAGE, average_name, value_of


class Averages:
    """Averages of all variables of a net, moving averages of its batch norms included.

    After step t (from 0), each average moves towards the variable by 1 - d, where

        d = min(decay, (1 + t) / (10 + t))

    as `num_updates` of tf.train.ExponentialMovingAverage does. In a short training the average is
    over about the last ninth of the steps, and nothing is left of the initial weights.

    After the last step, `Recalibration` replaces the averages of batch statistics.

    A replica averages what it holds. All replicas hold the same weights, and the mean of their
    averaged batch statistics is the average of the mean.

    Args:
        net: The net in training.
        decay: The largest d, in (0, 1).

    Attributes:
        variables: The averages, to be saved with the net.
    """

    def __init__(self, net: Any, decay: float):
        self.decay = decay
        self._averaged = net.variables
        with keras.name_scope(AVERAGE):
            self.variables = [_average_of(variable) for variable in self._averaged]

    def rate(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns 1 - d, the share of the new value at a step."""
        done = tf.cast(step, tf.float32)
        return tf.maximum(1.0 - self.decay, 9.0 / (10.0 + done))

    def update(self, step: int | tf.Tensor) -> None:
        """Moves the averages after the update of step `step`, on one replica."""
        rate = self.rate(step)
        for average, variable in zip(self.variables, self._averaged):
            before, now = tf.convert_to_tensor(average), tf.convert_to_tensor(variable)
            average.assign(before + (now - before) * rate)

    def use(self) -> None:
        """Gives the net the averages."""
        for average, variable in zip(self.variables, self._averaged):
            variable.assign(value_of(average))

    def take_statistics(self) -> None:
        """Replaces the averages of batch statistics by the net's present statistics."""
        for average, variable in zip(self.variables, self._averaged):
            if _is_statistic(variable):
                average.assign(value_of(variable))


def _is_statistic(variable: keras.Variable) -> bool:
    return variable.synchronization == "on_read"


def _average_of(variable: keras.Variable) -> keras.Variable:
    # Each replica updates its own copy. Batch statistics differ between replicas, weights do not.
    return keras.Variable(
        value_of(variable),
        name=average_name(variable.path).removeprefix(f"{AVERAGE}/"),
        trainable=False,
        autocast=False,
        synchronization="on_read",
        aggregation="mean" if _is_statistic(variable) else "only_first_replica",
    )
