"""Labelled images in memory. The step and the seed determine the images of each batch."""

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Iterator
from typing import Protocol, TypeVar

import numpy as np

_Self = TypeVar("_Self", bound="AnySplit")


class AnySplit(Protocol):
    """A `Split`, or a `streaming.StreamedSplit` of images on disk. `Split` explains the methods."""

    @property
    def on_disk(self) -> bool:
        """Whether the images are decoded when a batch needs them."""

    @property
    def labels(self) -> np.ndarray | None:
        """Int32 `[N]`, or None if labels are read with the images."""

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""

    def __len__(self) -> int: ...

    def take(self: _Self, indices: np.ndarray) -> _Self: ...

    def join(self: _Self, other: _Self) -> _Self: ...

    def fingerprint(self) -> list[int]: ...

    def in_memory(self) -> "Split": ...

    def batch(
        self, step: int, batch_size: int, seed: int, distort: bool = False
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def batches(
        self, first_step: int, batch_size: int, seed: int, rows: range, distort: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...


@dataclasses.dataclass(frozen=True)
class Split:
    """Images for one purpose, for example training, in memory.

    Example:

        >>> split = Split(np.zeros([4, 8, 8, 3], np.uint8), np.arange(4))
        >>> len(split)
        4

    Args:
        images: Uint8 `[N, H, W, 3]`.
        labels: Int32 `[N]`.
    """

    images: np.ndarray
    labels: np.ndarray
    on_disk = False

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> "Split":
        """Returns the images at `indices`, int `[n]`, or where a mask, bool `[N]`, is true."""
        return Split(self.images[indices], self.labels[indices])

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.images.shape[1]

    def join(self, other: "Split") -> "Split":
        """Returns these images, followed by those of another split."""
        return Split(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
        )

    def fingerprint(self) -> list[int]:
        """Returns the number of images and the checksums of images and labels."""
        return [len(self), zlib.crc32(self.images.data), zlib.crc32(self.labels.data)]

    def in_memory(self) -> "Split":
        """Returns the split itself."""
        return self

    def batch(
        self, step: int, batch_size: int, seed: int, distort: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels of the global batch of a step; see `batches`."""
        return next(self.batches(step, batch_size, seed, range(batch_size), distort))

    def batches(
        self, first_step: int, batch_size: int, seed: int, rows: range, distort: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields batches without end, each epoch in a new order.

        A batch may contain the end of one epoch and the beginning of the next. Each image
        appears once per epoch, and no image is left out.

        Args:
            first_step: The step of the first batch.
            batch_size: Size of the global batch.
            seed: Random seed of the order.
            rows: Range of rows of the global batch to yield.
            distort: Has no effect, because images in memory have one size.

        Yields:
            The images, uint8 `[rows, H, W, 3]`, and the labels, int32 `[rows]`, of each step.
        """
        for step in itertools.count(first_step):
            order = places(step * batch_size + np.arange(rows.start, rows.stop), len(self), seed)
            yield self.images[order], self.labels[order]


def places(positions: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Maps positions of an endless pass over `count` images to the indices of the images.

    Args:
        positions: Int64 `[n]`, from 0, in ascending order.
        count: Number of images.
        seed: Random seed of the order, which is new in each epoch.

    Returns:
        Int64 `[n]`, 0 to `count` - 1.
    """
    epochs, within = np.divmod(positions, count)
    return np.concatenate(
        [_order(count, seed, int(e))[within[epochs == e]] for e in np.unique(epochs)]
    )


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
