"""Which images are held out: the same ones at every call, and some of every class."""

import heapq

import numpy as np

from oneshot_tf.data.listing import printable
from oneshot_tf.system.errors import InputError


def shares(available: np.ndarray, total: int) -> np.ndarray:
    """How many of `total` images each class gives: in proportion, by largest remainder.

    Each class gives at least one image and keeps at least one.

    Args:
        available: images of each class, int `[K]`, each at least 2.
        total: images to hold out, from K to the sum of `available` minus K.

    Returns:
        int64 `[K]` whose sum is `total`.
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
    """A `divisor`-th of the images of each class, rounded down, at least one: int64 `[K]`."""
    return np.maximum(1, np.asarray(available, np.int64) // divisor)


def validation_shares(available: np.ndarray, num_validation: int, name: str) -> np.ndarray:
    """How many validation images each class gives; 0 asks for a tenth of each class.

    Args:
        available: training images of each class, int `[K]`, each at least 2.
        num_validation: images to hold out in all; 0: a tenth of each class, at least one.
        name: of the data set, for messages.

    Raises:
        InputError: a class would have no training image or no validation image.
    """
    if not num_validation:
        return part_of_each(available, 10)
    least, most = len(available), int(available.sum()) - len(available)
    if not least <= num_validation <= most:
        raise InputError(
            f"--num_validation={num_validation}, but {name} has {available.sum():,} training "
            f"images of {len(available):,} classes. Every class must keep one image for training "
            f"and give one for validation: choose {least:,} to {most:,}, or 0 for a tenth."
        )
    return shares(available, num_validation)


def hold_out(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Draws `counts[k]` images of each class k.

    Args:
        labels: int `[N]`.
        counts: how many images of each class, int `[K]`.
        seed: of the draw.

    Returns:
        Which images are drawn: bool `[N]`.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within each
    first = np.searchsorted(labels[order], np.arange(len(counts)))
    place = np.arange(len(labels)) - first[labels[order]]
    held = np.zeros(len(labels), bool)
    held[order] = place < counts[labels[order]]
    return held


def check_counts(labels: np.ndarray, class_names, needed: int, why: str, name: str) -> np.ndarray:
    """Counts the images of each class: int64 `[K]`.

    Args:
        labels: int `[N]`.
        class_names: K names.
        needed: images that each class must have.
        why: they are needed, for the message.
        name: of the images, for the message.

    Raises:
        InputError: a class has fewer; names up to three of them.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    short = np.flatnonzero(counts < needed)
    if len(short):
        which = ", ".join(f"{printable(class_names[k])} has {counts[k]}" for k in short[:3])
        more = f" (and {len(short) - 3:,} more classes)" if len(short) > 3 else ""
        raise InputError(
            f"{name}: each class must have at least {needed} images, {why}; {which}{more}. Add "
            "images of that class, or remove it."
        )
    return counts
