"""Masks as differentiable functions of logits: a probability for each option of each decision."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from oneshot_tf.space.decisions import Decision
from oneshot_tf.space.space import Space
from oneshot_tf.strategies.protocols import normalised_entropy

_LEAST = 1e-30  # weight of a path


class Relaxation:
    """The mixtures of the options of a space.

    Weights have one column for each option of each decision, in order: N in total. Those of a
    decision add up to 1. One-hot weights give the masks of an architecture.

    Example:

        >>> relaxation = Relaxation(bender2018(num_blocks=1))
        >>> relaxation.masks(relaxation.softmax(tf.zeros([relaxation.size]))).shape.as_list()
        [9]

    Args:
        space: The search space.

    Attributes:
        size: N.
        rows: The masks of each option, float32 `[N, P]`.
    """

    def __init__(self, space: Space):
        self.space, self.decisions = space, space.decisions
        tables = [self._table(decision) for decision in self.decisions]
        self.sizes = [len(table) for table in tables]
        self.size = sum(self.sizes)
        self.rows = np.zeros([self.size, space.num_paths], np.float32)
        ends = np.cumsum(self.sizes)
        for decision, table, last in zip(self.decisions, tables, ends):
            self.rows[last - len(table) : last, list(decision.paths)] = table

    def _table(self, decision: Decision) -> np.ndarray:
        """Returns a row for each weight of a decision, 0/1 `[., k]`."""
        return decision.options

    def softmax(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns weights `[..., N]`, the softmax of the logits of each decision."""
        return self._each(tf.nn.softmax, logits)

    def log_softmax(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the logarithms of `softmax`."""
        return self._each(tf.nn.log_softmax, logits)

    def one_hot(self, scores: tf.Tensor) -> tf.Tensor:
        """Returns weights `[..., N]` of 0 and 1: the best option of each decision."""
        return self._each(lambda x: tf.one_hot(tf.argmax(x, axis=-1), x.shape[-1]), scores)

    def _each(self, function: Callable, x: tf.Tensor) -> tf.Tensor:
        return tf.concat([function(part) for part in tf.split(x, self.sizes, axis=-1)], axis=-1)

    def masks(self, weights: tf.Tensor) -> tf.Tensor:
        """Returns masks `[..., P]`: the total weight of the options that use each path."""
        return tf.tensordot(weights, self.rows, axes=1)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns the columns `[..., N]` of each decision."""
        return np.split(np.asarray(values), np.cumsum(self.sizes)[:-1], axis=-1)

    def probabilities(self, weights: np.ndarray) -> list[np.ndarray]:
        """Returns the probability of each option, one array for each decision.

        Args:
            weights: `[N]`.
        """
        return self.split(weights)

    def entropy(self, weights: np.ndarray) -> float:
        """Returns the normalised entropy of the decisions; see `normalised_entropy`."""
        return normalised_entropy(self.probabilities(weights))


class PathRelaxation(Relaxation):
    """Mixtures of paths: one weight for each path of a decision.

    DARTS has a softmax over the operations of an edge and keeps two edges of a node. Here, a
    decision keeps its two strongest paths. The probability of an option of two paths is the product
    of their weights, relative to that of all options of two paths. Others have the probability 0.
    Where no option has two paths, those of one path count.
    """

    def _table(self, decision: Decision) -> np.ndarray:
        return np.eye(len(decision.paths), dtype=np.float32)

    def probabilities(self, weights: np.ndarray) -> list[np.ndarray]:
        """Returns the probability of each option, as described above."""
        found = []
        for decision, part in zip(self.decisions, self.split(weights)):
            kept = _two_paths(decision)
            logs = decision.options @ np.log(np.maximum(part, _LEAST), dtype=np.float64)
            products = np.exp(logs - logs[kept].max()) * kept
            found.append(products / products.sum())
        return found

    def entropy(self, weights: np.ndarray) -> float:
        """Returns the normalised entropy over options of two paths."""
        every = zip(self.decisions, self.probabilities(weights))
        found = [p[_two_paths(decision)] for decision, p in every]
        return normalised_entropy([p for p in found if len(p) > 1])


def _two_paths(decision: Decision) -> np.ndarray:
    """Returns which options have two paths, or one if none has two: bool `[N]`."""
    sizes = decision.options.sum(axis=1)
    return sizes == min(2.0, sizes.max())
