"""What a data set holds, counted before training: images, conversions, doubles; and its text."""

import collections
import dataclasses
import math
import unicodedata
from collections.abc import Callable, Mapping

import numpy as np

from oneshot_tf.data.listing import PassedOver, printable

_MANY_CLASSES = 20  # of more, only the smallest and the largest are shown
_FEW = 3  # how many of them, and of the suffixes and folders
_LARGEST_ERROR = 0.02  # a standard error above it can hardly tell candidates apart


@dataclasses.dataclass(frozen=True)
class Part:
    """What is known of the images of one split.

    Args:
        count: N, how many.
        labels: int32 `[N]`; None: not known before the images are read.
        checksums: uint64 `[N]`, equal for equal images; None: not computed.
        name: a name for the image at an index, for messages.
    """

    count: int
    labels: np.ndarray | None = None
    checksums: np.ndarray | None = None
    name: Callable[[int], str] = str


@dataclasses.dataclass(frozen=True)
class Doubles:
    """How many images are exact doubles of others.

    Args:
        within: by split, images that repeat an earlier image of the same split.
        across: by pair of splits, images of the second split that are in the first one, too.
        contradicting: images that are in another class, too, in any split.
        examples: names of two equal images: by pair of splits, and of two classes ("classes").
    """

    within: Mapping[str, int]
    across: Mapping[tuple[str, str], int]
    contradicting: int
    examples: Mapping[tuple[str, str] | str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """Counts of a data set.

    Args:
        name: of the data set.
        class_names: K names.
        image_size: height and width of the images in pixels.
        totals: images by split.
        per_class: images of each class, int `[K]`, by split; only splits with known labels.
        doubles: exact doubles; None: not looked for.
        passed: what was passed over in folders; None: there are no folders.
        conversions: decoded images by kind of conversion; None: not known before decoding.
        notes: sentences on how the splits came about.
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


def count_up(name: str, class_names, image_size: int, parts: Mapping[str, Part], **found):
    """The `Inventory` of the parts of a data set; `found` are its other fields."""
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
    """Finds equal images by their checksums; None if no split has checksums and labels."""
    parts = {s: p for s, p in parts.items() if p.checksums is not None and p.labels is not None}
    if not parts:
        return None
    within, across, examples = {}, {}, {}
    for split, part in parts.items():
        within[split] = part.count - len(np.unique(part.checksums))
    splits = list(parts)
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            one, other = parts[first], parts[second]
            both = np.isin(other.checksums, one.checksums)
            across[first, second] = int(both.sum())
            if both.any():
                at = int(np.argmax(both))
                same = int(np.argmax(one.checksums == other.checksums[at]))
                examples[first, second] = (one.name(same), other.name(at))
    contradicting, example = _contradictions(parts)
    if example:
        examples["classes"] = example
    return Doubles(within, across, contradicting, examples)


def _contradictions(parts):
    """How many images are equal to one of another class, and the names of two of them."""
    checksums = np.concatenate([part.checksums for part in parts.values()])
    labels = np.concatenate([part.labels for part in parts.values()])
    _, group = np.unique(checksums, return_inverse=True)
    least = np.full(group.max(initial=0) + 1, np.iinfo(np.int64).max)
    most = np.full(group.max(initial=0) + 1, -1)
    np.minimum.at(least, group, labels)
    np.maximum.at(most, group, labels)
    wrong = (least < most)[group]
    if not wrong.any():
        return 0, None
    first = int(np.argmax(wrong))
    second = int(np.argmax((group == group[first]) & (labels != labels[first])))
    names = [lambda i, p=p: p.name(i) for p in parts.values()]
    starts = np.cumsum([0, *(part.count for part in parts.values())])

    def name(index):
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return names[part](index - int(starts[part]))

    return int(wrong.sum()), (name(first), name(second))


def standard_error(count: int) -> float:
    """The largest standard error of an accuracy on `count` images: sqrt(p (1 - p) / n), p = 1/2."""
    return math.sqrt(0.25 / count)


def warnings(inventory: Inventory, ghost_batch_size: int = 0) -> list[str]:
    """Sentences on what makes results of a data set doubtful.

    Args:
        inventory: of the data set.
        ghost_batch_size: images that share batch statistics; 0: not known.
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
            "so each batch repeats images. Give more --num_validation images or a smaller "
            "--ghost_batch_size."
        )
    if standard_error(count) > _LARGEST_ERROR:
        found.append(
            f"The validation set is small: with {count:,} images, a standard error of a "
            f"candidate's accuracy is up to {standard_error(count):.3f}. Candidates that differ "
            f"by less can't be told apart; {math.ceil(0.25 / _LARGEST_ERROR**2):,} images give "
            f"{_LARGEST_ERROR}."
        )
    return found


