"""Who decides? Samplers choose the paths to train, proposers the architectures to evaluate.

To add a strategy, write one file with its class and its settings, and one entry below.
"""

import collections

from oneshot_tf.strategies.darts import Darts, DartsSettings
from oneshot_tf.strategies.enas import Enas, EnasSettings
from oneshot_tf.strategies.evolution import Evolution, EvolutionSettings, TournamentSettings
from oneshot_tf.strategies.genetic import Genetic, GeneticSettings
from oneshot_tf.strategies.gumbel import Gumbel, GumbelSettings
from oneshot_tf.strategies.learnt import Learnt, LearntSettings
from oneshot_tf.strategies.path_dropout import PathDropout, PathDropoutSettings
from oneshot_tf.strategies.policy_search import NasRl, NasRlSettings, Ppo, PpoSettings
from oneshot_tf.strategies.predictor import Predictor, PredictorSettings
from oneshot_tf.strategies.protocols import Learner, Outcome, Proposer, Sampler, Strategy
from oneshot_tf.strategies.q_learning import QLearning, QLearningSettings
from oneshot_tf.strategies.random_search import Listed, RandomSearch, RandomSearchSettings
from oneshot_tf.strategies.single_path import SinglePath, SinglePathSettings

# `train --strategy=NAME`: samplers choose the paths that each ghost batch trains.
SAMPLERS = {
    "path_dropout": Strategy(PathDropoutSettings, PathDropout.from_settings),
    "single_path": Strategy(SinglePathSettings, SinglePath.from_settings),
}

# `train --strategy=NAME`: samplers with variables, which are trained on held-out images.
LEARNERS = {
    "darts": Strategy(DartsSettings, Darts.from_settings),
    "enas": Strategy(EnasSettings, Enas),
    "gumbel": Strategy(GumbelSettings, Gumbel),
}

# A view of both, so that it has what users add to them.
STRATEGIES = collections.ChainMap(LEARNERS, SAMPLERS)
DEFAULT_STRATEGY = "path_dropout"

# `search --strategy=NAME`: proposers choose the architectures to evaluate.
PROPOSERS = {
    "random": Strategy(RandomSearchSettings, RandomSearch.from_settings),
    "evolution": Strategy(EvolutionSettings, Evolution.from_settings),
    "tournament": Strategy(TournamentSettings, Evolution.from_settings),
    "genetic": Strategy(GeneticSettings, Genetic),
    "q_learning": Strategy(QLearningSettings, QLearning),
    "nas_rl": Strategy(NasRlSettings, NasRl),
    "ppo": Strategy(PpoSettings, Ppo),
    "predictor": Strategy(PredictorSettings, Predictor),
}

__all__ = [
    "DEFAULT_STRATEGY",
    "Darts",
    "DartsSettings",
    "Enas",
    "EnasSettings",
    "LEARNERS",
    "PROPOSERS",
    "SAMPLERS",
    "STRATEGIES",
    "Evolution",
    "EvolutionSettings",
    "Genetic",
    "GeneticSettings",
    "Gumbel",
    "GumbelSettings",
    "Learner",
    "Learnt",
    "LearntSettings",
    "Listed",
    "NasRl",
    "NasRlSettings",
    "Outcome",
    "PathDropout",
    "PathDropoutSettings",
    "Ppo",
    "PpoSettings",
    "Predictor",
    "PredictorSettings",
    "Proposer",
    "QLearning",
    "QLearningSettings",
    "RandomSearch",
    "RandomSearchSettings",
    "Sampler",
    "SinglePath",
    "SinglePathSettings",
    "Strategy",
    "TournamentSettings",
]
