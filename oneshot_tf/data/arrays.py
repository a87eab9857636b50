"""An .npz file with train_images, train_labels, test_images, test_labels (and class_names)."""

import numpy as np

from oneshot_tf.data import splits
from oneshot_tf.data.dataset import Dataset, Split, check_classes, from_splits, with_inventory
from oneshot_tf.data.images import resize, three_channels
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import read_arrays, user_path


def load(path: str, size: int, fit: str, num_validation: int) -> Dataset:
    """The data set of an .npz file.

    Validation images are held out of the training images by class, since an own data set may be
    small or uneven, and a class without validation images would not count when candidates are
    ranked. The classes are those of the training labels.

    Args:
        path: of the file. Images are uint8 `[N, height, width, 3]`, or grey `[N, height, width]`
            or `[N, height, width, 1]`, or with opacity, `[N, height, width, 4]`, which is put on
            white. Labels are whole numbers `[N]`, classes counted from 0.
        size, fit, num_validation: as `image_size`, `fit` and `num_validation` of `load_data`.

    Raises:
        InputError: it can't be used; the message says why and the way out.
    """
    path = user_path(path)
    if not path.is_file():
        raise InputError(f"--dataset=npz:{path}: there is no such file.")
    name, arrays = f"npz:{path}", read_arrays(path)
    full, test = (_read_split(name, arrays, part, size, fit) for part in ("train", "test"))
    names = arrays.get("class_names", np.arange(1 + int(full.labels.max())))
    if names.ndim != 1 or names.dtype.kind not in "Ui":
        raise InputError(
            f"--dataset={name}: class_names must be a list of texts; it is {names.dtype} "
            f"{list(names.shape)}."
        )
    names = [str(each) for each in names]
    check_classes(f"--dataset={name}: train_labels", full.labels, names)
    check_classes(f"--dataset={name}: test_labels", test.labels, names)
    counts = splits.check_counts(
        full.labels, names, 2, "one each for training and validation", f"--dataset={name}"
    )
    held = splits.hold_out(
        full.labels, splits.validation_shares(counts, num_validation, name), seed=0
    )
    order = np.random.default_rng(0).permutation(len(full))  # classes are mixed in each batch
    train, validation = full.take(order[~held[order]]), full.take(order[held[order]])
    found = from_splits(name, train, validation, lambda: test, names, fit)
    return with_inventory(found, test.fingerprint, test)


def _read_split(name, arrays, part, size, fit):
    """The `Split` of the images and labels of "train" or "test"."""
    images, labels = (arrays.get(f"{part}_{what}") for what in ("images", "labels"))
    good = (
        images is not None and labels is not None
        and images.dtype == np.uint8
        and (images.ndim == 3 or images.ndim == 4 and images.shape[-1] in (1, 3, 4))
        and labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
        and len(images) > 0 and 0 not in images.shape
    )  # fmt: skip
    if not good:
        found = ", ".join(f"{n} {a.dtype} {list(a.shape)}" for n, a in arrays.items())
        raise InputError(
            f"--dataset={name} has {found or 'nothing'}. It must have {part}_images, uint8 "
            "[N, height, width, 3] (or 1 for grey, 4 with opacity), and "
            f"{part}_labels, whole numbers [N]."
        )
    if not size and images.shape[1] != images.shape[2]:
        raise InputError(
            f"--dataset={name}: {part}_images are of {images.shape[1]}x{images.shape[2]}. Give "
            "--image_size to make them square."
        )
    images = images[..., None] if images.ndim == 3 else images
    chunks = np.array_split(images, max(1, len(images) // 1024))
    size = size or images.shape[1]
    images = np.concatenate([resize(three_channels(c), size, fit).numpy() for c in chunks])
    return Split(images, labels.astype(np.int32))
