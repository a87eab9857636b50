"""The parts that all searches share: proposals, the file of candidates, evaluators."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from oneshot_tf.cost import counts
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.devices.distribution import is_chief, num_workers, of_all_workers
from oneshot_tf.evaluation.kl_divergence import DivergenceEvaluator, divergence_evaluator
from oneshot_tf.evaluation.shared_weights import CandidateEvaluator
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, order_key
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.search_record import MEASURES, SearchRecord
from oneshot_tf.searching.references import reference_scores
from oneshot_tf.searching.restored import restore_supernet
from oneshot_tf.settings import LocationSettings, TrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.strategies import Proposer
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.progress import Progress, tell

_BEST = "best accuracy so far"
_TOGETHER = 4  # candidates per call and replica, if there are several workers
_PROPOSALS = 64  # architectures that a proposer is asked for at a time
_MOST_REPEATS = 10_000  # proposals in a row without a new one


class SearchJob:
    """A search that adds candidates until there are enough.

    The one-shot model and the data set are loaded when an evaluator first asks for them.

    Args:
        directory: The run.
        location: Where the data set is now.
        settings: `SearchSettings`.
        record: What search.json holds.
        file: The file of candidates.
        done: The candidates that the file has, by architecture. The job adds to it.
        wanted: The number of candidates to reach.
        proposer: Decides which architectures to evaluate.
    """

    def __init__(
        self,
        *,
        directory: RunDirectory,
        location: LocationSettings,
        settings: Any,
        record: SearchRecord,
        file: CandidateFile,
        done: dict[Architecture, Candidate | None],
        wanted: int,
        proposer: Proposer,
    ):
        self.directory, self._location, self.record = directory, location, record
        self.settings, self.file, self.done, self.wanted = settings, file, done, wanted
        self.space, self.stack = directory.space(), directory.stack()
        self.num_classes = len(directory.facts()["class_names"])
        self.image_size = directory.facts()["image_size"]
        self.ghost_batch_size = directory.group(TrainSettings, "train").ghost_batch_size
        self.proposer = proposer
        known = {a: c.order for a, c in done.items() if c is not None and c.order}
        # The order of each proposal. A replay gives the same orders again.
        self.orders: dict[Architecture, int] = {} if proposer.repeatable else known
        if proposer.learns:  # it also sees candidates again whose lines were removed
            self.wanted = max(wanted, *known.values(), 0)
        # All workers evaluate the same candidates at the same time.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.together = _TOGETHER * replicas if num_workers() > 1 else None
        self.best: Candidate | None = None

    @functools.cached_property
    def supernet(self) -> Supernet:
        """The trained one-shot model."""
        return restore_supernet(self.directory)[0]

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set of the run."""
        return self.directory.load_data(self._location)

    def begin(self) -> None:
        """Marks the start on disk. Call it when all checks have passed."""
        self.record.note()
        if is_chief():
            self.directory.note_provenance("search")
        unranked = [dataclasses.replace(c, rank=0) if c.rank else c for c in self.candidates()]
        if not self.file.holds(unranked):
            self.file.write(unranked)
        if unranked:
            self._compare(min(unranked, key=order_key))

    def refresh(self) -> None:
        """Reads the candidates again, because another copy may have written them.

        Raises:
            InputError: As in `CandidateFile.read`.
        """
        self.done.clear()
        self.done.update((c.architecture, c) for c in self.file.read())

    def candidates(self) -> list[Candidate]:
        """Returns the candidates found so far."""
        return [candidate for candidate in self.done.values() if candidate is not None]

    def proposed(self) -> Iterator[list[Architecture]]:
        """Yields new architectures until there are enough candidates.

        The proposer observes every candidate in the order of its proposals, including those of
        an earlier start. So a search that resumes continues as if it had not stopped.
        """
        before, repeats = set(self.done), 0
        while (len(self.done) < self.wanted or before) and repeats < _MOST_REPEATS:
            proposed = self.proposer.propose(_PROPOSALS)
            if not proposed:
                break
            self._number(proposed)
            new = list(dict.fromkeys(a for a in proposed if a not in self.done))
            repeats = 0 if new or before.intersection(proposed) else repeats + len(proposed)
            before.difference_update(proposed)
            missing = self.wanted - len(self.done)
            if new and missing <= 0:
                break
            if new:
                yield new[:missing]
            seen = [a for a in proposed if a in self.done]
            candidates = [self.done[a] for a in seen]
            self.proposer.observe(seen, [c.candidate_accuracy if c else None for c in candidates])
        self._check_end(before, repeats)

    def _number(self, proposed: Sequence[Architecture]) -> None:
        last = max(self.orders.values(), default=0)
        for architecture in proposed:
            if architecture not in self.orders:
                last += 1
                self.orders[architecture] = last

    def _check_end(self, unknown: set[Architecture], repeats: int) -> None:
        """Says why there are fewer candidates than wanted, or which ones were never proposed."""
        if len(self.done) < self.wanted:
            reason = "found nothing new"
            if repeats >= _MOST_REPEATS:
                reason = f"repeated itself {repeats:,} times"
            print(
                f"The strategy {reason}. The search ends with {len(self.done):,} of "
                f"{self.wanted:,} candidates.",
                flush=True,
            )
        for remark in self.proposer.remarks():
            print(remark, flush=True)
        if unknown and self.proposer.learns:
            raise InputError(
                f"{len(unknown)} candidates in {self.file.path} were not proposed by this search, "
                f"for example '{min(unknown)}', so another version of the software found them. "
                "Move candidates.csv away to search anew."
            )

    def add(self, architectures: Sequence[Architecture], *columns: Sequence[Any]) -> None:
        """Writes new candidates to the file. Takes the arguments of `described`."""
        for candidate in self.described(architectures, *columns):
            self.keep(candidate)
            self.file.append(candidate)

    def keep(self, candidate: Candidate) -> None:
        """Keeps a candidate, or replaces the one of its architecture. It writes nothing."""
        self.done[candidate.architecture] = candidate
        self._compare(candidate)

    def _compare(self, candidate: Candidate) -> None:
        """Tells the best candidate so far if this is it."""
        if self.best is not None and order_key(self.best) <= order_key(candidate):
            return
        self.best, accuracy = candidate, candidate.candidate_accuracy
        value = f"divergence {candidate.divergence} nats"
        if accuracy is not None:
            value = f"{MEASURES[self.settings.evaluator]} {accuracy:.4f}"
        about = f"The best candidate so far: {value}"
        tell(architecture=str(candidate.architecture), about=about)

    def progress(self, title: str, axis: tuple[str, float] | None = None) -> Progress:
        """Returns the progress of a search, with the curve that earlier starts have measured."""
        progress = Progress(title, self.wanted, "candidates", axis=axis)
        found = sorted(self.candidates(), key=lambda c: c.order)
        scored = [c.candidate_accuracy for c in found if c.candidate_accuracy is not None]
        for number, best in enumerate(itertools.accumulate(scored, max), start=1):
            progress.point(number, **{_BEST: best})
        return progress

    def report(self, progress: Progress, text: str = "") -> None:
        """Reports the progress of a search, with the best accuracy so far."""
        best = None if self.best is None else self.best.candidate_accuracy
        if best is not None:
            text += f"best {best:.4f}"
            progress.point(len(self.done), **{_BEST: best})
        progress.update(len(self.done), text)

    def described(
        self,
        architectures: Sequence[Architecture],
        accuracies: Sequence[float | None],
        entropies: Sequence[float | None],
        images: Sequence[int],
        divergences: Sequence[float | None] | None = None,
    ) -> list[Candidate]:
        """Returns candidates with their costs.

        Args:
            architectures: The architectures of the candidates.
            accuracies: Candidate accuracies, in [0, 1].
            entropies: Mean cross-entropies, in nats.
            images: How many validation images scored each candidate.
            divergences: Divergences from the references. None if they were not measured.
        """
        net = (self.stack, self.num_classes, self.image_size)
        costs = counts.costs(self.space, architectures, *net)
        columns = zip(
            architectures,
            accuracies,
            entropies,
            images,
            *(each.tolist() for each in costs),
            divergences or [None] * len(architectures),
        )
        found = []
        for architecture, accuracy, entropy, num_images, size, adds, divergence in columns:
            parent = self.proposer.parent(architecture)
            order = self.orders.get(architecture, 0)
            origin = 0 if parent is None else self.orders.get(parent, 0)
            found.append(
                Candidate(
                    architecture, accuracy, entropy, num_images, size, adds, 0, divergence,
                    order, origin,
                )
            )  # fmt: skip
        return found

    def divergence(self) -> DivergenceEvaluator:
        """Returns the evaluator of divergences (section 5)."""
        return divergence_evaluator(
            self.supernet, self.dataset, self.ghost_batch_size, self.settings.seed
        )

    def evaluator(self, largest_chunk: int | None = None) -> CandidateEvaluator:
        """Returns the evaluator of candidates. Writes what All On scores to search.json.

        Args:
            largest_chunk: The most images per call. None takes as many as memory allows.

        Raises:
            InputError: Memory does not allow the chunks that the search began with, or those of
                the other workers.
        """
        before = self.record.values
        # Chunks of another size may round differently, and a race could not resume.
        chunk_size = before.get("chunk_size", before.get("part_size"))  # its name in old runs
        supernet = self.supernet  # loaded before the data set, which may take minutes
        evaluator = CandidateEvaluator(
            supernet,
            self.dataset.validation,
            self.dataset.normalize,
            self.ghost_batch_size,
            self.settings.max_memory_gb or None,
            chunk_size if type(chunk_size) is int and chunk_size > 0 else largest_chunk,
        )
        self._check_sizes(evaluator, chunk_size)
        facts = reference_scores(evaluator, self.proposer)
        self.record.note(**facts, chunk_size=evaluator.chunk_size)
        return evaluator

    def _check_sizes(self, evaluator: CandidateEvaluator, chunk_size: int | None) -> None:
        sizes = of_all_workers(evaluator.chunk_size)
        if len(set(sizes)) > 1:
            raise InputError(
                f"The workers in TF_CONFIG have memory for {sizes} images per call. Give all of "
                "them the same --max_memory_gb, small enough for each."
            )
        if self.done and chunk_size not in (None, evaluator.chunk_size):
            raise InputError(
                f"The search in {self.directory.searched} began with {chunk_size} images per call; "
                f"now {evaluator.chunk_size} fit into memory. Give a larger --max_memory_gb, or "
                "move candidates.csv and race.npz away to start anew."
            )
