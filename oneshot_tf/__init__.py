"""One-shot neural architecture search in TensorFlow, after Bender et al. 2018.

    import oneshot_tf as ost

One model with shared weights holds every architecture of a search space;
candidates are ranked by those weights, and the best are trained alone. README.md
has the workflow, the programs and the glossary.
"""

from oneshot_tf.system import start as _start  # noqa: F401  # before TensorFlow is imported

# isort: split
from oneshot_tf.cost.counts import multiply_adds, parameters
from oneshot_tf.data.dataset import Dataset, Split, make_dataset
from oneshot_tf.data.sources import load_data
from oneshot_tf.evaluation.kl_divergence import DivergenceEvaluator
from oneshot_tf.evaluation.shared_weights import (
    CandidateEvaluator,
    Score,
    evaluate,
    evaluate_standalone,
)
from oneshot_tf.learning.loop import fit_standalone, fit_supernet
from oneshot_tf.learning.losses import masked_l2
from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.serving.saved_model import write_saved_model
from oneshot_tf.settings import TrainSettings
from oneshot_tf.space.architecture import Architecture, Choice
from oneshot_tf.space.cell_space import CellSpace, bender2018
from oneshot_tf.space.stacking import Stack
from oneshot_tf.strategies import PathDropout, RandomSearch
from oneshot_tf.system.errors import InputError

__all__ = [
    "Architecture",
    "CandidateEvaluator",
    "CellSpace",
    "Choice",
    "Dataset",
    "DivergenceEvaluator",
    "GhostBatchNorm",
    "InputError",
    "PathDropout",
    "RandomSearch",
    "Score",
    "Split",
    "Stack",
    "Standalone",
    "Supernet",
    "TrainSettings",
    "bender2018",
    "evaluate",
    "evaluate_standalone",
    "fit_standalone",
    "fit_supernet",
    "load_data",
    "make_dataset",
    "masked_l2",
    "multiply_adds",
    "parameters",
    "write_saved_model",
]
