"""How masks enter the computation: the one place that knows.

A net sums its paths through `sum` and reads its tensors through `read`; which
object it does that with decides what a dropped path costs. All give the same numbers.
"""

import tensorflow as tf


class AllPaths:
    """Every path that was built is used: stand-alone nets."""

    def sum(self, terms, like):
        """The sum of `compute()` over the pairs (path, compute) of `terms`.

        Args:
            terms: pairs of a path's number and a function that gives `[B, H, W, C]`.
            like: the shape `[B, H, W, C]` of the sum.
        """
        return tf.add_n([compute() for _, compute in terms])

    def read(self, paths, compute, like):
        """What `compute()` gives: a tensor of shape `like` that each of `paths` reads."""
        return compute()


class MaskedPaths(AllPaths):
    """Each image weights the paths by the row of masks of its ghost batch.

    Args:
        masks: `[G, P]`.
        batch: B, a multiple of G.
    """

    def __init__(self, masks, batch: int):
        weights = tf.repeat(masks, batch // masks.shape[0], axis=0)
        self.weights = weights[:, :, None, None, None]

    def sum(self, terms, like):
        return tf.add_n([self.weights[:, path] * compute() for path, compute in terms])


class SkippedPaths(MaskedPaths):
    """As `MaskedPaths`, but what no ghost batch of the call uses isn't computed.

    Pays where a call holds few architectures, as in evaluating candidates.
    """

    def __init__(self, masks, batch: int):
        super().__init__(masks, batch)
        self.used = tf.unstack(tf.reduce_any(tf.not_equal(masks, 0), axis=0), num=masks.shape[1])

    def sum(self, terms, like):
        total = tf.zeros(like, self.weights.dtype)
        for path, compute in terms:

            def added(total=total, path=path, compute=compute):
                return total + self.weights[:, path] * compute()

            total = tf.cond(self.used[path], added, lambda total=total: total)
        return total

    def read(self, paths, compute, like):
        used = tf.reduce_any(tf.stack([self.used[path] for path in paths]))
        return tf.cond(used, compute, lambda: tf.zeros(like, self.weights.dtype))
