"""Learning-rate schedules by name."""

import keras
import tensorflow as tf


class Factored(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a factor that may be set between steps.

    Args:
        name, initial, num_steps: of `learning_rate_schedule`.
    """

    def __init__(self, name: str, initial: float, num_steps: int):
        self.schedule = learning_rate_schedule(name, initial, num_steps)
        self.factor = tf.Variable(1.0, trainable=False, name="learning_rate_factor")

    def __call__(self, step):
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return rate * self.factor


def learning_rate_schedule(name: str, initial: float, num_steps: int):
    """What a Keras optimizer takes as `learning_rate`.

    Args:
        name: "cosine": one half-wave from `initial` to 0 at `num_steps`; "constant".
        initial: the learning rate at step 0.
        num_steps: steps of the whole training.
    """
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(initial, num_steps)
    return initial
