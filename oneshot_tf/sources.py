"""Where images come from: scikit-learn's digits, folders, tensorflow-datasets."""

import pathlib

import numpy as np
import tensorflow as tf

from oneshot_tf.data import Dataset, Split, check_memory, make_dataset, resize
from oneshot_tf.errors import InputError

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
_DEFAULT_SIZE = 32


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
        try:
            source = _folder(dataset.removeprefix("folder:"), image_size or _DEFAULT_SIZE)
        except OSError as error:
            raise InputError(f"--dataset={dataset} can't be read: {error}.") from None
    else:
        from oneshot_tf import tfds_data  # takes seconds to import

        source = tfds_data.load(dataset, data_dir, image_size, download)
    full, load_test, class_names = source
    return make_dataset(dataset, full, load_test, class_names, num_validation)


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

        test_files, test_labels, others = _list_folder(root / "test")
        if others != names:
            raise InputError(
                f"{root / 'test'} has the classes {', '.join(others)}; needed are those of "
                f"{root / 'train'}: {', '.join(names)}."
            )
        _read_images(test_files, test_labels, size)  # found broken now, not after the training
        return full, lambda: _read_images(test_files, test_labels, size), names
    files, labels, names = _list_folder(root)
    order = np.random.default_rng(1).permutation(len(files))
    held = max(1, len(files) // 6)
    files, labels = [files[i] for i in order], labels[order]
    everything = _read_images(files, labels, size)  # found broken now, not after the training
    full = everything.take(slice(held, None))
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
