"""The optimizer of section 3.2."""

from typing import Any

import keras
import tensorflow as tf


class NesterovSGD(keras.optimizers.SGD):
    """A `keras.optimizers.SGD` that updates a variable with momentum in one operation.

    Keras itself needs about ten operations per variable. A one-shot model of six cells has 654
    variables, so these would be a quarter of the graph to trace, optimise and run.
    """

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any):
        """Updates one variable and its momentum."""
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        momentums = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentums.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.constant(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )
