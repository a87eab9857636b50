"""Where images come from: scikit-learn's digits, arrays, folders, tensorflow-datasets."""

import numpy as np

from oneshot_tf.data import arrays, folders
from oneshot_tf.data.dataset import Dataset, Split, make_dataset, with_inventory
from oneshot_tf.data.images import resize
from oneshot_tf.data.listing import printable
from oneshot_tf.system.errors import InputError

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

    The splits of folder: and npz: have images of every class, drawn with a fixed seed. The
    validation images of digits and of tensorflow-datasets are a random part of the training
    images with a fixed seed, not drawn by class.

    The test images of a folder are only listed here; `Dataset.inventory` and `Dataset.load_test`
    decode them.

    Args:
        dataset: "digits", "folder:PATH", "npz:FILE", or a name that tensorflow-datasets knows.
        data_dir: folder of prepared tensorflow-datasets; "" for their default.
        image_size: height and width to resize to; 0 keeps the size (folders: 32).
        num_validation: images to hold out of the training set; 0: 5,000 of CIFAR's, else a tenth
            (folder: and npz: a tenth of each class, at least one image).
        download: whether a missing data set may be downloaded.
        skip_bad_images: whether images that can't be used are left out, and printed.
        storage: "memory"; "files": training images stay on disk, and are decoded step by step.
        fit: how images become squares, "stretch" or "center", see `images.resize`.

    Raises:
        InputError: it can't be had or used; the message says why and the way out.
    """
    kind, _, path = dataset.partition(":")
    if kind in ("folder", "npz") and not path:
        raise InputError(f"--dataset={dataset} must name a path, for example {kind}:my_data.")
    if storage == "files" and (dataset == "digits" or kind == "npz"):
        raise InputError(f"--dataset={dataset} is in memory: give --storage=memory.")
    if kind == "folder":
        try:
            size = image_size or _DEFAULT_SIZE
            return folders.load(
                path, size, skip_bad_images, storage == "files", fit, num_validation
            )
        except OSError as error:
            raise InputError(f"--dataset={printable(dataset)} can't be read: {error}.") from None
    if kind == "npz":
        return arrays.load(path, image_size, fit, num_validation)
    if dataset == "digits":
        return _digits(image_size, fit, num_validation)
    from oneshot_tf.data import tfds  # takes seconds to import

    full, load_test, test_fingerprint, names = tfds.load(
        dataset, data_dir, image_size, download, skip_bad_images, storage == "files", fit
    )
    found = make_dataset(dataset, full, load_test, names, num_validation, fit)
    return with_inventory(found, test_fingerprint)


def _digits(image_size, fit, num_validation):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels: 1,497 to train, 300 to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    images = resize(images, image_size or images.shape[1], fit).numpy()
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(1).permutation(len(images))
    split = Split(images, labels)
    full, test = split.take(order[300:]), split.take(order[:300])
    names = [str(digit) for digit in range(10)]
    found = make_dataset("digits", full, lambda: test, names, num_validation, fit)
    return with_inventory(found, test.fingerprint, test)
