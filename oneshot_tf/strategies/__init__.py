"""Who decides: which paths to train, which architectures to evaluate."""

from oneshot_tf.strategies.path_dropout import PathDropout
from oneshot_tf.strategies.random_search import Listed, RandomSearch

__all__ = ["Listed", "PathDropout", "RandomSearch"]
