"""How are candidates found and scored? Every way to spend a search's budget.

To add a budget or an evaluator, write a function that takes a `SearchJob`, and one entry below.
"""

import contextlib
from collections.abc import Callable, Iterator

from oneshot_tf.evaluation.forward import NotFinite
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.searching.budgets import evaluate_all, race, rank_by_divergence
from oneshot_tf.searching.job import SearchJob
from oneshot_tf.searching.known_results import look_up_all
from oneshot_tf.searching.restored import learnt
from oneshot_tf.searching.sharing import check_shareable, is_planned, share, take_back
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
    with finite_weights(job):
        RANKINGS[job.settings.rank_by](job)


@contextlib.contextmanager
def finite_weights(job: SearchJob) -> Iterator[None]:
    """Names the checkpoint whose weights are too large to score candidates with."""
    try:
        yield
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


def share_work(job: SearchJob, seconds: float) -> bool:
    """Scores candidates together with other copies of the program; see `sharing.share`."""
    with finite_weights(job):
        return share(job, seconds)


__all__ = ["BUDGETS", "EVALUATORS", "RANKINGS", "SearchJob", "check_shareable", "is_planned",
           "learnt", "share_work", "take_back"]  # fmt: skip
