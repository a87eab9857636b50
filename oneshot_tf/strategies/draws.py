"""Random numbers of learners, as pure functions of seed, stream and number.

They are drawn as integers, because float draws differ with and without XLA.
"""

import tensorflow as tf

_BITS = 23  # float32 holds n + 1/2 exactly for n below 2^23
_FIRST_STREAM = 16  # augmentation and ScheduledDropPath have lower streams of the same seed


def uniform(shape: list[int], seed: int, stream: int, number: int | tf.Tensor) -> tf.Tensor:
    """Draws between 0 and 1, both excluded, float32.

    Args:
        shape: The shape of the result.
        seed: The seed of the training.
        stream: Which random numbers of the seed to use, from 0.
        number: The number of the step or update, from 0.
    """
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(number, tf.int32)])
    key = tf.random.experimental.stateless_fold_in(key, _FIRST_STREAM + stream)
    draws = tf.random.stateless_uniform(
        shape, seed=key, minval=0, maxval=1 << _BITS, dtype=tf.int32
    )
    return (tf.cast(draws, tf.float32) + 0.5) / float(1 << _BITS)


def gumbel(shape: list[int], seed: int, stream: int, number: int | tf.Tensor) -> tf.Tensor:
    """Draws from the standard Gumbel distribution. The arguments are those of `uniform`."""
    return -tf.math.log(-tf.math.log(uniform(shape, seed, stream, number)))
