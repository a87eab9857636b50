"""Reads .npz files of train_images, train_labels, test_images, test_labels and class_names."""

import numpy as np

from oneshot_tf.data import splits
from oneshot_tf.data.dataset import Dataset, Split, check_classes, from_splits, with_inventory
from oneshot_tf.data.images import resize, three_channels
from oneshot_tf.system.array_files import read_arrays
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path


def load(path: str, size: int, fit: str, num_validation: int) -> Dataset:
    """Loads the data set of an .npz file.

    The validation images are held out of the training images class by class. A user's data set
    may be small or uneven, and a class without validation images would not count in the ranking
    of candidates. The training labels define the classes if the file has no `class_names`.

    Args:
        path: Path of the file. Images are uint8, either `[N, height, width, 3]`, grey
            `[N, height, width]` or `[N, height, width, 1]`, or `[N, height, width, 4]` with
            opacity, which is blended with white. Labels are integers `[N]`, counted from 0.
        size: The `image_size` of `load_data`; 0 keeps the size of the images.
        fit: As in `load_data`.
        num_validation: As in `load_data`.

    Raises:
        InputError: If the file cannot be used. The message gives the reason and the fix.
    """
    file = user_path(path)
    if not file.is_file():
        raise InputError(
            f"--dataset=npz:{file} must name a file; there is no such file. Check the path."
        )
    name, arrays = f"npz:{file}", read_arrays(file)
    full, test = (_read_split(name, arrays, part, size, fit) for part in ("train", "test"))
    names = _class_names(name, arrays, full.labels)
    check_classes(f"--dataset={name}: train_labels", full.labels, names)
    check_classes(f"--dataset={name}: test_labels", test.labels, names)
    counts = splits.check_counts(
        full.labels, names, 2, "one each for training and validation", f"--dataset={name}"
    )
    held = splits.hold_out(
        full.labels, splits.validation_shares(counts, num_validation, name), seed=0
    )
    order = np.random.default_rng(0).permutation(len(full))  # mixes the classes in each batch
    train, validation = full.take(order[~held[order]]), full.take(order[held[order]])
    found = from_splits(name, train, validation, lambda: test, names, fit)
    return with_inventory(found, test.fingerprint, test)


def _class_names(name: str, arrays: dict[str, np.ndarray], labels: np.ndarray) -> list[str]:
    """Returns the class names of a file, or else the numbers 0 to the largest label."""
    names = arrays.get("class_names", np.arange(1 + int(labels.max())))
    if names.ndim != 1 or names.dtype.kind not in "Ui":
        raise InputError(
            f"--dataset={name}: class_names must be a list of strings; got {names.dtype} "
            f"{list(names.shape)}. Save it as an array of strings, one per class."
        )
    return [str(each) for each in names]


def _read_split(name: str, arrays: dict[str, np.ndarray], part: str, size: int, fit: str) -> Split:
    """Converts the images and labels of `part`, "train" or "test", to a `Split`."""
    images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
    if images is None or labels is None or not _is_valid(images, labels):
        found = ", ".join(f"{n} {a.dtype} {list(a.shape)}" for n, a in arrays.items())
        raise InputError(
            f"--dataset={name} must contain {part}_images, uint8 [N, height, width, 3] (or 1 for "
            f"grey, 4 with opacity), and {part}_labels, integers [N]; got {found or 'no array'}. "
            "Save the arrays again in this form."
        )
    if not size and images.shape[1] != images.shape[2]:
        raise InputError(
            f"--dataset={name}: {part}_images must be square; got "
            f"{images.shape[1]}x{images.shape[2]} pixels. Set --image_size to resize them."
        )
    images = images[..., None] if images.ndim == 3 else images
    chunks = np.array_split(images, max(1, len(images) // 1024))
    size = size or images.shape[1]
    images = np.concatenate([resize(three_channels(c), size, fit).numpy() for c in chunks])
    return Split(images, labels.astype(np.int32))


def _is_valid(images: np.ndarray, labels: np.ndarray) -> bool:
    """Returns whether two arrays can be the images and the labels of a split."""
    return (
        images.dtype == np.uint8
        and (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3, 4)))
        and labels.dtype.kind in "iu"
        and labels.shape == images.shape[:1]
        and len(images) > 0
        and 0 not in images.shape
    )
