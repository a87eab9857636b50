"""The optimizer of section 3.2."""

from typing import Any

import keras
import tensorflow as tf


class NesterovSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` whose update with momentum is one operation a variable.

    Keras's own is about ten. A one-shot model of six cells has 654 variables, so
    that is a quarter of the graph that has to be traced, optimised and run.
    """

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any):
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
