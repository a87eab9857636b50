"""An LSTM that draws architectures decision by decision, for reinforcement learning.

The controller is a function of its weights. A learner keeps them in variables, a proposer in
arrays.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from oneshot_tf.space.decisions import Decision

Weights = list[tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Controller:
    """An LSTM with a softmax for each decision. Its input is the option of the decision before.

    Example:

        >>> controller = Controller(bender2018().decisions, units=8)
        >>> weights = controller.initial(seed=0)
        >>> controller.draw(weights, tf.fill([3, 8], 0.5)).shape.as_list()
        [3, 8]

    Args:
        decisions: The D decisions.
        units: Units of each layer.
        layers: Number of LSTM layers.
        scale: The initial weights are uniform in [-scale, scale].
        tanh_constant: Logits x become c tanh(x) with this c; None leaves them as they are.
    """

    decisions: tuple[Decision, ...]
    units: int = 64
    layers: int = 1
    scale: float = 0.1
    tanh_constant: float | None = None

    def shapes(self) -> list[tuple[int, ...]]:
        """Returns the shapes of the weights: embeddings, LSTM layers, and softmaxes."""
        units, sizes = self.units, [decision.num_options for decision in self.decisions]
        embeddings = [(1, units), *((size, units) for size in sizes[:-1])]
        layers = [(2 * units, 4 * units), (4 * units,)] * self.layers
        softmaxes = [(units, size) for size in sizes]
        return [*embeddings, *layers, *softmaxes]

    def initial(self, seed: int) -> list[np.ndarray]:
        """Returns initial weights. Biases of the LSTM begin at 0."""
        rng = np.random.default_rng(seed)
        return [
            rng.uniform(-self.scale, self.scale, shape).astype(np.float32)
            if len(shape) > 1
            else np.zeros(shape, np.float32)
            for shape in self.shapes()
        ]

    def draw(self, weights: Weights, uniforms: tf.Tensor) -> tf.Tensor:
        """Returns the options of drawn architectures, int32 `[count, D]`.

        Args:
            weights: The weights.
            uniforms: Numbers in [0, 1), float32 `[count, D]`. The option of a decision is the first
                one with which the probabilities add up to more.
        """

        def choose(place: int, logits: tf.Tensor) -> tf.Tensor:
            below = tf.cumsum(tf.nn.softmax(logits), axis=1) <= uniforms[:, place, tf.newaxis]
            chosen = tf.reduce_sum(tf.cast(below, tf.int32), axis=1)
            return tf.minimum(chosen, logits.shape[1] - 1)  # sums may round to less than 1

        return self._run(weights, _length(uniforms), choose)[0]

    def best(self, weights: Weights) -> tf.Tensor:
        """Returns the options of greatest probability, one after another, int32 `[1, D]`."""
        choose = lambda _, logits: tf.argmax(logits, axis=1, output_type=tf.int32)  # noqa: E731
        return self._run(weights, 1, choose)[0]

    def score(self, weights: Weights, genes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the log-probability of architectures, and the entropy on their way.

        Args:
            weights: The weights.
            genes: The options, int32 `[count, D]`.

        Returns:
            Two float32 `[count]`: log p, and the sum of the entropies of the D softmaxes, in nats.
        """
        _, logits = self._run(weights, _length(genes), lambda place, _: genes[:, place])
        logs = [tf.nn.log_softmax(each) for each in logits]
        chosen = [tf.gather(log, genes[:, i], batch_dims=1) for i, log in enumerate(logs)]
        entropies = [-tf.reduce_sum(tf.exp(log) * log, axis=1) for log in logs]
        return tf.add_n(chosen), tf.add_n(entropies)

    def _run(
        self,
        weights: Weights,
        count: int | tf.Tensor,
        choose: Callable[[int, tf.Tensor], tf.Tensor],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Runs the LSTM over the decisions. `choose(place, logits)` returns options `[count]`."""
        number = len(self.decisions)
        embeddings, rest = weights[:number], weights[number:]
        cells, softmaxes = rest[: 2 * self.layers], rest[2 * self.layers :]
        zeros = tf.zeros([count, self.units])
        states = [(zeros, zeros)] * self.layers
        chosen, found = tf.zeros([count], tf.int32), []
        every = []
        for place in range(number):
            x = tf.gather(embeddings[place], chosen)
            for layer in range(self.layers):
                kernel, bias = cells[2 * layer : 2 * layer + 2]
                states[layer] = _lstm(x, *states[layer], kernel, bias)
                x = states[layer][0]
            logits = tf.matmul(x, softmaxes[place])
            if self.tanh_constant is not None:
                logits = self.tanh_constant * tf.tanh(logits)
            chosen = choose(place, logits)
            found.append(chosen)
            every.append(logits)
        return tf.stack(found, axis=1), every


def _length(rows: tf.Tensor) -> int | tf.Tensor:
    """Returns the number of rows, as a Python int if it is known in the graph."""
    return tf.shape(rows)[0] if rows.shape[0] is None else rows.shape[0]


def _lstm(
    x: tf.Tensor, h: tf.Tensor, c: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the next output and state of an LSTM cell, `[count, units]` each."""
    gates = tf.matmul(tf.concat([x, h], axis=1), kernel) + bias
    i, f, o, g = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def reinforce(
    log_probabilities: tf.Tensor, rewards: tf.Tensor, baseline: float | tf.Tensor
) -> tf.Tensor:
    """Returns the loss of REINFORCE: minus the mean of log p (R - b), as a scalar.

    Its gradient is an unbiased estimate of minus the gradient of the mean reward.
    """
    return -tf.reduce_mean(log_probabilities * tf.stop_gradient(rewards - baseline))


def clipped(
    log_probabilities: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor, clip: float
) -> tf.Tensor:
    """Returns the loss of PPO: minus the mean of min(q A, clip(q, 1 - c, 1 + c) A), as a scalar.

    Args:
        log_probabilities: log p of the architectures now, `[count]`.
        before: log p when they were drawn. q is the ratio of both probabilities.
        advantages: A, `[count]`.
        clip: c.
    """
    ratio = tf.exp(log_probabilities - before)
    cut = tf.clip_by_value(ratio, 1.0 - clip, 1.0 + clip)
    return -tf.reduce_mean(tf.minimum(ratio * advantages, cut * advantages))
