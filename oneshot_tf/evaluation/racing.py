"""Racing: candidates that can hardly be among the best any more stop early.

All candidates are measured on the same images in the same order. So two of them
are compared image by image, which takes out what makes an image easy or hard,
and once all images were seen, the outcome is exact.
"""

import math
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.evaluation.chances import chances, noise_ratio
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.array_files import read_arrays, write_arrays
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.interrupts import uninterrupted
from oneshot_tf.system.json_files import check_run
from oneshot_tf.system.progress import pieces

_FIRST_IMAGES = 128
_GROWTH = 1.25
_SAVE_SECONDS = 20.0


class Race:
    """A race that can be interrupted: `run()`.

    Rounds go on over growing shares of the images. After each, those with the
    least `chances` stop, as many as keep the expected number of true winners among
    all that stopped within a part of (1 - confidence) * keep. The part grows evenly
    over the rounds and is 1 in the last one. The expectation holds for any
    distribution of accuracies, but it is an estimate: see `chances`.

    Args:
        path: file of its state, an .npz; a race found there goes on.
        evaluator: a `CandidateEvaluator`.
        architectures: the candidates. Those of the race found must come first, in the same order.
        keep: how many of the best are wanted.
        confidence: in (0, 1), what share of the true best is expected to be measured on
            all images.
        writes: False in processes that only take part.
        together: candidates measured at a time where several processes take part; None alone.
        run_id: of the run, which the file must be of; None where nobody knows.

    Attributes:
        seen: int64 `[A]`, images on which each was measured.
        num_right: int64 `[A]`, how many of them it has right.
        entropy: float64 `[A]`, the sum of its cross-entropies over them.
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
        self._bits = np.zeros([count, -(-images // 8)], np.uint8)
        self.seen, self.entropy = np.zeros(count, np.int64), np.zeros(count)
        self.running = np.ones(count, bool)
        self._finished_rounds = np.zeros((), np.int64)
        # Of each round: see `_stop_some`.
        rounds = len(self._rounds())
        self._noise, self._shift, self._expected = np.zeros([3, rounds])
        if self.path.exists():
            self._restore()
        self._saved = time.monotonic()

    @property
    def num_right(self) -> np.ndarray:
        return np.unpackbits(self._bits, axis=1).sum(axis=1, dtype=np.int64)

    @property
    def cost(self) -> float:
        """The share of image evaluations done, of all candidates on all images."""
        return float(self.seen.sum()) / (len(self.seen) * self.evaluator.num_images)

    def run(self, report: Callable[[int, int, int, int], None]) -> None:
        """Goes on to the end.

        Args:
            report: `report(round, rounds, todo, done)`, called after each piece of a round:
                numbers of candidates to measure in this round, and measured.

        Raises:
            KeyboardInterrupt: interrupted; the state was saved.
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
            # Also where all were measured, but it was killed before any stopped.
            if len(todo) or number >= self._finished_rounds:
                with uninterrupted():
                    self._stop_some(number)
                    self._finished_rounds[...] = np.maximum(self._finished_rounds, number + 1)
                    self._save()

    def _rounds(self) -> list[int]:
        """Images seen at the end of each round: whole chunks of the evaluator."""
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
        """Brings candidates from what each has seen to `images`."""
        chunk = self.evaluator.chunk_size
        for seen in np.unique(self.seen[rows]):
            some = rows[self.seen[rows] == seen]
            chunks = range(seen // chunk, -(-images // chunk))
            hits, losses = self.evaluator.outcomes([self.architectures[i] for i in some], chunks)
            known = np.unpackbits(self._bits[some], axis=1)
            known[:, seen:images] = hits
            with uninterrupted():
                self._bits[some] = np.packbits(known, axis=1)
                self.entropy[some] += losses.sum(axis=1, dtype=np.float64)
                self.seen[some] = images

    def _stop_some(self, number: int):
        """Stops those with the least chances, within the share of what may be lost so far.

        Candidates that stopped early have seen other images, perhaps easier ones. `_shift` of
        a round says by how much: what those that saw its images were expected to have right
        of them, by what was known before, less what they had right.
        """
        ends = self._rounds()
        images = ends[number]
        if images >= self.evaluator.num_images or len(self.running) <= self.keep:
            return
        running = np.flatnonzero(self.running)
        hits = np.unpackbits(self._bits[running], axis=1, count=images).astype(bool)
        if not self._noise[number]:  # otherwise known since fewer candidates raced
            self._noise[number] = noise_ratio(hits, self.keep)
            if number:
                found = hits[:, ends[number - 1] :].mean()
                self._shift[number] = self._expected[number - 1] - found
        chance, unseen = self._chances()
        order = running[np.argsort(chance[running], kind="stable")]
        lost = chance.sum() - chance[running].sum()
        allowance = (1.0 - self.confidence) * self.keep * (number + 1) / len(ends) - lost
        count = int(np.searchsorted(np.cumsum(chance[order]), allowance))
        self.running[order[: max(0, min(count, len(running) - self.keep))]] = False
        self._expected[number] = unseen[self.running].mean()

    def _chances(self):
        """What follows of what all candidates have seen, in rounds whose shift is known.

        Returns:
            float `[A]`, the `chances`, and float `[A]`, the accuracy expected on the images
            that are still unseen. It is below that on all images where a candidate was lucky.
        """
        ends = np.array(self._rounds())
        # The last round never is.
        seen = np.minimum(self.seen, ends[np.count_nonzero(self._noise) - 1])
        rounds = np.searchsorted(ends, seen)
        right = np.zeros(len(seen))
        for number in np.unique(rounds):
            rows = rounds == number
            bits = np.unpackbits(self._bits[rows], axis=1, count=int(ends[number]))
            right[rows] = bits.sum(axis=1, dtype=np.int64)
        shifts = np.cumsum(self._shift * np.diff(ends, prepend=0))[rounds]
        rates = (right + shifts) / seen
        rest = np.maximum(1.0 - seen / self.evaluator.num_images, 1e-3)
        chance, accuracy = chances(rates, seen / (self._noise[rounds] * rest), self.keep)
        return chance, np.where(rest > 1e-3, rates + (accuracy - rates) / rest, accuracy)

    def _save(self):
        self._saved = time.monotonic()
        if not self._writes:
            return
        names = np.array([str(a) for a in self.architectures])
        write_arrays(
            self.path,
            {"architectures": names, "bits": self._bits, "seen": self.seen,
             "entropy": self.entropy, "running": self.running, "noise": self._noise,
             "shift": self._shift, "expected": self._expected,
             "finished_rounds": self._finished_rounds, "run_id": np.array(self._run_id or "")},
        )  # fmt: skip

    def _restore(self):
        state = read_arrays(self.path)
        if "lost" in state:
            raise InputError(
                f"{self.path} was written by an older version, whose races had other rules; move "
                "it and candidates.csv away to start the race anew."
            )
        check_run(self.path, {"run_id": str(state.get("run_id", "")) or None}, self._run_id)
        names = state.get("architectures", np.zeros(0)).tolist()
        if not isinstance(names, list) or names != [
            str(a) for a in self.architectures[: len(names)]
        ]:
            raise InputError(
                f"{self.path} is of other candidates; remove it to start the race anew."
            )
        count = len(names)
        for name, own in (
            ("bits", self._bits[:count]), ("seen", self.seen[:count]),
            ("entropy", self.entropy[:count]), ("running", self.running[:count]),
            ("noise", self._noise), ("shift", self._shift), ("expected", self._expected),
            ("finished_rounds", self._finished_rounds),
        ):  # fmt: skip
            found = state.get(name)
            same = found is not None and (found.shape, found.dtype) == (own.shape, own.dtype)
            if found is None or not same or not np.isfinite(found).all():
                raise InputError(
                    f"{self.path} is damaged, or of another number of validation images "
                    f"('{name}'); remove it to start the race anew."
                )
            np.copyto(own, found)
        ends = [0, *self._rounds()]
        if not np.isin(self.seen, ends).all() or not 0 <= self._finished_rounds < len(ends):
            raise InputError(
                f"{self.path} is of a race with other rounds; remove it to start the race anew."
            )
        if (self.num_right > self.seen).any() or (self.entropy < 0).any():
            raise InputError(
                f"{self.path} is damaged: a candidate cannot have more images right than it has "
                "seen, nor a cross-entropy below 0. Remove it to start the race anew."
            )
