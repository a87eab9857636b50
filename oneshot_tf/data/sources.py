"""Where images come from: scikit-learn's digits, arrays, folders, tensorflow-datasets."""

import numpy as np

from oneshot_tf.data import folders
from oneshot_tf.data.dataset import Dataset, Split, make_dataset
from oneshot_tf.data.images import resize
from oneshot_tf.errors import InputError
from oneshot_tf.files import read_arrays, user_path

_DEFAULT_SIZE = 32


def load_data(
    dataset="cifar10",
    data_dir="",
    image_size=0,
    num_validation=0,
    download=True,
    skip_bad_images=False,
    storage="memory",
    fit="stretch",
) -> Dataset:
    """Finds a data set, and reads it whole unless it is to stay on disk.

    Args:
        dataset: "digits", "folder:PATH", "npz:FILE", or a name that tensorflow-datasets knows.
        data_dir: folder of prepared tensorflow-datasets; "" for their default.
        image_size: height and width to resize to; 0 keeps the size (folders: 32).
        num_validation: images to hold out of the training set; 0: 5,000 of CIFAR's, else a tenth.
        download: whether a missing data set may be downloaded.
        skip_bad_images: whether images that can't be used are left out, and printed.
        storage: "memory"; "files": training images stay on disk, and are decoded step by step.
        fit: how images become squares, "stretch" or "center", see `images.resize`.

    Raises:
        InputError: it can't be had or used; the message says why and the way out.
    """
    if dataset == "digits":
        if storage == "files":
            raise InputError("--dataset=digits is in memory: give --storage=memory.")
        source = _digits(image_size, fit)
    elif dataset.startswith("npz:"):
        if storage == "files":
            raise InputError(f"--dataset={dataset} is in memory: give --storage=memory.")
        source = _arrays(dataset.removeprefix("npz:"), image_size, fit)
    elif dataset.startswith("folder:"):
        try:
            path = dataset.removeprefix("folder:")
            size = image_size or _DEFAULT_SIZE
            source = folders.load(path, size, skip_bad_images, storage == "files", fit)
        except OSError as error:
            raise InputError(f"--dataset={dataset} can't be read: {error}.") from None
    else:
        from oneshot_tf.data import tfds  # takes seconds to import

        streamed = storage == "files"
        source = tfds.load(dataset, data_dir, image_size, download, skip_bad_images, streamed, fit)
    full, load_test, class_names = source
    return make_dataset(dataset, full, load_test, class_names, num_validation, fit)


def _digits(image_size, fit):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels: 1,497 to train, 300 to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    images = resize(images, image_size or images.shape[1], fit).numpy()
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(1).permutation(len(images))
    split = Split(images, labels)
    return split.take(order[300:]), lambda: split.take(order[:300]), [str(d) for d in range(10)]


def _arrays(path, size, fit):
    """An .npz file with train_images, train_labels, test_images, test_labels (and class_names)."""
    path = user_path(path)
    if not path.is_file():
        raise InputError(f"--dataset=npz:{path}: there is no such file.")
    arrays, splits = read_arrays(path), {}
    for name in ("train", "test"):
        images, labels = (arrays.get(f"{name}_{what}") for what in ("images", "labels"))
        good = (
            images is not None and labels is not None
            and images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] == 3
            and labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
            and len(images) > 0 and 0 not in images.shape
        )  # fmt: skip
        if not good:
            found = ", ".join(f"{n} {a.dtype} {list(a.shape)}" for n, a in arrays.items())
            raise InputError(
                f"--dataset=npz:{path} has {found or 'nothing'}; needed are {name}_images, uint8 "
                f"[N, height, width, 3], and {name}_labels, whole numbers [N]."
            )
        if size or (fit == "center" and images.shape[1] == images.shape[2]):
            images = np.concatenate(
                [
                    resize(part, size or images.shape[1], fit).numpy()
                    for part in np.array_split(images, max(1, len(images) // 1024))
                ]
            )
        elif images.shape[1] != images.shape[2]:
            raise InputError(
                f"--dataset=npz:{path}: {name}_images are of {images.shape[1]}x{images.shape[2]}; "
                "give --image_size to make them square."
            )
        splits[name] = Split(np.ascontiguousarray(images), labels.astype(np.int32))
    count = 1 + max(int(split.labels.max()) for split in splits.values())
    names = arrays.get("class_names", np.arange(count))
    if names.ndim != 1 or names.dtype.kind not in "Ui":
        raise InputError(f"--dataset=npz:{path}: class_names are {names.dtype}; needed are texts.")
    return splits["train"], lambda: splits["test"], [str(name) for name in names]
