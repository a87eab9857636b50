"""How are candidates found and scored? Every way to spend a search's budget.

To add a budget, write a function that takes a `SearchJob`, and one entry below.
"""

from collections.abc import Callable

from oneshot_tf.searching.budgets import evaluate_all, race, rank_by_divergence
from oneshot_tf.searching.job import SearchJob

Budget = Callable[[SearchJob], None]

# `search --budget=NAME`: how many images score each candidate.
BUDGETS: dict[str, Budget] = {"full": evaluate_all, "race": race}

# `search --rank_by=NAME`: how candidates are ranked.
RANKINGS: dict[str, Budget] = {
    "accuracy": lambda job: BUDGETS[job.settings.budget](job),
    "kl": rank_by_divergence,
}

__all__ = ["BUDGETS", "RANKINGS", "SearchJob"]