def _double_warnings(inventory):
    """Sentences on images that two splits share, or two classes."""
    found, doubles = [], inventory.doubles
    if doubles is None:
        return found
    for (first, second), count in doubles.across.items():
        if count:
            one, other = doubles.examples[first, second]
            found.append(
                f"{count:,} of {inventory.totals[second]:,} {second} images are {first} images "
                f"too, such as {one} and {other}. Accuracy on {second} images is too high: "
                "remove them from one split."
            )
    if doubles.contradicting:
        one, other = doubles.examples["classes"]
        found.append(
            f"{doubles.contradicting:,} images are equal to an image of another class, such "
            f"as {one} and {other}. Remove the wrong ones."
        )
    return found


def _alike_names(names):
    """Class names that look the same: composed and decomposed letters."""
    alike = collections.defaultdict(list)
    for name in names:
        alike[unicodedata.normalize("NFC", name)].append(name)
    return [
        f"{len(same)} classes look the same, {printable(shown)}: their names differ only in how "
        "Unicode composes letters. Merge them, or rename one."
        for shown, same in alike.items()
        if len(same) > 1
    ]


def format_short(inventory: Inventory) -> str:
    """One line: images by split."""
    counts = ", ".join(f"{count:,} {split}" for split, count in inventory.totals.items())
    size = inventory.image_size
    return (
        f"{printable(inventory.name)}: {len(inventory.class_names):,} classes; {counts} images of "
        f"{size}x{size}."
    )


def format_table(inventory: Inventory) -> str:
    """All that was counted, as lines of text: images per class and split, then the rest."""
    lines = [format_short(inventory), *_class_lines(inventory), *inventory.notes]
    passed = inventory.passed
    if passed is not None:
        lines += _passed_lines(passed)
    if passed is not None and inventory.conversions is None:
        lines.append("Conversions are not known: images on disk are decoded while training.")
    elif inventory.conversions:
        kinds = sorted(inventory.conversions.items(), key=lambda item: (-item[1], item[0]))
        lines.append("Converted: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds) + ".")
    if inventory.doubles is not None:
        doubles = inventory.doubles
        counts = [(f"within {split}", count) for split, count in doubles.within.items()]
        counts += [(f"in {a} and {b}", count) for (a, b), count in doubles.across.items()]
        found = [f"{count:,} {where}" for where, count in counts if count]
        lines.append(f"Exact doubles: {', '.join(found) or 'none'}.")
        unread = [split for split in inventory.totals if split not in doubles.within]
        if unread:
            lines.append(f"Not compared yet: {', '.join(unread)} images.")
    return "\n".join(lines)


def _class_lines(inventory):
    splits, names = list(inventory.per_class), inventory.class_names
    if not splits:
        return ["Images per class are not known: labels are read with the images."]
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


def _passed_lines(passed):
    lines = []
    if passed.suffixes:
        lines.append(f"Passed over, files: {_most(passed.suffixes)}.")
        lines.append(f"Passed over, by folder: {_most(passed.folders)}.")
    if passed.hidden:
        lines.append(f"Passed over, hidden files and folders: {passed.hidden:,}.")
    if passed.loops:
        lines.append(f"Passed over, links to folders that were read before: {passed.loops:,}.")
    if passed.nested:
        lines.append(
            f"Read as images of the class, from folders inside its folder: {passed.nested:,}."
        )
    return lines


def _most(counter):
    """The largest counts, in words."""
    found = [f"{what} {count:,}" for what, count in counter.most_common(_FEW)]
    rest = counter.total() - sum(count for _, count in counter.most_common(_FEW))
    return ", ".join(found) + (f", others {rest:,}" if rest else "")
