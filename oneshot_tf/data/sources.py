"""Loads images from scikit-learn's digits, arrays, folders or tensorflow-datasets."""

import contextlib
from collections.abc import Iterator

from oneshot_tf.data import arrays, digits, folders
from oneshot_tf.data.dataset import Dataset, make_dataset, with_inventory
from oneshot_tf.data.listing import printable
from oneshot_tf.system.errors import InputError

_DEFAULT_SIZE = 32
_kept: dict[tuple, Dataset] | None = None  # see `keep_data`


@contextlib.contextmanager
def keep_data() -> Iterator[None]:
    """Inside the block, `load_data` returns a data set again instead of reading it again.

    A program that runs several others uses it. The images must not change in the meantime.
    """
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def load_data(
    dataset: str = "cifar10",
    data_dir: str = "",
    image_size: int = 0,
    num_validation: int = 0,
    *,
    download: bool = True,
    skip_bad_images: bool = False,
    storage: str = "memory",
    fit: str = "stretch",
) -> Dataset:
    """Loads a data set into memory, or lists it if `storage` is "files".

    For "folder:" and "npz:", every split has images of every class, drawn with a fixed seed. For
    digits and tensorflow-datasets, the validation images are a random part of the training
    images, drawn with a fixed seed but not by class.

    For a folder, this function only lists the test images. `Dataset.inventory` and
    `Dataset.load_test` decode them.

    Example:

        >>> data = load_data("digits", num_validation=200)
        >>> len(data.train), data.num_classes
        (1297, 10)

    Args:
        dataset: "digits", "noisy_digits", "folder:PATH", "npz:FILE", or a name that
            tensorflow-datasets knows.
        data_dir: Folder of prepared tensorflow-datasets. "" uses their default folder.
        image_size: Height and width in pixels to resize to. 0 keeps the size, or uses 32 for a
            folder.
        num_validation: Number of images to hold out of the training set. 0 uses 5,000 for CIFAR,
            a tenth of each class (at least one image) for "folder:" and "npz:", and a tenth of
            the training images otherwise.
        download: Whether a missing data set may be downloaded.
        skip_bad_images: Whether to leave out and print the images that cannot be used, instead
            of raising an error.
        storage: "memory" decodes all training images now. "files" leaves them on disk and decodes
            them step by step.
        fit: How images become squares, "stretch" or "center"; see `images.resize`.

    Raises:
        InputError: If the data set cannot be found or used. The message gives the reason and the
            fix.
    """
    key = (dataset, data_dir, image_size, num_validation, skip_bad_images, storage, fit)
    found = None if _kept is None else _kept.get(key)
    if found is None:
        found = _load(
            dataset, data_dir, image_size, num_validation, download=download,
            skip_bad_images=skip_bad_images, storage=storage, fit=fit,
        )  # fmt: skip
    if _kept is not None:
        _kept[key] = found
    return found


def _load(
    dataset: str,
    data_dir: str,
    image_size: int,
    num_validation: int,
    *,
    download: bool,
    skip_bad_images: bool,
    storage: str,
    fit: str,
) -> Dataset:
    kind, _, path = dataset.partition(":")
    if kind in ("folder", "npz") and not path:
        raise InputError(f"--dataset={dataset} must name a path, for example {kind}:my_data.")
    if storage == "files" and (dataset in digits.NAMES or kind == "npz"):
        raise InputError(
            f"--dataset={dataset} does not support --storage=files. Set --storage=memory."
        )
    if kind == "folder":
        try:
            size = image_size or _DEFAULT_SIZE
            return folders.load(
                path, size, skip_bad_images, storage == "files", fit, num_validation
            )
        except OSError as error:
            raise InputError(
                f"--dataset={printable(dataset)} cannot be read: {error}. Check the folder and "
                "its permissions."
            ) from None
    if kind == "npz":
        return arrays.load(path, image_size, fit, num_validation)
    if dataset in digits.NAMES:
        return digits.load(dataset, image_size, fit, num_validation)
    from oneshot_tf.data import tfds  # takes seconds to import

    full, load_test, test_fingerprint, names = tfds.load(
        dataset, data_dir, image_size, download, skip_bad_images, storage == "files", fit
    )
    found = make_dataset(dataset, full, load_test, names, num_validation, fit)
    return with_inventory(found, test_fingerprint)
