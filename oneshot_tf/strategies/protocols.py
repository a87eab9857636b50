"""The interfaces of strategies: samplers decide what to train, proposers what to evaluate."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from oneshot_tf.settings import StrategySettings
from oneshot_tf.space.architecture import Architecture


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
