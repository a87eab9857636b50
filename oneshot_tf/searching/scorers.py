"""What one copy of a shared search does with a block of candidates."""

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.searching.budgets import full_scores
from oneshot_tf.searching.job import SearchJob
from oneshot_tf.searching.stand_alone import Trial
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.claims import Claim
from oneshot_tf.system.files import make_folder, remove_folder, remove_leftovers
from oneshot_tf.system.progress import pieces

_BLOCK_SECONDS = 10.0  # a block should take about this time
_LEAST_BLOCKS = 32  # so that copies which begin later find work
_MEASURE_SECONDS = 1.0


class Scorer(Protocol):
    """Scores candidates for one copy of a shared search."""

    def load(self) -> None:
        """Loads what scoring needs, at the same time as other copies."""

    def start(self) -> None:
        """Prepares for scoring, and adds facts to the record of the search."""

    def block_size(self, todo: Sequence[Architecture]) -> int:
        """Returns the number of candidates in a block."""

    def score(self, block: Sequence[Architecture], claim: Claim | None) -> list[Candidate]:
        """Returns the scored candidates of a block, in order."""

    def clean(self, block: Sequence[Architecture]) -> None:
        """Removes what scoring left on disk. The result of the block has been written."""


class SharedWeights:
    """Scores candidates with the weights of the one-shot model, as `evaluate_all` does."""

    def __init__(self, job: SearchJob):
        self.job = job

    def load(self) -> None:
        """Loads the one-shot model and the data set."""
        self._loaded = self.job.supernet, self.job.dataset

    def start(self) -> None:
        """Builds the evaluators. Scores All On."""
        self._evaluator, self._divergence = self.job.evaluator(), self.job.divergence()

    def block_size(self, todo: Sequence[Architecture]) -> int:
        """Returns how many candidates take about ten seconds here."""
        self.score(todo[:1], None)  # traces graphs
        count, took = 1, 0.0
        while took < _MEASURE_SECONDS and count < len(todo):
            count, began = 4 * count, time.monotonic()
            self.score(todo[:count], None)
            took = time.monotonic() - began
        each = max(took, 1e-6) / min(count, len(todo))
        return max(1, min(int(_BLOCK_SECONDS / each), math.ceil(len(todo) / _LEAST_BLOCKS)))

    def score(self, block: Sequence[Architecture], claim: Claim | None) -> list[Candidate]:
        """Scores candidates on all validation images."""
        found: list[Candidate] = []
        for chunk in pieces(block, self.job.together):
            columns = full_scores(self._evaluator, self._divergence, chunk)
            found += self.job.described(chunk, *columns)
        return found

    def clean(self, block: Sequence[Architecture]) -> None:
        """Does nothing: scoring leaves nothing on disk."""


class StandAlone:
    """Trains candidates from scratch, as `train_all` does. A block is one candidate."""

    def __init__(self, job: SearchJob):
        self.job = job

    def load(self) -> None:
        """Loads the data set."""
        self._loaded = self.job.dataset

    def start(self) -> None:
        """Checks the settings of training."""
        self._trial = Trial(self.job)

    def block_size(self, todo: Sequence[Architecture]) -> int:
        """Returns 1."""
        return 1

    def score(self, block: Sequence[Architecture], claim: Claim | None) -> list[Candidate]:
        """Trains candidates, or resumes their training, and scores them."""
        before_write = claim.check if claim else None
        found: list[Candidate] = []
        for architecture in block:
            print(f"Candidate {architecture}", flush=True)
            remove_leftovers(make_folder(self._trial.folder_of(architecture)))
            score = self._trial.score(architecture, before_write)
            columns = [score.accuracy], [score.cross_entropy], [score.num_images]
            found += self.job.described([architecture], *columns)
        return found

    def clean(self, block: Sequence[Architecture]) -> None:
        """Removes the checkpoints of the candidates."""
        for architecture in block:
            remove_folder(self._trial.folder_of(architecture))


# `search --evaluator=NAME --share_work`: what scores the candidates of a block.
SCORERS: dict[str, Any] = {"shared": SharedWeights, "stand_alone": StandAlone}
