"""Learning-rate schedules by their names."""

from typing import Any

import keras
import tensorflow as tf


class Factored(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule multiplied by a factor. The factor may change between steps.

    Args:
        name, initial, num_steps: Arguments of `learning_rate_schedule`.
        warmup: The first steps, in which the rate rises to `initial`. The schedule takes the rest.
    """

    def __init__(self, name: str, initial: float, num_steps: int, warmup: int = 0):
        schedule = learning_rate_schedule(name, initial, num_steps - warmup)
        self.schedule = Warmup(schedule, warmup) if warmup else schedule
        self.factor = tf.Variable(1.0, trainable=False, name="learning_rate_factor")

    def __call__(self, step: Any):
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return rate * self.factor


def learning_rate_schedule(name: str, initial: float, num_steps: int):
    """Returns a learning rate or a schedule for a Keras optimizer.

    Args:
        name: One of three schedules. "cosine" is half a cosine wave from `initial` to 0 at
            `num_steps`. "constant" stays at `initial`. "cooldown" is constant, then linear to 0
            over the last tenth of the steps.
        initial: The learning rate at step 0.
        num_steps: The number of steps of the whole training.
    """
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(initial, num_steps)
    if name == "cooldown":
        return Cooldown(initial, num_steps)
    return initial


class Cooldown(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is constant, then linear to 0 over the last `share` of the steps.

    Args:
        initial: The learning rate until the decay begins.
        num_steps: The number of steps of the whole training.
        share: The share of the steps over which the rate falls, in (0, 1].
    """

    def __init__(self, initial: float, num_steps: int, share: float = 0.1):
        self.initial, self.num_steps, self.share = initial, num_steps, share

    def __call__(self, step: Any):
        left = 1.0 - tf.cast(step, tf.float32) / float(self.num_steps)
        return self.initial * tf.clip_by_value(left / self.share, 0.0, 1.0)

    def get_config(self):
        return {"initial": self.initial, "num_steps": self.num_steps, "share": self.share}


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise of the learning rate, and then another schedule (Goyal et al. 2017).

    The rate of step s is (s + 1) / (W + 1) of the other schedule's first one, so that no step has
    a rate of 0. Step W has all of it.

    Args:
        schedule: The learning rate after the rise, or a schedule of it. Its step 0 is step W.
        num_steps: The number W of steps of the rise, at least 1.
    """

    def __init__(self, schedule: Any, num_steps: int):
        self.schedule, self.num_steps = schedule, num_steps

    def __call__(self, step: Any):
        step = tf.cast(step, tf.float32)
        after = tf.maximum(step - self.num_steps, 0.0)
        rate = self.schedule(after) if callable(self.schedule) else self.schedule
        return rate * tf.minimum((step + 1.0) / (self.num_steps + 1.0), 1.0)

    def get_config(self):
        return {"schedule": self.schedule, "num_steps": self.num_steps}
