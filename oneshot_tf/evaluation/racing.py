"""Races candidates: those that can hardly be among the best stop early.

All candidates are scored on the same images in the same order. So two candidates are compared
image by image, and it does not matter how easy or hard an image is. The result is exact once
all images have been seen.

The probability of the right class tells more than a hit or a miss. So the first round also predicts
the accuracy of each candidate from its probabilities, and a bad one stops after fewer images.
"""

import math
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.evaluation.chances import chances, evidence, noise_of, predicted
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.array_files import read_arrays, write_arrays
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.interrupts import uninterrupted
from oneshot_tf.system.json_files import check_run
from oneshot_tf.system.progress import pieces

_FIRST_IMAGES = 128
_GROWTH = 1.25
_SAVE_SECONDS = 20.0
_HIT = np.uint8(128)


class Race:
    """A race that can be interrupted and resumed. `run()` runs it to the end.

    Each round scores the running candidates on more images. Then the candidates with the lowest
    `chances` stop. A round may stop as many as keep the expected number of true winners among
    all stopped candidates below a part of (1 - confidence) * keep. The part grows evenly over
    the rounds and is 1 in the last one. The expectation holds for any distribution of
    accuracies, but it is an estimate; see `chances`.

    Args:
        path: The .npz file of its state. A race found there resumes.
        evaluator: A `CandidateEvaluator`.
        architectures: The candidates. Those of a race found in the file must come first, in the
            same order.
        keep: How many of the best candidates are wanted.
        confidence: The share of the true best that is expected to be scored on all images, in
            (0, 1).
        writes: False in workers that write no files.
        together: Candidates scored per call if there are several workers; None if there is one.
        run_id: The id of the run. A file of another run is refused. None accepts any.

    Attributes:
        seen: Int64 `[A]`, the number of images that scored each candidate.
        num_right: Int64 `[A]`, how many of these images each candidate classifies correctly.
        entropy: Float64 `[A]`, the sum of each candidate's cross-entropies over these images.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        evaluator: Any,
        architectures: Sequence[Architecture],
        keep: int,
        confidence: float,
        *,
        writes: bool = True,
        together: int | None = None,
        run_id: str | None = None,
    ):
        self.path, self._writes, self._together = pathlib.Path(path), writes, together
        self._run_id = run_id
        self.evaluator, self.architectures = evaluator, list(architectures)
        self.keep, self.confidence = keep, confidence
        count, images = len(self.architectures), evaluator.num_images
        # Per image: 128 for a hit, plus the probability of the right class in steps of 1/127.
        self._outcomes = np.zeros([count, images], np.uint8)
        self.seen, self.entropy = np.zeros(count, np.int64), np.zeros(count)
        self.running = np.ones(count, bool)
        self._lost = np.zeros(count)  # chances of candidates when they stopped
        self._finished_rounds = np.zeros((), np.int64)
        # One value per round; see `_stop_some`.
        rounds = len(self._rounds())
        self._noise, self._shift, self._expected = np.zeros([3, rounds])
        self._predicted: np.ndarray | None = None
        if self.path.exists():
            self._restore()
        self._saved = time.monotonic()

    @property
    def num_right(self) -> np.ndarray:
        """The number of images that each candidate classifies correctly, int64 `[A]`."""
        return (self._outcomes >= _HIT).sum(axis=1, dtype=np.int64)

    @property
    def cost(self) -> float:
        """Image evaluations so far, as a share of those of all candidates on all images."""
        return float(self.seen.sum()) / (len(self.seen) * self.evaluator.num_images)

    def run(self, report: Callable[[int, int, int, int], None]) -> None:
        """Runs the race to its end.

        Args:
            report: Called as `report(round, rounds, todo, done)` several times in each round.
                `todo` candidates are scored in this round, and `done` of them are finished.

        Raises:
            KeyboardInterrupt: The race was interrupted. The state was saved.
        """
        try:
            self._run(report)
        except KeyboardInterrupt:
            self._save()
            raise

    def _run(self, report: Callable[[int, int, int, int], None]):
        rounds = self._rounds()
        for number, images in enumerate(rounds):
            todo = np.flatnonzero(self.running & (self.seen < images))
            done = 0
            for rows in pieces(todo, self._together):
                self._measure(rows, images)
                done += len(rows)
                if time.monotonic() - self._saved > _SAVE_SECONDS:
                    self._save()
                report(number, len(rounds), len(todo), done)
            # A race killed between scoring and stopping has nothing to score in this round, but
            # still has to stop candidates.
            if len(todo) or number >= self._finished_rounds:
                with uninterrupted():
                    self._stop_some(number)
                    self._finished_rounds[...] = np.maximum(self._finished_rounds, number + 1)
                    self._save()

    def _rounds(self) -> list[int]:
        """Returns how many images are seen by the end of each round, in whole chunks."""
        chunk, total = self.evaluator.chunk_size, self.evaluator.num_images
        ends: list[int] = []
        images = float(_FIRST_IMAGES)
        while not ends or ends[-1] < total:
            end = min(total, math.ceil(images / chunk) * chunk)
            if not ends or end > ends[-1]:
                ends.append(end)
            images *= _GROWTH
        return ends

    def _measure(self, rows: np.ndarray, images: tf.Tensor):
        """Scores candidates on the images that they have not seen, up to `images`."""
        chunk = self.evaluator.chunk_size
        for seen in np.unique(self.seen[rows]):
            some = rows[self.seen[rows] == seen]
            chunks = range(seen // chunk, -(-images // chunk))
            hits, losses = self.evaluator.outcomes([self.architectures[i] for i in some], chunks)
            new = _HIT * hits + np.rint(np.exp(-losses) * (_HIT - 1)).astype(np.uint8)
            with uninterrupted():
                self._outcomes[some, seen:images] = new
                self.entropy[some] += losses.sum(axis=1, dtype=np.float64)
                self.seen[some] = images

    def _stop_some(self, number: int):
        """Stops the candidates with the lowest chances, within the allowance of this round.

        Candidates that stopped early have seen other images, perhaps easier ones. `_shift`
        corrects for this. It is one value per round: the accuracy that the candidates of the
        round were expected to reach on its new images, minus the accuracy that they reached.
        """
        ends = self._rounds()
        images = ends[number]
        if images >= self.evaluator.num_images or len(self.running) <= self.keep:
            return
        running = np.flatnonzero(self.running)
        if not self._noise[number]:  # else it is known from a race with fewer candidates
            hits, probabilities = _decoded(self._outcomes[running, :images])
            self._noise[number] = noise_of(hits, probabilities, self.keep).ratio
            if number:
                found = hits[:, ends[number - 1] :].mean()
                self._shift[number] = self._expected[number - 1] - found
        chance, unseen = self._chances()
        order = running[np.argsort(chance[running], kind="stable")]
        allowed = (1.0 - self.confidence) * self.keep * (number + 1) / len(ends)
        # Where candidates have joined, others stopped in rounds that are still to come.
        allowance = allowed - self._lost[~self.running & (self.seen <= images)].sum()
        count = int(np.searchsorted(np.cumsum(chance[order]), allowance))
        stopped = order[: max(0, min(count, len(running) - self.keep))]
        self._lost[stopped] = chance[stopped]
        self.running[stopped] = False
        self._expected[number] = unseen[self.running].mean()

    def _chances(self):
        """Returns chances and expected accuracies, from all rounds whose shift is known.

        Returns:
            The `chances`, float `[A]`, and the accuracy expected on the unseen images,
            float `[A]`. For a candidate that was lucky so far, the second is lower than the
            accuracy expected on all images.
        """
        ends = np.array(self._rounds())
        # The shift of the last round is never computed.
        seen = np.minimum(self.seen, ends[np.count_nonzero(self._noise) - 1])
        rounds = np.searchsorted(ends, seen)
        right = np.zeros(len(seen))
        for images in np.unique(seen):
            rows = seen == images
            right[rows] = (self._outcomes[rows, :images] >= _HIT).sum(axis=1)
        shifts = np.cumsum(self._shift * np.diff(ends, prepend=0))[rounds]
        rates = (right + shifts) / seen
        rest = np.maximum(1.0 - seen / self.evaluator.num_images, 1e-3)
        if self._predicted is None:
            self._predicted = self._predict(ends[0])
        images = seen / (self._noise[rounds] * rest)
        chance, accuracy = chances(rates, images, self.keep, self._predicted)
        return chance, np.where(rest > 1e-3, rates + (accuracy - rates) / rest, accuracy)

    def _predict(self, images: int) -> np.ndarray:
        """Returns the accuracies that are expected given the first round, which all have seen.

        They are all the same if predictions mislead: if they make the hits less likely.
        """
        hits, probabilities = _decoded(self._outcomes[:, :images])
        found = predicted(hits, probabilities, self.keep)
        rates = hits.mean(axis=1)
        unseen = max(1.0 - images / self.evaluator.num_images, 1e-3)
        worth = np.full(len(rates), images / (self._noise[0] * unseen))
        likely = [evidence(rates, worth, self.keep, each) for each in (found, None)]
        return found if likely[0] > likely[1] else np.full(len(rates), rates.mean())

    def _save(self):
        self._saved = time.monotonic()
        if not self._writes:
            return
        names = np.array([str(a) for a in self.architectures])
        write_arrays(
            self.path,
            {"architectures": names, "seen": self.seen, "outcomes": self._seen_outcomes(),
             "entropy": self.entropy, "running": self.running, "noise": self._noise,
             "shift": self._shift, "expected": self._expected, "lost": self._lost,
             "finished_rounds": self._finished_rounds, "run_id": np.array(self._run_id or "")},
        )  # fmt: skip

    def _seen_outcomes(self) -> np.ndarray:
        """Returns the outcomes of seen images, one candidate after the other, uint8 `[n]`."""
        return self._outcomes[np.arange(self._outcomes.shape[1]) < self.seen[:, None]]

    def _restore(self):
        state = read_arrays(self.path)
        if "outcomes" not in state and ("lost" in state or "bits" in state):
            raise InputError(
                f"{self.path} was written by an older version, whose races had other rules. Move "
                "it and candidates.csv away to start the race anew."
            )
        check_run(self.path, {"run_id": str(state.get("run_id", "")) or None}, self._run_id)
        names = state.get("architectures", np.zeros(0)).tolist()
        if not isinstance(names, list) or names != [
            str(a) for a in self.architectures[: len(names)]
        ]:
            raise InputError(
                f"{self.path} holds a race of other candidates. Remove it to start the race anew."
            )
        count = len(names)
        for name, own in (
            ("seen", self.seen[:count]), ("lost", self._lost[:count]),
            ("entropy", self.entropy[:count]), ("running", self.running[:count]),
            ("noise", self._noise), ("shift", self._shift), ("expected", self._expected),
            ("finished_rounds", self._finished_rounds),
        ):  # fmt: skip
            found = state.get(name)
            same = found is not None and (found.shape, found.dtype) == (own.shape, own.dtype)
            if found is None or not same or not np.isfinite(found).all():
                raise InputError(
                    f"{self.path} is damaged, or was made with another number of validation images "
                    f"('{name}'). Remove it to start the race anew."
                )
            np.copyto(own, found)
        # Among more candidates, the stopped ones have a smaller chance to be among the best.
        self._lost *= count / len(self._lost)
        self._restore_outcomes(state.get("outcomes"))
        ends = [0, *self._rounds()]
        if not np.isin(self.seen, ends).all() or not 0 <= self._finished_rounds < len(ends):
            raise InputError(
                f"{self.path} holds a race with other rounds. Remove it to start the race anew."
            )
        if (self.entropy < 0).any() or (self._lost < 0).any() or (self._lost > 1).any():
            raise InputError(
                f"{self.path} is damaged: a cross-entropy cannot be negative, and a chance is from "
                "0 to 1. Remove it to start the race anew."
            )

    def _restore_outcomes(self, found: np.ndarray | None) -> None:
        images = self._outcomes.shape[1]
        fits = ((self.seen >= 0) & (self.seen <= images)).all()
        seen = np.arange(images) < self.seen[:, None]
        if not fits or found is None or found.dtype != np.uint8 or found.shape != (seen.sum(),):
            raise InputError(
                f"{self.path} is damaged: it must have an outcome for each image that was seen. "
                "Remove it to start the race anew."
            )
        self._outcomes[seen] = found


def _decoded(outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns hits, bool, and probabilities of the right class, float32."""
    return outcomes >= _HIT, (outcomes % _HIT).astype(np.float32) / (_HIT - 1)
