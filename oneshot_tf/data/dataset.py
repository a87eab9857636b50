"""Labelled images in memory, in fixed order: what is in a batch follows from (step, seed).

Every data set ends as uint8 images of one size with three channels. Which
images are held out never depends on a user's seed.
"""

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable

import numpy as np
import psutil
import tensorflow as tf

from oneshot_tf.data import checksums
from oneshot_tf.data.inventory import Inventory, Part, count_up
from oneshot_tf.system.errors import InputError

_AUGMENTATION_STREAM = 1  # folded into the seed: draws other than path dropout's


@dataclasses.dataclass(frozen=True)
class Split:
    """Images of one purpose.

    Args:
        images: uint8 `[N, H, W, 3]`.
        labels: int32 `[N]`.
    """

    images: np.ndarray
    labels: np.ndarray
    on_disk = False

    def __len__(self):
        return len(self.images)

    def take(self, indices) -> "Split":
        """The images at `indices`."""
        return Split(self.images[indices], self.labels[indices])

    @property
    def image_size(self) -> int:
        """Height and width."""
        return self.images.shape[1]

    def join(self, other) -> "Split":
        """These images and those of another split."""
        return Split(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
        )

    def fingerprint(self) -> list[int]:
        """Count and checksums."""
        return [len(self), zlib.crc32(self.images), zlib.crc32(self.labels)]

    def in_memory(self) -> "Split":
        """Itself."""
        return self

    def batch(self, step, batch_size, seed, distort=False) -> tuple[np.ndarray, np.ndarray]:
        """The global batch of a step, see `batches`."""
        return next(self.batches(step, batch_size, seed, range(batch_size), distort))

    def batches(self, first_step, batch_size, seed, rows, distort=False):
        """Yields images and labels, step by step: an endless pass, each epoch in a new order.

        Batches run across the end of an epoch, so each image comes once an
        epoch and no image is left out.

        Args:
            first_step: to begin with.
            batch_size: of the global batch.
            seed: of the order.
            rows: range of the rows of the global batch that are wanted.
            distort: means nothing for images in memory, which have one size.
        """
        for step in itertools.count(first_step):
            order = places(step * batch_size + np.arange(rows.start, rows.stop), len(self), seed)
            yield self.images[order], self.labels[order]


def places(positions, count: int, seed: int) -> np.ndarray:
    """Which of `count` images are at positions of an endless pass, in a new order each epoch."""
    epochs, within = np.divmod(positions, count)
    return np.concatenate(
        [_order(count, seed, int(e))[within[epochs == e]] for e in np.unique(epochs)]
    )


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set for search and final training.

    Args:
        name: for messages.
        train: images that weights are trained on.
        validation: images held out of the training set, on which candidates are ranked.
        load_test: reads and decodes the test images; only final evaluation calls it.
        class_names: K names.
        mean, std: of the training images in [0, 1], float32 `[3]`. About 10,000 images, evenly
            spread over the training images, are measured where there are more; fewer where they
            are larger than 32x32 pixels, so that the number of pixels stays the same.
        fit: how images of another size are brought to theirs, see `resize`.
        test_fingerprint: count and checksums of the test images, without decoding any; None: not
            known.
        inventory: counts what the data set holds. It decodes the test images of a folder once,
            if images are held in memory, so that damage is found before training.
    """

    name: str
    train: Split
    validation: Split
    load_test: Callable[[], Split]
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    fit: str = "stretch"
    test_fingerprint: Callable[[], list[int]] | None = None
    inventory: Callable[[], Inventory] | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Height and width of the images."""
        return self.train.image_size

    def fingerprint(self, test: bool = True) -> dict[str, list[int]]:
        """Counts and checksums by split, by which a run notices that its data changed.

        Args:
            test: whether to include the test images, if they are known. The files of a folder are
                read for it, but not decoded.
        """
        splits = {"train": self.train, "validation": self.validation}
        found = {name: split.fingerprint() for name, split in splits.items()}
        if test and self.test_fingerprint is not None:
            found["test"] = self.test_fingerprint()
        return found

    def with_validation_in_train(self) -> "Dataset":
        """The full training set, for final training (section 3.4)."""
        return dataclasses.replace(self, train=self.train.join(self.validation))

    def normalize(self, images):
        """float32 of mean 0 and deviation 1 a channel, from uint8 `[B, H, W, 3]`."""
        return normalize(images, self.mean, self.std)

    def augmenter(self, augmentation: str, seed: int):
        """The function `prepare(images, first, batch_size, step)` that `TrainStep` calls."""

        def prepare(images, first, batch_size, step):
            if augmentation in ("crop", "crop_flip"):  # Inception's are made while decoding
                flip = augmentation == "crop_flip"
                images = augment(images, first, batch_size, flip=flip, seed=seed, step=step)
            return self.normalize(images)

        return prepare


def normalize(images, mean, std):
    """(images / 255 - mean) / std: float32 from uint8 `[B, H, W, 3]`."""
    return (tf.cast(images, tf.float32) / 255.0 - mean) / std


