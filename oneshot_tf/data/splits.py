"""Chooses the images to hold out: the same ones in every call, and some of every class."""

import heapq
from collections.abc import Sequence

import numpy as np

from oneshot_tf.data.listing import printable
from oneshot_tf.system.errors import InputError


def shares(available: np.ndarray, total: int) -> np.ndarray:
    """Divides `total` images over the classes in proportion to their sizes, by largest remainder.

    Each class gives at least one image and keeps at least one.

    Args:
        available: Number of images of each class, int `[K]`, each at least 2.
        total: Number of images to hold out, from K to the sum of `available` minus K.

    Returns:
        The number of images to hold out of each class, int64 `[K]`. The sum is `total`.
    """
    quota = total * available / available.sum()
    given = np.ones(len(available), np.int64)
    # The next image always comes from the class that is furthest below its quota.
    waiting = [(1 - quota[k], k) for k in range(len(available)) if available[k] > 2]
    heapq.heapify(waiting)
    for _ in range(total - len(available)):
        surplus, k = heapq.heappop(waiting)
        given[k] += 1
        if given[k] < available[k] - 1:
            heapq.heappush(waiting, (surplus + 1, k))
    return given


def part_of_each(available: np.ndarray, divisor: int) -> np.ndarray:
    """Returns `available // divisor` for each class, but at least one: int64 `[K]`."""
    return np.maximum(1, np.asarray(available, np.int64) // divisor)


def validation_shares(available: np.ndarray, num_validation: int, name: str) -> np.ndarray:
    """Computes the number of validation images to hold out of each class.

    Args:
        available: Number of training images of each class, int `[K]`, each at least 2.
        num_validation: Total number of validation images. 0 holds out a tenth of each class, at
            least one image.
        name: Name of the data set, for messages.

    Returns:
        Int64 `[K]`.

    Raises:
        InputError: If a class would have no training image or no validation image.
    """
    if not num_validation:
        return part_of_each(available, 10)
    least, most = len(available), int(available.sum()) - len(available)
    if not least <= num_validation <= most:
        raise InputError(
            f"--num_validation must be {least:,} to {most:,}, or 0 for a tenth of each class; got "
            f"{num_validation}. {name} has {available.sum():,} training images in "
            f"{len(available):,} classes, and every class needs at least one image for training "
            "and one for validation."
        )
    return shares(available, num_validation)


def hold_out(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Draws `counts[k]` images of each class k.

    Args:
        labels: Int `[N]`.
        counts: Number of images to draw from each class, int `[K]`.
        seed: Random seed of the draw.

    Returns:
        Whether each image is drawn, bool `[N]`.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within each
    first = np.searchsorted(labels[order], np.arange(len(counts)))
    place = np.arange(len(labels)) - first[labels[order]]
    held = np.zeros(len(labels), bool)
    held[order] = place < counts[labels[order]]
    return held


def check_counts(
    labels: np.ndarray, class_names: Sequence[str], needed: int, why: str, name: str
) -> np.ndarray:
    """Counts the images of each class and checks that each class has enough.

    Args:
        labels: Int `[N]`.
        class_names: Names of the K classes.
        needed: Minimum number of images per class.
        why: The reason for this minimum, for the message.
        name: Name of the images, for the message.

    Returns:
        The number of images of each class, int64 `[K]`.

    Raises:
        InputError: If a class has fewer images. The message names up to three such classes.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    short = np.flatnonzero(counts < needed)
    if len(short):
        which = ", ".join(f"{printable(class_names[k])} has {counts[k]}" for k in short[:3])
        more = f" (and {len(short) - 3:,} more classes)" if len(short) > 3 else ""
        raise InputError(
            f"{name}: each class must have at least {needed} images, {why}; {which}{more}. Add "
            "images of this class or remove it."
        )
    return counts
