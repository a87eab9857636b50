"""How are candidates found and scored? Every way to spend a search's budget.

To add a budget or an evaluator, write a function that takes a `SearchJob`, and one entry below.
"""

from collections.abc import Callable

from oneshot_tf.evaluation.forward import NotFinite
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.searching.budgets import evaluate_all, race, rank_by_divergence
from oneshot_tf.searching.job import SearchJob
from oneshot_tf.searching.known_results import look_up_all
from oneshot_tf.searching.stand_alone import train_all
from oneshot_tf.settings import OneShotSettings
from oneshot_tf.system.errors import InputError

Budget = Callable[[SearchJob], None]

# `search --budget=NAME`: how many images score each candidate.
BUDGETS: dict[str, Budget] = {"full": evaluate_all, "race": race}

# `search --rank_by=NAME`: how candidates are ranked.
RANKINGS: dict[str, Budget] = {
    "accuracy": lambda job: BUDGETS[job.settings.budget](job),
    "kl": rank_by_divergence,
}


def use_shared_weights(job: SearchJob) -> None:
    """Scores candidates with the weights of the one-shot model (section 3.3)."""
    try:
        RANKINGS[job.settings.rank_by](job)
    except NotFinite as error:
        step = job.directory.group(OneShotSettings, "one_shot").train_steps
        checkpoint = Checkpoints(job.directory.path / "checkpoints").path(step)
        raise InputError(f"{checkpoint} cannot be searched. {error}") from None


# `search --evaluator=NAME`: what scores a candidate.
EVALUATORS: dict[str, Budget] = {
    "shared": use_shared_weights,
    "stand_alone": train_all,
    "table": look_up_all,
}

__all__ = ["BUDGETS", "EVALUATORS", "RANKINGS", "SearchJob"]
