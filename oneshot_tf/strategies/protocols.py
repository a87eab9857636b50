"""The two seams of a search strategy. Anything with these methods will do."""

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from oneshot_tf.space.architecture import Architecture


class Sampler(Protocol):
    """Decides which paths each ghost batch of a training step uses."""

    def sample(self, num_ghosts: int, step: tf.Tensor, seed: int) -> tf.Tensor:
        """Masks float32 `[num_ghosts, P]`: a pure function of its arguments.

        It is called on every replica for the ghost batches of the whole global
        batch; each replica takes its rows. So results don't depend on how many
        devices there are.

        A sampler may also have `progress(step)`, a number in [0, 1] that is logged, and
        `kept_share(step)`, the expected share of paths kept, from which a step decides
        whether to skip the others or to mask them.
        """


class Proposer(Protocol):
    """Decides which architectures a search evaluates."""

    def propose(self, count: int) -> list[Architecture]:
        """Up to `count` architectures not proposed before; fewer when there are no more."""

    def observe(self, architectures: Sequence[Architecture], accuracies: Sequence[float]) -> None:
        """Is told the candidate accuracies of architectures it proposed."""
