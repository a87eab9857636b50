"""Search with a surrogate, which is learnt from the candidates scored so far."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from oneshot_tf.settings import StrategySettings, setting
from oneshot_tf.space import decisions
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.limited import SearchSpace
from oneshot_tf.strategies.protocols import Proposer
from oneshot_tf.strategies.surrogate import Surrogate

_ELITE = 20  # the best so far, whose neighbours are in the pool
_TRIES = 1000  # draws of a new architecture


def expected_improvement(
    mean: np.ndarray, error: np.ndarray, best: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns by how much each architecture is expected to exceed the best prediction so far."""
    from scipy.special import ndtr  # here, so that other programs start faster

    error = np.maximum(error, 1e-12)
    z = (mean - best) / error
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return error * (z * ndtr(z) + density)


def thompson(
    mean: np.ndarray, error: np.ndarray, best: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns a draw from the distribution of each prediction."""
    return rng.normal(mean, error)


ACQUISITIONS = {"expected_improvement": expected_improvement, "thompson": thompson}


@dataclasses.dataclass(frozen=True)
class PredictorSettings(StrategySettings):
    """Predictor."""

    strategy: str = setting(
        "predictor", "How the search chooses architectures.", choices=("predictor",)
    )
    first_random: int = setting(
        100, "Number of random architectures before the first prediction.", least=2
    )
    batch: int = setting(
        32, "Number of architectures proposed before the predictor learns again.", least=1
    )
    pool: int = setting(
        2000, "Number of architectures whose accuracy is predicted for each batch.", least=1
    )
    random_share: float = setting(
        0.2, "Share of random architectures in each batch.", least=0.0, most=1.0
    )
    acquisition: str = setting(
        "expected_improvement",
        "Criterion that chooses from the pool. expected_improvement: how much an architecture is "
        "expected to exceed the best. thompson: a random draw from each prediction.",
        choices=tuple(ACQUISITIONS),
    )


class Predictor(Proposer):
    """Proposes the architectures that a surrogate expects to be the best.

    Half of the pool is random, the other half are mutations of the best architectures so far. It
    never repeats an architecture.

    Args:
        space: The search space.
        settings: The sizes and the criterion.
        seed: The seed of all draws.

    Attributes:
        surrogate: The `Surrogate` of the last batch.
    """

    learns = True

    def __init__(self, space: SearchSpace, settings: PredictorSettings, seed: int = 0):
        self.space, self.settings = space, settings
        self.surrogate = Surrogate()
        self._rng = np.random.default_rng(seed)
        self._seen: set[Architecture] = set()
        self._scored: list[Architecture] = []
        self._accuracies: list[float] = []
        self._parents: dict[Architecture, Architecture] = {}
        self._pool_parents: dict[Architecture, Architecture] = {}

    @property
    def limit(self) -> int:
        """The number of architectures in the space."""
        return self.space.num_architectures

    def propose(self, count: int) -> list[Architecture]:
        """Returns random architectures first, then batches from the pool."""
        missing = self.settings.first_random - len(self._scored)
        if missing > 0 or len(self._scored) < 2:
            return self._new(self._random, min(count, max(missing, 2)))
        size = min(count, self.settings.batch)
        random = int(self._rng.binomial(size, self.settings.random_share))
        return self._from_pool(size - random) + self._new(self._random, random)

    def observe(
        self, architectures: Sequence[Architecture], accuracies: Sequence[float | None]
    ) -> None:
        """Adds to what the surrogate learns from."""
        self._scored += architectures
        self._accuracies += [float(accuracy or 0.0) for accuracy in accuracies]

    def parent(self, architecture: Architecture) -> Architecture | None:
        """Returns the architecture that a mutation came from; None for random ones."""
        return self._parents.get(architecture)

    def _from_pool(self, count: int) -> list[Architecture]:
        """Returns the best `count` of the pool, as the criterion has it."""
        if not count:
            return []
        scored = self._masks(self._scored)
        self.surrogate.fit(scored, np.array(self._accuracies))
        self._pool_parents.clear()
        seen = set(self._seen)
        half = self.settings.pool // 2
        pool = self._new(self._random, self.settings.pool - half) + self._new(self._mutant, half)
        self._seen = seen  # only what is proposed counts as seen
        if not pool:
            return []
        best = float(self.surrogate.predict(scored)[0].max())
        mean, error = self.surrogate.predict(self._masks(pool))
        value = ACQUISITIONS[self.settings.acquisition](mean, error, best, self._rng)
        chosen = [pool[i] for i in np.argsort(-value, kind="stable")[:count]]
        self._seen.update(chosen)
        parents = self._pool_parents
        self._parents.update({a: parents[a] for a in chosen if a in parents})
        return chosen

    def _masks(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Returns the masks of architectures: float32 `[A, P]`."""
        genes = np.array([self.space.genes(a) for a in architectures])
        columns = [d.options[g] for d, g in zip(self.space.decisions, genes.T)]
        return np.concatenate(columns, axis=1)

    def _new(self, draw: Callable[[], Architecture], count: int) -> list[Architecture]:
        """Returns up to `count` architectures not seen before; fewer if draws repeat."""
        found: list[Architecture] = []
        tries = 0
        while len(found) < count and tries < _TRIES:
            architecture = draw()
            tries += 1
            if architecture not in self._seen and self.space.allows(architecture):
                self._seen.add(architecture)
                found.append(architecture)
                tries = 0
        return found

    def _random(self) -> Architecture:
        return self.space.sample(self._rng)

    def _mutant(self) -> Architecture:
        """Returns a neighbour of one of the best, or a neighbour's neighbour, and so on."""
        order = np.argsort(-np.array(self._accuracies), kind="stable")[:_ELITE]
        parent = self._scored[int(order[self._rng.integers(len(order))])]
        genes = self.space.genes(parent)
        for _ in range(int(self._rng.geometric(0.5))):
            genes = decisions.mutate(self.space.decisions, genes, self._rng)
        child = self.space.architecture(genes)
        if child != parent:
            self._pool_parents.setdefault(child, parent)
        return child
