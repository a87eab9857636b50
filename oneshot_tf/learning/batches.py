"""Gives each step its batch and its learning rate, which depend on the step and on rollbacks."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from oneshot_tf.devices.distribution import local_batch, own_rows
from oneshot_tf.learning.not_finite import Rollbacks
from oneshot_tf.learning.schedules import Factored


class Batches:
    """Reads the images of any step.

    Args:
        split: The images.
        batch_size: Images in the global batch.
        seed: The seed of the data order and of augmentation.
        distort: Whether images are cropped and resized at random ("inception").
        schedule: The learning rate. Its factor is set for each step. None if the images are not
            for the weights.
        rollbacks: The rollbacks so far. After each, the data comes in another order.
    """

    def __init__(
        self,
        split: Any,
        batch_size: int,
        seed: int,
        distort: bool,
        schedule: Factored | None,
        rollbacks: Rollbacks,
    ):
        self._split, self._batch_size, self._seed, self._distort = split, batch_size, seed, distort
        self._schedule, self._rollbacks = schedule, rollbacks
        self._batches: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
        self._next: tuple[int, int] | None = None  # step and seed of the next batch in `_batches`
        self._last: tuple[tuple[int, int], Any] | None = None  # the same of the last one, and it

    def own(self, number: int, step: int | None = None) -> tuple[Any, Any]:
        """Returns this worker's part of a batch, one slice per replica.

        Args:
            number: The number of the batch.
            step: The training step that it belongs to. None for step `number`.
        """
        seed, factor = self._rollbacks.at(number if step is None else step, self._seed)
        if self._schedule is not None:
            self._schedule.factor.assign(factor)
        if self._last is not None and self._last[0] == (number, seed):
            return self._last[1]
        if self._next != (number, seed):
            size, rows = self._batch_size, own_rows(self._batch_size)
            self._batches = self._split.batches(number, size, seed, rows, self._distort)
        batch = next(self._batches)
        self._next = number + 1, seed
        self._last = (number, seed), local_batch(*batch)
        return self._last[1]

    def whole(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the global batch of a step."""
        seed, _ = self._rollbacks.at(number, self._seed)
        return self._split.batch(number, self._batch_size, seed, self._distort)
