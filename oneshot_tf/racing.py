"""Racing: candidates that can hardly be among the best any more stop early.

All candidates are measured on the same images in the same order. So two of them
are compared image by image, which takes out what makes an image easy or hard,
and once all images were seen, the outcome is exact.
"""

import math
import pathlib
import time

import numpy as np

from oneshot_tf.errors import InputError
from oneshot_tf.files import read_arrays, write_arrays
from oneshot_tf.interrupts import held
from oneshot_tf.progress import pieces

_FIRST_IMAGES = 128
_GROWTH = 1.25
_SAVE_SECONDS = 20.0
_PHI = np.frompyfunc(lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0)), 1, 1)


def chances(hits: np.ndarray, keep: int, num_images: int) -> np.ndarray:
    """Each candidate's chance to be among the best on all images.

    The accuracy of candidate a on all N images, given that on the n seen: the
    noise of an observed accuracy is that of (hit - mean hit of all candidates on
    that image), times 1 - n/N because images are drawn without replacement; the
    candidates' own spread is the rest of the observed variance, and shrinks each
    estimate towards the mean (James-Stein), without which the luckiest would set
    a mark too high for the best. Then the mark is where the expected number of
    candidates above it is `keep`.

    Args:
        hits: bool `[A, n]`: which of the n images seen each candidate has right.
        keep: how many of the best are wanted, less than A.
        num_images: N, all the images there are.

    Returns:
        float `[A]` whose sum is `keep`.
    """
    seen = hits.shape[1]
    accuracy = hits.mean(axis=1)
    shared = hits.mean(axis=0)
    # Of hit - shared: the mean of its square less the square of its mean, as a product, to
    # save a float array of A x n.
    squares = accuracy - 2.0 * (hits @ shared) / seen + np.mean(shared**2)
    own = np.maximum(squares - (accuracy - shared.mean()) ** 2, 0.0)
    noise = own / seen * (1.0 - seen / num_images) + 1e-12
    spread = max(accuracy.var() - noise.mean(), 1e-8)
    weight = spread / (spread + noise)
    mean = accuracy.mean() + weight * (accuracy - accuracy.mean())
    deviation = np.sqrt(weight * noise)
    low, high = mean.min() - 1.0, mean.max() + 1.0
    for _ in range(50):
        mark = (low + high) / 2.0
        chance = _PHI((mean - mark) / deviation).astype(float)
        low, high = (mark, high) if chance.sum() > keep else (low, mark)
    return chance


class Race:
    """A race that can be interrupted: `run()`.

    Rounds go on over growing shares of the images. After each, those with the
    least chances stop, as many as keep the expected number of true winners lost
    within (1 - confidence) * keep over all rounds.

    Args:
        path: file of its state, an .npz; a race found there goes on.
        evaluator: a `CandidateEvaluator`.
        architectures: the candidates. Those of the race found must come first, in the same order.
        keep: how many of the best are wanted.
        confidence: the expected share of the true best that is still there in the end.
        writes: False in processes that only take part.
        together: candidates measured at a time where several processes take part; None alone.

    Attributes:
        seen: int64 `[A]`, images on which each was measured.
        num_right: int64 `[A]`, how many of them it has right.
        entropy: float64 `[A]`, the sum of its cross-entropies over them.
    """

    def __init__(
        self, path, evaluator, architectures, keep, confidence, writes=True, together=None
    ):
        self.path, self._writes, self._together = pathlib.Path(path), writes, together
        self.evaluator, self.architectures = evaluator, list(architectures)
        self.keep, self.confidence = keep, confidence
        count, images = len(self.architectures), evaluator.num_images
        self._bits = np.zeros([count, -(-images // 8)], np.uint8)
        self.seen, self.entropy = np.zeros(count, np.int64), np.zeros(count)
        self.running = np.ones(count, bool)
        self._lost = np.zeros(())  # expected winners among those that stopped
        self._finished_rounds = np.zeros((), np.int64)
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

    def run(self, report) -> None:
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

    def _run(self, report):
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
                with held():
                    self._stop_some(images, (number + 1) / len(rounds))
                    self._finished_rounds[...] = max(self._finished_rounds, number + 1)
                    self._save()

    def _rounds(self) -> list[int]:
        """Images seen at the end of each round: whole parts of the evaluator."""
        part, total = self.evaluator.part_size, self.evaluator.num_images
        ends, images = [], float(_FIRST_IMAGES)
        while not ends or ends[-1] < total:
            end = min(total, math.ceil(images / part) * part)
            if not ends or end > ends[-1]:
                ends.append(end)
            images *= _GROWTH
        return ends

    def _measure(self, rows, images):
        """Brings candidates from what each has seen to `images`."""
        part = self.evaluator.part_size
        for seen in np.unique(self.seen[rows]):
            some = rows[self.seen[rows] == seen]
            parts = range(seen // part, -(-images // part))
            hits, losses = self.evaluator.outcomes([self.architectures[i] for i in some], parts)
            known = np.unpackbits(self._bits[some], axis=1)
            known[:, seen:images] = hits
            with held():
                self._bits[some] = np.packbits(known, axis=1)
                self.entropy[some] += losses.sum(axis=1, dtype=np.float64)
                self.seen[some] = images

    def _stop_some(self, images, share):
        """Stops those with the least chances, within this share of what may be lost."""
        running = np.flatnonzero(self.running)
        if images >= self.evaluator.num_images or len(running) <= self.keep:
            return
        hits = np.unpackbits(self._bits[running], axis=1, count=images).astype(bool)
        chance = chances(hits, self.keep, self.evaluator.num_images)
        order = np.argsort(chance, kind="stable")
        allowance = (1.0 - self.confidence) * self.keep * share - self._lost
        sums = np.cumsum(chance[order])
        count = min(int(np.searchsorted(sums, allowance)), len(running) - self.keep)
        if count > 0:
            self.running[running[order[:count]]] = False
            self._lost += sums[count - 1]

    def _save(self):
        self._saved = time.monotonic()
        if not self._writes:
            return
        names = np.array([str(a) for a in self.architectures])
        write_arrays(
            self.path,
            {"architectures": names, "bits": self._bits, "seen": self.seen,
             "entropy": self.entropy, "running": self.running, "lost": self._lost,
             "finished_rounds": self._finished_rounds},
        )  # fmt: skip

    def _restore(self):
        state = read_arrays(self.path)
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
            ("lost", self._lost), ("finished_rounds", self._finished_rounds),
        ):  # fmt: skip
            found = state.get(name)
            if found is None or found.shape != own.shape or found.dtype != own.dtype:
                raise InputError(
                    f"{self.path} is damaged, or of another number of validation images "
                    f"('{name}'); remove it to start the race anew."
                )
            own[...] = found
        ends = [0, *self._rounds()]
        if not np.isin(self.seen, ends).all() or not 0 <= self._finished_rounds < len(ends):
            raise InputError(
                f"{self.path} is of a race with other rounds; remove it to start the race anew."
            )
