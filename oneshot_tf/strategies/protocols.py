"""The interfaces of strategies.

Samplers decide what to train, learners also learn what to train, and proposers decide what to
evaluate.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.settings import StrategySettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space


class Sampler(abc.ABC):
    """Decides which paths each ghost batch of a training step uses.

    Example:

        >>> class AllOn(Sampler):
        ...     def sample(self, num_ghosts, step, seed):
        ...         return tf.ones([num_ghosts, 11])
        >>> AllOn().sample(2, 0, 0).shape.as_list()
        [2, 11]
    """

    @abc.abstractmethod
    def sample(self, num_ghosts: int, step: tf.Tensor, seed: int) -> tf.Tensor:
        """Returns masks float32 `[num_ghosts, P]`, a pure function of its arguments.

        Every replica draws the masks of the whole global batch and takes its own rows. So results
        do not depend on the number of devices.

        Args:
            num_ghosts: Ghost batches in the global batch.
            step: The number of the training step, int32, from 0.
            seed: The seed of the training.
        """

    def metrics(self, step: int) -> dict[str, float]:
        """Returns numbers to log with the metrics of a step. By default there are none."""
        return {}

    def kept_share(self, step: int) -> float:
        """Returns the expected share of paths that a step keeps, in [0, 1].

        A step with a small share skips the dropped paths, one with a large share masks them. The
        result is the same. The default of 1 means that steps never skip.
        """
        return 1.0


class Outcome(NamedTuple):
    """What a learner gets back for its masks, over a global batch of held-out images.

    Args:
        gradient: d loss / d masks, float32 `[G, P]`, where the loss is the mean cross-entropy over
            the batch. None for a learner that wants scores only.
        losses: The mean cross-entropy of each ghost batch in nats, float32 `[G]`.
        accuracies: The accuracy of each ghost batch, float32 `[G]`.
        train_gradient: For a learner that unrolls: d loss / d masks of the next training step,
            float32 `[G, P]`, through the weights after this step.
    """

    gradient: tf.Tensor | None
    losses: tf.Tensor
    accuracies: tf.Tensor
    train_gradient: tf.Tensor | None = None


class Learner(Sampler):
    """A sampler with variables, which are trained on held-out images.

    After some of the training steps of the weights, architecture updates follow: the learner tries
    masks on a batch of validation images, and learns from the outcome. The weights stay as they
    are. All variables of a learner are in the checkpoints of the training.

    Every replica calls `sample`, `trial` and `learn` with the same arguments, and must make the
    same update.

    Example:

        >>> class Uniform(Learner):
        ...     space, variables = bender2018(num_blocks=1), []
        ...     def sample(self, num_ghosts, step, seed):
        ...         return tf.repeat(self.space.masks([self.mode()]), num_ghosts, axis=0)
        ...     def updates_before(self, step):
        ...         return step
        ...     def trial(self, num_ghosts, update, seed):
        ...         return self.sample(num_ghosts, update, seed)
        ...     def learn(self, outcome, update, seed):
        ...         return {}
        ...     def probabilities(self):
        ...         return [np.ones(d.num_options) / d.num_options for d in self.space.decisions]
        >>> str(Uniform().mode()), Uniform().entropy()
        ('prev2:identity', 1.0)

    Attributes:
        space: The search space.
        wants: "gradient" for d loss / d masks, or "scores" for losses and accuracies alone.
        unrolls: Whether held-out images see the weights after the next training step, so that the
            loss depends on the masks of this step, too. Then it wants the gradient.
        variables: The variables, with those of its optimizer. Their paths begin with "learner".
        logits: The variable of which `mixture` makes masks. None if there is none.
        curvature_steps: Training steps between two measurements of the curvature. 0: only at the
            end. Without logits, there are none.
    """

    space: Space
    wants = "gradient"
    unrolls = False
    variables: list[keras.Variable]
    logits: keras.Variable | None = None
    curvature_steps = 0

    def begin(self, seed: int) -> None:
        """Sets initial values that depend on the seed of the training. By default there are none.

        It is called once, before the training or its latest checkpoint is restored.
        """

    @abc.abstractmethod
    def updates_before(self, step: int) -> int:
        """Returns the number of architecture updates before training step `step`, from 0.

        The number never falls. Training step `step` is followed by the updates from
        `updates_before(step)` to `updates_before(step + 1) - 1`.
        """

    @abc.abstractmethod
    def trial(self, num_ghosts: int, update: tf.Tensor, seed: int) -> tf.Tensor:
        """Returns the masks to try in an update, float32 `[num_ghosts, P]`.

        Args:
            num_ghosts: Ghost batches in the batch of held-out images.
            update: The number of the update, int32, from 0.
            seed: The seed of the training.
        """

    @abc.abstractmethod
    def learn(self, outcome: Outcome, update: tf.Tensor, seed: int) -> dict[str, tf.Tensor]:
        """Updates the variables. Returns scalars to log.

        It runs on every replica, on the outcome of the whole batch. Keras's optimizers add up the
        gradients of all replicas, so it must divide its gradients by their number.

        Args:
            outcome: What came of `trial` with the same arguments.
            update, seed: As in `trial`.
        """

    @abc.abstractmethod
    def probabilities(self) -> list[np.ndarray]:
        """Returns the probability of each option, one float array for each decision."""

    def mixture(self, logits: tf.Tensor, num_ghosts: int) -> tf.Tensor:
        """Returns the mixture of all options, float32 `[num_ghosts, P]`.

        Args:
            logits: The values of `self.logits`. The result is differentiable in them.
            num_ghosts: The number of rows, all of them equal.
        """
        raise NotImplementedError(f"{type(self).__name__} has logits, so it must define mixture().")

    def mode(self) -> Architecture:
        """Returns the architecture of the most probable options. It is what was learnt."""
        return self.space.architecture(tuple(int(p.argmax()) for p in self.probabilities()))

    def draw(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Draws architectures: each decision independently, by the probabilities of its options."""
        exact = [np.asarray(p, np.float64) for p in self.probabilities()]
        columns = [rng.choice(len(p), count, p=p / p.sum()) for p in exact]
        return [self.space.architecture(tuple(map(int, genes))) for genes in zip(*columns)]

    def entropy(self) -> float:
        """Returns the normalised entropy of the decisions: 1 for equal options, 0 for one."""
        return normalised_entropy(self.probabilities())

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the entropy."""
        return {"decision_entropy": self.entropy()}

    def describe(self, step: int) -> dict[str, Any]:
        """Returns what is known of each decision, for a line of decisions.jsonl.

        These are the probabilities of the options by decision, their normalised entropy, the mode
        as text, and the share of its operations that have no parameters.
        """
        found, mode = self.probabilities(), self.mode()
        return {
            "architecture": str(mode),
            "entropy": self.entropy(),
            "parameter_free": self.space.parameter_free(mode),
            "probabilities": {
                decision.name: [round(float(p), 6) for p in probabilities]
                for decision, probabilities in zip(self.space.decisions, found)
            },
        }


def normalised_entropy(probabilities: Sequence[np.ndarray]) -> float:
    """Returns the mean over decisions of the entropy relative to that of equal options, in [0, 1].

    A decision of one option has the entropy 0.

    Example:

        >>> normalised_entropy([np.array([0.5, 0.5]), np.array([1.0, 0.0])])
        0.5
    """
    found = []
    for p in probabilities:
        p = np.asarray(p, np.float64)
        logs = np.log(p, where=p > 0, out=np.zeros_like(p))
        found.append(-float(p @ logs) / np.log(len(p)) if len(p) > 1 else 0.0)
    return float(np.mean(found))


class Proposer(abc.ABC):
    """Decides which architectures a search evaluates.

    A proposer is a pure function of its seed and its observations. A search that resumes
    makes a new proposer and replays all observations, in their order.

    The search calls `propose`, scores what is new, then calls `observe`, and so on. It answers a
    repeated proposal with the known accuracy, at no cost.

    Example:

        >>> isinstance(RandomSearch(bender2018()), Proposer)
        True

    Attributes:
        learns: Whether proposals depend on observed accuracies. If so, every candidate must be
            scored on all images before the next proposals.
        repeatable: Whether the same seed and observations give the same proposals in every start.
    """

    learns = False
    repeatable = True

    @property
    @abc.abstractmethod
    def limit(self) -> int:
        """The most different architectures that it can propose in total."""

    @abc.abstractmethod
    def propose(self, count: int) -> list[Architecture]:
        """Returns the next architectures to score.

        Args:
            count: The most architectures to return. A proposer that learns returns fewer, to see
                their accuracies before it proposes more. An empty list ends the search.
        """

    @abc.abstractmethod
    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Receives the candidate accuracies of architectures that it proposed.

        Args:
            architectures: The architectures that the last `propose` returned, or the first of them.
            accuracies: The accuracy of each, in [0, 1]. None if the search does not measure it.
        """

    def parent(self, architecture: Architecture) -> Architecture | None:
        """Returns the architecture that a proposal was made from; None if it was not."""
        return None

    def remarks(self) -> list[str]:
        """Returns sentences to print at the end of a search. By default there are none."""
        return []


@dataclasses.dataclass(frozen=True)
class Strategy:
    """An entry of SAMPLERS, LEARNERS or PROPOSERS.

    Args:
        settings: The class of its settings. Choosing the strategy adds them as flags.
        make: Builds the strategy: `make(space, settings, num_steps)` for a sampler or a learner,
            `make(space, settings, seed)` for a proposer.
    """

    settings: type[StrategySettings]
    make: Callable[[Any, Any, int], Any]
