"""Labelled images in memory, in fixed order: what is in a batch follows from (step, seed).

Every data set ends as uint8 images of one size with three channels. Which
images are held out never depends on a seed.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np
import psutil
import tensorflow as tf

from oneshot_tf.errors import InputError

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
_DEFAULT_SIZE = 32
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

    def __len__(self):
        return len(self.images)

    def take(self, indices) -> "Split":
        """The images at `indices`."""
        return Split(self.images[indices], self.labels[indices])

    def batch(self, step: int, batch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step of an endless pass in a new order each epoch.

        Batches run across the end of an epoch, so each image comes once an
        epoch and no image is left out.
        """
        positions = step * batch_size + np.arange(batch_size)
        epochs, places = np.divmod(positions, len(self))
        order = np.concatenate(
            [_order(len(self), seed, int(e))[places[epochs == e]] for e in np.unique(epochs)]
        )
        return self.images[order], self.labels[order]


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
        load_test: reads the test images; only final evaluation calls it.
        class_names: K names.
        mean, std: of the training images in [0, 1], float32 `[3]`.
    """

    name: str
    train: Split
    validation: Split
    load_test: Callable[[], Split]
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Height and width of the images."""
        return self.train.images.shape[1]

    def with_validation_in_train(self) -> "Dataset":
        """The full training set, for final training (section 3.4)."""
        both = Split(
            np.concatenate([self.train.images, self.validation.images]),
            np.concatenate([self.train.labels, self.validation.labels]),
        )
        return dataclasses.replace(self, train=both)

    def normalize(self, images):
        """float32 of mean 0 and deviation 1 a channel, from uint8 `[B, H, W, 3]`."""
        return normalize(images, self.mean, self.std)

    def augmenter(self, augmentation: str, seed: int):
        """The function `prepare(images, first, batch_size, step)` that `TrainStep` calls."""

        def prepare(images, first, batch_size, step):
            if augmentation != "none":
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


def resize(images, size: int):
    """uint8 `[…, size, size, 3]` from uint8 images of any height and width."""
    resized = tf.image.resize(images, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


# ---------------------------------------------------------------------------- loading


def load_data(
    dataset="cifar10", data_dir="", image_size=0, num_validation=0, download=True
) -> Dataset:
    """Reads a data set whole.

    Args:
        dataset: "digits", "folder:PATH", or a name that tensorflow-datasets knows.
        data_dir: folder of prepared tensorflow-datasets; "" for their default.
        image_size: height and width to resize to; 0 keeps the size (folders: 32).
        num_validation: images to hold out of the training set; 0: 5,000 of CIFAR's, else a tenth.
        download: whether a missing data set may be downloaded.

    Raises:
        InputError: it can't be had or used; the message says why and the way out.
    """
    if dataset == "digits":
        source = _digits(image_size)
    elif dataset.startswith("folder:"):
        source = _folder(dataset.removeprefix("folder:"), image_size or _DEFAULT_SIZE)
    else:
        from oneshot_tf import tfds_data  # tensorflow-datasets takes seconds to import

        source = tfds_data.load(dataset, data_dir, image_size, download)
    full, load_test, class_names = source
    return make_dataset(dataset, full, load_test, class_names, num_validation)


def make_dataset(name, full: Split, load_test, class_names, num_validation=0) -> Dataset:
    """Splits a training set into training and validation images, the same at every call.

    Args:
        name: for messages.
        full: the whole training set.
        load_test: gives the test `Split`.
        class_names: K names.
        num_validation: as in `load_data`.
    """
    count = num_validation or (5_000 if name.startswith("cifar") else max(1, len(full) // 10))
    if len(class_names) < 2:
        raise InputError(
            f"{name} has {len(class_names)} class(es); classification needs two or more."
        )
    if count >= len(full):
        raise InputError(
            f"--num_validation={count}, but {name} has only {len(full)} training images to hold "
            "them out of."
        )
    order = np.random.default_rng(0).permutation(len(full))
    train, validation = full.take(order[count:]), full.take(order[:count])
    pixels = train.images[:: max(1, len(train) // 10_000)].reshape(-1, 3) / np.float32(255)
    mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = np.maximum(pixels.std(axis=0, dtype=np.float64), 1e-3).astype(np.float32)
    return Dataset(name, train, validation, load_test, tuple(class_names), mean, std)


def check_memory(count: int, size: int, name: str) -> None:
    """Raises InputError if that many images would not leave half of the memory free."""
    need, free = count * size * size * 3, psutil.virtual_memory().available
    if need > free / 2:
        raise InputError(
            f"{name}: {count:,} images of {size}x{size} take {need / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of memory are free; give a smaller --image_size."
        )


def _digits(image_size):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels: 1,497 to train, 300 to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    if image_size:
        images = resize(images, image_size).numpy()
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(1).permutation(len(images))
    split = Split(images, labels)
    return split.take(order[300:]), lambda: split.take(order[:300]), [str(d) for d in range(10)]


def _folder(path, size):
    """A folder with one sub-folder a class, or two such folders, `train` and `test`."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"--dataset=folder:{path}: there is no folder {root}.")
    if (root / "train").is_dir() and (root / "test").is_dir():
        files, labels, names = _list_folder(root / "train")
        full = _read_images(files, labels, size)

        def load_test():
            files, labels, others = _list_folder(root / "test")
            if others != names:
                raise InputError(
                    f"{root / 'test'} has the classes {', '.join(others)}; needed are those of "
                    f"{root / 'train'}: {', '.join(names)}."
                )
            return _read_images(files, labels, size)

        return full, load_test, names
    files, labels, names = _list_folder(root)
    order = np.random.default_rng(1).permutation(len(files))
    held = len(files) // 6
    files, labels = [files[i] for i in order], labels[order]
    full = _read_images(files[held:], labels[held:], size)
    return full, lambda: _read_images(files[:held], labels[:held], size), names


def _list_folder(root):
    """Image files, int32 labels and class names of a folder with one sub-folder a class."""
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise InputError(
            f"{root} has {len(classes)} sub-folder(s); needed is one with images for each of two "
            "or more classes."
        )
    files, labels = [], []
    for label, folder in enumerate(classes):
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
        if not found:
            raise InputError(
                f"The class folder {folder} holds no image ({', '.join(sorted(_IMAGE_SUFFIXES))}); "
                "add some or remove it."
            )
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, np.int32), tuple(p.name for p in classes)


def _read_images(files, labels, size):
    """Decodes and resizes files; all of them are tried before an error is raised."""
    check_memory(len(files), size, str(files[0].parent.parent) if files else "")
    images = np.zeros((len(files), size, size, 3), np.uint8)
    broken = []
    for i, file in enumerate(files):
        try:
            decoded = tf.io.decode_image(file.read_bytes(), channels=3, expand_animations=False)
            images[i] = resize(decoded, size)
        except (tf.errors.OpError, OSError, ValueError):
            broken.append(str(file))
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise InputError(
            f"{len(broken)} of {len(files)} images can't be read: {', '.join(broken[:3])}{more}; "
            "repair or remove them."
        )
    return Split(images, labels)