def augment(images, first, batch_size, *, flip, seed, step):
    """Shifts each image by up to an eighth of its size, zeros coming in, and mirrors half of them.

    Drawn for the whole global batch from (seed, step), so that it doesn't
    matter how the batch is spread over devices.

    Args:
        images: `[b, H, W, 3]`, rows `first` to `first + b` of the global batch.
        first: int or scalar tensor.
        batch_size: B of the global batch.
        flip: whether to mirror.
        seed, step: of the draws.
    """
    count, height, width = images.shape[:3]
    pad = max(1, height // 8)
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)])
    key = tf.random.experimental.stateless_fold_in(key, _AUGMENTATION_STREAM)
    draws = tf.random.stateless_uniform(
        [batch_size, 3], seed=key, minval=0, maxval=2 * (2 * pad + 1), dtype=tf.int32
    )
    draws = tf.slice(draws, [first, 0], [count, 3])
    shifts = draws % (2 * pad + 1)
    rows = shifts[:, :1] + tf.range(height)
    columns = tf.broadcast_to(tf.range(width), [count, width])
    if flip:
        mirrored = draws[:, 2:] > 2 * pad
        columns = tf.where(mirrored, width - 1 - columns, columns)
    columns = shifts[:, 1:2] + columns
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    padded = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(padded, columns, axis=2, batch_dims=1)


def make_dataset(name, full, load_test, class_names, num_validation=0, fit="stretch") -> Dataset:
    """Splits a training set into training and validation images, the same at every call.

    The split is random, not by class: `load_data` splits digits and tensorflow-datasets so. Small
    classes may be missing in it; `splits.hold_out` draws by class.

    Args:
        name: for messages.
        full: the whole training set, a `Split` or a `StreamedSplit`.
        load_test: gives the test `Split`.
        class_names: K names.
        num_validation, fit: as in `load_data`.
    """
    count = num_validation or (5_000 if name.startswith("cifar") else max(1, len(full) // 10))
    check_classes(name, full.labels, class_names)
    if count >= len(full):
        raise InputError(
            f"--num_validation={count}, but {name} has only {len(full)} training images to hold "
            "them out of."
        )
    order = np.random.default_rng(0).permutation(len(full))
    train, validation = full.take(order[count:]), full.take(order[:count])
    return from_splits(name, train, validation, load_test, class_names, fit)


def check_classes(name: str, labels: np.ndarray | None, class_names) -> None:
    """Raises InputError for fewer than two classes, or labels that none of them has.

    Args:
        name: for messages.
        labels: int `[N]`; None: not known.
        class_names: K names.
    """
    if len(class_names) < 2:
        raise InputError(
            f"{name} has {len(class_names)} class(es); classification needs two or more."
        )
    if labels is None:
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        raise InputError(
            f"{name} has {len(wrong)} label(s) out of range, the first is {labels[wrong[0]]}. "
            f"Labels must be 0 to {len(class_names) - 1}."
        )


def from_splits(name, train, validation, load_test, class_names, fit="stretch") -> Dataset:
    """A data set of splits that are already made; measures mean and deviation.

    Args:
        name: for messages.
        train, validation: each a `Split` or a `StreamedSplit`.
        load_test: gives the test split.
        class_names: K names.
        fit: as in `load_data`.
    """
    most = 10_000 * 32 * 32 // train.image_size**2 if train.image_size > 32 else 10_000
    some = train.take(np.arange(0, len(train), max(1, len(train) // max(1, most))))
    pixels = some.in_memory().images.reshape(-1, 3) / np.float32(255)
    mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = np.maximum(pixels.std(axis=0, dtype=np.float64), 1e-3).astype(np.float32)
    return Dataset(name, train, validation, load_test, tuple(class_names), mean, std, fit)


def with_inventory(
    dataset: Dataset, test_fingerprint: Callable[[], list[int]], test: Split | None = None
) -> Dataset:
    """Adds `test_fingerprint` and `inventory` to a data set; compares images by their pixels.

    Args:
        dataset: to add to.
        test_fingerprint: as in `Dataset`.
        test: the test images, if they are in memory anyway.
    """

    def inventory(decode_test=True):
        parts = {"train": dataset.train, "validation": dataset.validation}
        if test is not None:
            parts["test"] = test
        parts = {name: _part(name, split) for name, split in parts.items()}
        parts.setdefault("test", Part(test_fingerprint()[0]))
        return count_up(dataset.name, dataset.class_names, dataset.image_size, parts)

    return dataclasses.replace(dataset, test_fingerprint=test_fingerprint, inventory=inventory)


def _part(name, split):
    if split.on_disk:
        return Part(len(split))
    sums = checksums.of_images(split.images)
    return Part(len(split), split.labels, sums, lambda index: f"{name} image {index}")


def check_memory(count: int, size: int, name: str) -> None:
    """Raises InputError if that many images would not leave half of the memory free."""
    need, free = count * size * size * 3, psutil.virtual_memory().available
    if need > free / 2:
        raise InputError(
            f"{name}: {count:,} images of {size}x{size} take {need / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of memory are free; give a smaller "
            "--image_size, or leave the training images on disk: --storage=files."
        )
