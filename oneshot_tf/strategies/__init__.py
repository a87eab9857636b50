"""Strategies. They decide which paths to train and which architectures to evaluate.

To add a strategy, write one file with its class and its settings, and one entry below.
"""

from oneshot_tf.strategies.path_dropout import PathDropout, PathDropoutSettings
from oneshot_tf.strategies.protocols import Proposer, Sampler, Strategy
from oneshot_tf.strategies.random_search import Listed, RandomSearch, RandomSearchSettings

# `train --strategy=NAME`: samplers choose the paths that each ghost batch trains.
SAMPLERS = {"path_dropout": Strategy(PathDropoutSettings, PathDropout.from_settings)}

# `train --strategy=NAME`: samplers with variables, which are trained on held-out images.
LEARNERS: dict[str, Strategy] = {}

STRATEGIES = {**SAMPLERS, **LEARNERS}
DEFAULT_STRATEGY = "path_dropout"

# `search --strategy=NAME`: proposers choose the architectures to evaluate.
PROPOSERS = {"random": Strategy(RandomSearchSettings, RandomSearch.from_settings)}

__all__ = [
    "DEFAULT_STRATEGY",
    "LEARNERS",
    "PROPOSERS",
    "SAMPLERS",
    "STRATEGIES",
    "Listed",
    "PathDropout",
    "PathDropoutSettings",
    "Proposer",
    "RandomSearch",
    "RandomSearchSettings",
    "Sampler",
    "Strategy",
]
