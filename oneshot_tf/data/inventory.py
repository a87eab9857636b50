"""Counts the contents of a data set before training, and formats the counts as text."""

import collections
import dataclasses
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from oneshot_tf.data.listing import PassedOver, printable

_MANY_CLASSES = 20  # with more classes, the table shows the smallest and the largest only
_FEW = 3  # number of classes at either end of the table, and of suffixes and folders to show
_LARGEST_ERROR = 0.02  # a larger standard error can hardly distinguish candidates


@dataclasses.dataclass(frozen=True)
class Part:
    """Known facts about the images of one split.

    Args:
        count: Number of images, N.
        labels: Int32 `[N]`, or None if they are not known before the images are read.
        checksums: Uint64 `[N]`, equal for equal images, or None if they are not computed.
        name: Returns the name of the image at an index, for messages.
    """

    count: int
    labels: np.ndarray | None = None
    checksums: np.ndarray | None = None
    name: Callable[[int], str] = str


@dataclasses.dataclass(frozen=True)
class Doubles:
    """Counts of exact duplicates.

    Args:
        within: By split, the images that repeat an earlier image of the same split.
        across: By pair of splits, the images of the second split that are also in the first.
        contradicting: Number of images that are also in another class, in any split.
        examples: Names of two equal images, by pair of splits. The key "classes" holds an example
            from two classes.
    """

    within: Mapping[str, int]
    across: Mapping[tuple[str, str], int]
    contradicting: int
    examples: Mapping[tuple[str, str] | str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """Counts of a data set.

    Args:
        name: Name of the data set.
        class_names: Names of the K classes.
        image_size: Height and width of the images in pixels.
        totals: Number of images by split.
        per_class: Number of images of each class, int `[K]`, by split. It has only the splits
            with known labels.
        doubles: Exact duplicates, or None if no images were compared.
        passed: Ignored files and folders, or None if the data set is not a folder.
        conversions: Number of images by conversion, or None if it is not known before decoding.
        notes: Sentences that describe the origin of the splits.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    totals: Mapping[str, int]
    per_class: Mapping[str, np.ndarray]
    doubles: Doubles | None = None
    passed: PassedOver | None = None
    conversions: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


def count_up(
    name: str, class_names: Sequence[str], image_size: int, parts: Mapping[str, Part], **found: Any
) -> Inventory:
    """Counts the parts of a data set.

    Args:
        name: Name of the data set.
        class_names: Names of the K classes.
        image_size: Height and width of the images in pixels.
        parts: The images by split.
        **found: Other fields of the `Inventory`.
    """
    per_class = {
        split: np.bincount(part.labels, minlength=len(class_names))
        for split, part in parts.items()
        if part.labels is not None
    }
    totals = {split: part.count for split, part in parts.items()}
    return Inventory(
        name, tuple(class_names), image_size, totals, per_class, find_doubles(parts), **found
    )


def find_doubles(parts: Mapping[str, Part]) -> Doubles | None:
    """Finds equal images by their checksums.

    Returns:
        The duplicates, or None if no split has checksums and labels.
    """
    sums: dict[str, np.ndarray] = {}
    labels: list[np.ndarray] = []
    for split, part in parts.items():
        if part.checksums is not None and part.labels is not None:
            sums[split] = part.checksums
            labels.append(part.labels)
    if not sums:
        return None
    names = {split: parts[split].name for split in sums}
    within = {split: parts[split].count - len(np.unique(sums[split])) for split in sums}
    across: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str] | str, tuple[str, str]] = {}
    splits = list(sums)
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            both = np.isin(sums[second], sums[first])
            across[first, second] = int(both.sum())
            if both.any():
                at = int(np.argmax(both))
                same = int(np.argmax(sums[first] == sums[second][at]))
                examples[first, second] = (names[first](same), names[second](at))
    contradicting, example = _contradictions(list(sums.values()), labels, list(names.values()))
    if example:
        examples["classes"] = example
    return Doubles(within, across, contradicting, examples)


def _contradictions(
    sums: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    names: Sequence[Callable[[int], str]],
) -> tuple[int, tuple[str, str] | None]:
    """Counts the images that equal an image of another class.

    Args:
        sums: Checksums by split, each uint64 `[N]`.
        labels: By split, each int `[N]`.
        names: By split, a function that returns the name of the image at an index.

    Returns:
        The number of images, and the names of two of them or None.
    """
    classes = np.concatenate(labels)
    _, group = np.unique(np.concatenate(sums), return_inverse=True)
    least = np.full(group.max(initial=0) + 1, np.iinfo(np.int64).max)
    most = np.full(group.max(initial=0) + 1, -1)
    np.minimum.at(least, group, classes)
    np.maximum.at(most, group, classes)
    wrong = (least < most)[group]
    if not wrong.any():
        return 0, None
    first = int(np.argmax(wrong))
    second = int(np.argmax((group == group[first]) & (classes != classes[first])))
    starts = np.cumsum([0, *(len(each) for each in sums)])

    def name(index: int) -> str:
        split = int(np.searchsorted(starts, index, side="right")) - 1
        return names[split](index - int(starts[split]))

    return int(wrong.sum()), (name(first), name(second))


def standard_error(count: int) -> float:
    """Returns the largest standard error of an accuracy on n images: sqrt(p (1 - p) / n), p = 1/2.

    Args:
        count: Number of images, n.
    """
    return math.sqrt(0.25 / count)


def warnings(inventory: Inventory, ghost_batch_size: int = 0) -> list[str]:
    """Returns sentences about properties of a data set that make results doubtful.

    Args:
        inventory: Counts of the data set.
        ghost_batch_size: Number of images that share batch statistics, or 0 if it is not known.
    """
    found = _double_warnings(inventory) + _alike_names(inventory.class_names)
    for split, counts in inventory.per_class.items():
        lacking = [printable(inventory.class_names[k]) for k in np.flatnonzero(counts == 0)]
        if lacking:
            more = ", …" if len(lacking) > _FEW else ""
            found.append(
                f"The {split} images have none of {len(lacking):,} class(es): "
                f"{', '.join(lacking[:_FEW])}{more}."
            )
    count = inventory.totals["validation"]
    if ghost_batch_size > count:
        found.append(
            f"The {count:,} validation images are fewer than a ghost batch of {ghost_batch_size}, "
            "so each batch repeats images. Increase --num_validation or decrease "
            "--ghost_batch_size."
        )
    if standard_error(count) > _LARGEST_ERROR:
        found.append(
            f"The validation set is small: with {count:,} images, the standard error of a "
            f"candidate's accuracy is up to {standard_error(count):.3f}. It cannot distinguish "
            f"candidates that differ by less. {math.ceil(0.25 / _LARGEST_ERROR**2):,} images "
            f"reduce the standard error to {_LARGEST_ERROR}."
        )
    return found


def _double_warnings(inventory: Inventory) -> list[str]:
    """Returns sentences about images that two splits or two classes share."""
    found: list[str] = []
    doubles = inventory.doubles
    if doubles is None:
        return found
    for (first, second), count in doubles.across.items():
        if count:
            one, other = doubles.examples[first, second]
            found.append(
                f"{count:,} of {inventory.totals[second]:,} {second} images are also {first} "
                f"images, for example {one} and {other}. This makes the accuracy on {second} "
                "images too high. Remove the images from one split."
            )
    if doubles.contradicting:
        one, other = doubles.examples["classes"]
        found.append(
            f"{doubles.contradicting:,} images equal an image of another class, for example "
            f"{one} and {other}. Remove the wrong ones."
        )
    return found


def _alike_names(names: Iterable[str]) -> list[str]:
    """Returns sentences about class names that differ only in composed and decomposed letters."""
    alike = collections.defaultdict(list)
    for name in names:
        alike[unicodedata.normalize("NFC", name)].append(name)
    return [
        f"The names of {len(same)} classes look the same, {printable(shown)}. They differ only in "
        "how Unicode composes letters. Merge the classes or rename one."
        for shown, same in alike.items()
        if len(same) > 1
    ]


def format_short(inventory: Inventory) -> str:
    """Returns the number of classes and the images by split, as one line."""
    counts = ", ".join(f"{count:,} {split}" for split, count in inventory.totals.items())
    size = inventory.image_size
    return (
        f"{printable(inventory.name)}: {len(inventory.class_names):,} classes; {counts} images of "
        f"{size}x{size}."
    )


def format_table(inventory: Inventory) -> str:
    """Returns all counts as lines of text: first the images per class and split, then the rest."""
    lines = [format_short(inventory), *_class_lines(inventory), *inventory.notes]
    passed = inventory.passed
    if passed is not None:
        lines += _passed_lines(passed)
    if passed is not None and inventory.conversions is None:
        lines.append("Conversions are unknown, because training decodes the images on disk.")
    elif inventory.conversions:
        kinds = sorted(inventory.conversions.items(), key=lambda item: (-item[1], item[0]))
        lines.append("Converted: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds) + ".")
    if inventory.doubles is not None:
        doubles = inventory.doubles
        counts = [(f"within {split}", count) for split, count in doubles.within.items()]
        counts += [(f"in {a} and {b}", count) for (a, b), count in doubles.across.items()]
        found = [f"{count:,} {where}" for where, count in counts if count]
        lines.append(f"Exact duplicates: {', '.join(found) or 'none'}.")
        unread = [split for split in inventory.totals if split not in doubles.within]
        if unread:
            lines.append(f"Not compared yet: {', '.join(unread)} images.")
    return "\n".join(lines)


def _class_lines(inventory: Inventory) -> list[str]:
    """Returns the table of images per class and split, line by line."""
    splits, names = list(inventory.per_class), inventory.class_names
    if not splits:
        return ["Images per class are not known, because labels are read with the images."]
    counts = np.stack([inventory.per_class[split] for split in splits], axis=1)  # [K, splits]
    shown = list(range(len(names)))
    if len(names) > _MANY_CLASSES:
        order = np.argsort(counts.sum(axis=1), kind="stable")
        shown = [*order[:_FEW], *order[-_FEW:]]
    rows = [["class", *splits]]
    rows += [[printable(names[k])[:40], *(f"{n:,}" for n in counts[k])] for k in shown]
    if len(shown) < len(names):
        rows.insert(1 + _FEW, [f"({len(names) - len(shown):,} more classes)", *[""] * len(splits)])
    rows.append([f"all {len(names):,}", *(f"{n:,}" for n in counts.sum(axis=0))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _passed_lines(passed: PassedOver) -> list[str]:
    lines = []
    if passed.suffixes:
        lines.append(f"Ignored files by suffix: {_most(passed.suffixes)}.")
        lines.append(f"Ignored files by folder: {_most(passed.folders)}.")
    if passed.hidden:
        lines.append(f"Ignored hidden files and folders: {passed.hidden:,}.")
    if passed.loops:
        lines.append(f"Ignored links to folders that were already read: {passed.loops:,}.")
    if passed.nested:
        lines.append(f"Images in folders inside class folders, which are used: {passed.nested:,}.")
    return lines


def _most(counter: collections.Counter[str]) -> str:
    """Returns the largest counts and the sum of the others as text."""
    found = [f"{what} {count:,}" for what, count in counter.most_common(_FEW)]
    rest = counter.total() - sum(count for _, count in counter.most_common(_FEW))
    return ", ".join(found) + (f", others {rest:,}" if rest else "")


def inventory_of(dataset: Any, decode_test: bool = True) -> Inventory:
    """Counts the contents of a data set that `load_data` loaded.

    Args:
        dataset: A `Dataset` with an inventory.
        decode_test: Whether to decode the test images of a folder, to find damage.
    """
    return dataset.inventory(decode_test=decode_test)
