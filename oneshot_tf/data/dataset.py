"""Data sets of training, validation and test images.

Every data set consists of uint8 images of one size with three channels. A user's seed never
changes which images are held out.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import psutil
import tensorflow as tf

from oneshot_tf.data import checksums
from oneshot_tf.data.augmentation import AUGMENTATIONS, normalize
from oneshot_tf.data.in_memory import AnySplit, Split
from oneshot_tf.data.inventory import Inventory, Part, count_up
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set for search and final training.

    Example:

        >>> data = load_data("digits", num_validation=200)
        >>> data.image_size, data.class_names[:2]
        (8, ('0', '1'))

    Args:
        name: Name of the data set, for messages.
        train: Images for training.
        validation: Images held out of the training set, for ranking candidates.
        load_test: Function that reads and decodes the test images. Only final evaluation calls
            it.
        class_names: Names of the K classes.
        mean: Mean of the training images in [0, 1], float32 `[3]`. It is measured on about
            10,000 images, spread evenly over the training images, or on fewer if the images are
            larger than 32x32 pixels, so that the number of pixels stays the same.
        std: Standard deviation of the same images, float32 `[3]`.
        fit: How images of other sizes become squares; see `images.resize`.
        test_fingerprint: Function that returns the number and checksums of the test images
            without decoding them. None if they are not known.
        inventory: Function that counts the contents of the data set. If images are held in memory,
            it also decodes the test images of a folder, to find damaged images before training.
            `inventory(decode_test=False)` does not.
    """

    name: str
    train: AnySplit
    validation: AnySplit
    load_test: Callable[[], AnySplit]
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    fit: str = "stretch"
    test_fingerprint: Callable[[], list[int]] | None = None
    inventory: Callable[..., Inventory] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.train.image_size

    def fingerprint(self, test: bool = True) -> dict[str, list[int]]:
        """Returns counts and checksums by split, which change if the data changes.

        Args:
            test: Whether to include the test images if they are known. For a folder, this reads
                the files but does not decode them.
        """
        splits = {"train": self.train, "validation": self.validation}
        found = {name: split.fingerprint() for name, split in splits.items()}
        if test and self.test_fingerprint is not None:
            found["test"] = self.test_fingerprint()
        return found

    def with_validation_in_train(self) -> "Dataset":
        """Returns the data set with the full training set, for final training (section 3.4)."""
        return dataclasses.replace(self, train=self.train.join(self.validation))

    def normalize(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Converts uint8 `[B, H, W, 3]` to float32 of mean 0 and deviation 1 per channel."""
        return normalize(images, self.mean, self.std)

    def augmenter(self, augmentation: str, seed: int) -> Callable[..., tf.Tensor]:
        """Returns the function `prepare(images, first, batch_size, step)` for `TrainStep`.

        Args:
            augmentation: A name in `augmentation.AUGMENTATIONS`.
            seed: Random seed of the augmentation.
        """
        change = AUGMENTATIONS[augmentation]

        def prepare(
            images: tf.Tensor, first: int | tf.Tensor, batch_size: int, step: int | tf.Tensor
        ) -> tf.Tensor:
            return self.normalize(change(images, first, batch_size, seed=seed, step=step))

        return prepare


def make_dataset(
    name: str,
    full: AnySplit,
    load_test: Callable[[], AnySplit],
    class_names: Sequence[str],
    num_validation: int = 0,
    fit: str = "stretch",
) -> Dataset:
    """Splits a training set into training and validation images, the same ones in every call.

    The split is random and not by class, so small classes may be missing in the validation
    images. `load_data` uses it for digits and tensorflow-datasets. `splits.hold_out` draws by
    class.

    Example:

        >>> full = Split(np.zeros([20, 8, 8, 3], np.uint8), np.arange(20) % 2)
        >>> data = make_dataset("mine", full, lambda: full, ["a", "b"], num_validation=4)
        >>> len(data.train), len(data.validation)
        (16, 4)

    Args:
        name: Name of the data set, for messages.
        full: The whole training set.
        load_test: Returns the test images.
        class_names: Names of the K classes.
        num_validation: Number of validation images. 0 uses 5,000 for CIFAR and a tenth otherwise.
        fit: As in `load_data`.

    Raises:
        InputError: If there are too few images or classes, or a label is out of range.
    """
    count = num_validation or (5_000 if name.startswith("cifar") else max(1, len(full) // 10))
    check_classes(name, full.labels, class_names)
    if count >= len(full):
        raise InputError(
            f"--num_validation must be less than the number of training images of {name}, "
            f"{len(full):,}; got {count}."
        )
    order = np.random.default_rng(0).permutation(len(full))
    train, validation = full.take(order[count:]), full.take(order[:count])
    return from_splits(name, train, validation, load_test, class_names, fit)


def check_classes(name: str, labels: np.ndarray | None, class_names: Sequence[str]) -> None:
    """Checks that there are at least two classes and that all labels belong to one of them.

    Args:
        name: Name of the labels, for messages.
        labels: Int `[N]`, or None if they are not known.
        class_names: Names of the K classes.

    Raises:
        InputError: If there are fewer than two classes, or a label is not 0 to K - 1.
    """
    if len(class_names) < 2:
        raise InputError(
            f"{name} must have at least two classes; got {len(class_names)}. Add images of "
            "another class."
        )
    if labels is None:
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        raise InputError(
            f"{name} has {len(wrong)} label(s) out of range; the first is {labels[wrong[0]]}. "
            f"Labels must be integers from 0 to {len(class_names) - 1}."
        )


def from_splits(
    name: str,
    train: AnySplit,
    validation: AnySplit,
    load_test: Callable[[], AnySplit],
    class_names: Sequence[str],
    fit: str = "stretch",
) -> Dataset:
    """Creates a data set from existing splits, and measures their mean and standard deviation.

    Args:
        name: Name of the data set, for messages.
        train: Images for training.
        validation: Images for ranking candidates.
        load_test: Returns the test images.
        class_names: Names of the K classes.
        fit: As in `load_data`.
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
    """Adds `test_fingerprint` and an `inventory` that compares images by their pixels.

    Args:
        dataset: The data set without them.
        test_fingerprint: As in `Dataset`.
        test: The test images, if they are in memory already.
    """

    def inventory(decode_test: bool = True) -> Inventory:
        parts = {
            "train": _part("train", dataset.train),
            "validation": _part("validation", dataset.validation),
            "test": Part(test_fingerprint()[0]) if test is None else _part("test", test),
        }
        return count_up(dataset.name, dataset.class_names, dataset.image_size, parts)

    return dataclasses.replace(dataset, test_fingerprint=test_fingerprint, inventory=inventory)


def _part(name: str, split: AnySplit) -> Part:
    if not isinstance(split, Split):
        return Part(len(split))
    sums = checksums.of_images(split.images)
    return Part(len(split), split.labels, sums, lambda index: f"{name} image {index}")


def check_memory(count: int, size: int, name: str) -> None:
    """Checks that images fit in half of the free memory.

    Args:
        count: Number of images.
        size: Height and width in pixels.
        name: Name of the images, for the message.

    Raises:
        InputError: If they do not fit.
    """
    need, free = count * size * size * 3, psutil.virtual_memory().available
    if need > free / 2:
        raise InputError(
            f"{name}: the images must fit in half of the free memory. {count:,} images of "
            f"{size}x{size} pixels need {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are "
            "free. Set a smaller --image_size, or set --storage=files to leave the training "
            "images on disk."
        )
