"""One-shot neural architecture search in TensorFlow, after Bender et al. 2018.

    import oneshot_tf as ost

The one-shot model has shared weights and contains every architecture of a search space. A search
ranks candidates with these weights. The best candidates are trained alone, from scratch, and
served.
"""

from oneshot_tf.system import start as _start  # noqa: F401  # before TensorFlow is imported

# isort: split
# ruff: isort: off
# Data.
from oneshot_tf.data.sources import load_data
from oneshot_tf.data.dataset import Dataset, Split, make_dataset

# Search spaces, and the costs of architectures.
from oneshot_tf.space.cell_space import CellSpace, bender2018
from oneshot_tf.space.chain_space import ChainSpace, digits_chain, mobile_chain
from oneshot_tf.space.layer import Layer
from oneshot_tf.space.architecture import Architecture, Choice
from oneshot_tf.space.stacking import Stack
from oneshot_tf.cost.counts import multiply_adds, parameters

# The one-shot model and its training.
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.strategies import Learner, PathDropout, Sampler
from oneshot_tf.settings import DeviceSettings, FinalSettings, TrainSettings
from oneshot_tf.learning.fitting import fit_standalone, fit_supernet

# Search: proposers and evaluators.
from oneshot_tf.strategies import Proposer, RandomSearch
from oneshot_tf.evaluation.shared_weights import (
    CandidateEvaluator,
    Score,
    evaluate,
    evaluate_standalone,
)
from oneshot_tf.evaluation.kl_divergence import DivergenceEvaluator

# Stand-alone models, and serving them.
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.serving.saved_model import write_saved_model

# Parts for other models.
from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm
from oneshot_tf.learning.losses import masked_l2
from oneshot_tf.system.errors import InputError

__version__ = "0.2.0"

__all__ = [
    "load_data",
    "Dataset",
    "Split",
    "make_dataset",
    "bender2018",
    "CellSpace",
    "ChainSpace",
    "Layer",
    "digits_chain",
    "mobile_chain",
    "Architecture",
    "Choice",
    "Stack",
    "parameters",
    "multiply_adds",
    "Supernet",
    "Sampler",
    "Learner",
    "PathDropout",
    "TrainSettings",
    "DeviceSettings",
    "FinalSettings",
    "fit_supernet",
    "Proposer",
    "RandomSearch",
    "evaluate",
    "Score",
    "CandidateEvaluator",
    "DivergenceEvaluator",
    "Standalone",
    "fit_standalone",
    "evaluate_standalone",
    "write_saved_model",
    "GhostBatchNorm",
    "masked_l2",
    "InputError",
]
