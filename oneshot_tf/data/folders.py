"""Reads a folder of image files and assigns the files to splits.

PATH has one folder of images per class, or folders `train` and, optionally, `val` and `test` that
contain such class folders; see `listing.find_parts`. A split that is missing is held out of the
training images, class by class and with a fixed seed: first a sixth of each class as test images,
then a tenth of the rest as validation images.
"""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from oneshot_tf.data import checksums, splits
from oneshot_tf.data.dataset import Dataset, check_memory, from_splits
from oneshot_tf.data.images import BadImages, decode, resize
from oneshot_tf.data.in_memory import AnySplit, Split
from oneshot_tf.data.inventory import Inventory, Part, count_up
from oneshot_tf.data.listing import Listing, PassedOver, find_parts, list_classes, printable
from oneshot_tf.data.readers import FileReader
from oneshot_tf.data.streaming import StreamedSplit
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path
from oneshot_tf.system.progress import each

_TEST_PART = 6  # one of this many images is held out as a test image
_TEST_SEED, _VALIDATION_SEED, _ORDER_SEED = 1, 0, 2


def load(
    path: str, size: int, skip: bool, streamed: bool, fit: str, num_validation: int = 0
) -> Dataset:
    """Loads the data set of a folder.

    Args:
        path: Path of the folder.
        size: Height and width in pixels to resize to.
        skip: The `skip_bad_images` of `load_data`.
        streamed: Whether to leave the images on disk.
        fit: As in `load_data`.
        num_validation: As in `load_data`.

    Raises:
        InputError: If the folder cannot be used. The message gives the reason and the fix.
    """
    root = user_path(path)
    if not root.is_dir():
        raise InputError(
            f"--dataset=folder:{path} must name a folder; there is no folder {root}. Check the "
            "path."
        )
    plan = _plan(root, num_validation)
    source = (_Streamed if streamed else _InMemory)(f"folder:{path}", plan, size, skip, fit)
    train, validation = source.read("train", "validation")

    def load_test() -> AnySplit:
        return source.read("test")[0]

    dataset = from_splits(source.name, train, validation, load_test, plan.class_names, fit)
    return dataclasses.replace(
        dataset, test_fingerprint=source.test_fingerprint, inventory=source.inventory
    )


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The files of a folder and their splits.

    Args:
        root: The folder.
        files: N paths.
        labels: Int32 `[N]`.
        class_names: Names of the K classes.
        places: Indices of files by split, in random order.
        passed: Counts of ignored files.
        notes: Sentences that describe the origin of the splits.
    """

    root: pathlib.Path
    files: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    places: dict[str, np.ndarray]
    passed: PassedOver
    notes: tuple[str, ...]


def _plan(root: pathlib.Path, num_validation: int) -> _Plan:
    """Assigns each file to a split without reading any file."""
    passed = PassedOver()
    parts = find_parts(root, passed)
    folders = {"train": parts.get("train", root), **{s: p for s, p in parts.items() if s}}
    listed = {split: list_classes(folder, passed) for split, folder in folders.items()}
    _check_same_classes(listed)
    names, starts = listed["train"].class_names, 0
    places = {}
    for split, listing in listed.items():
        places[split] = np.arange(starts, starts + len(listing.files))
        starts += len(listing.files)
    labels = np.concatenate([listing.labels for listing in listed.values()])
    notes = _hold_out(places, labels, names, num_validation, printable(folders["train"]))
    # Classes must be mixed, because evaluation computes batch statistics of consecutive images.
    mix = np.random.default_rng(_ORDER_SEED).permutation
    places = {split: mix(places[split]) for split in ("train", "validation", "test")}
    files = [file for listing in listed.values() for file in listing.files]
    return _Plan(root, files, labels, names, places, passed, notes)


def _check_same_classes(listed: Mapping[str, Listing]) -> None:
    """Raises InputError unless all splits have the same classes."""
    names = set(listed["train"].class_names)
    for listing in listed.values():
        for extra, lacking in (
            (names - set(listing.class_names), listing),
            (set(listing.class_names) - names, listed["train"]),
        ):
            if extra:
                shown = ", ".join(map(printable, sorted(extra)[:3]))
                more = f" and {len(extra) - 3:,} more" if len(extra) > 3 else ""
                raise InputError(
                    f"All splits must have the same classes; {printable(lacking.root)} has no "
                    f"folder for the class {shown}{more}, which another split in "
                    f"{printable(listed['train'].root.parent)} has. Add the folder or remove the "
                    "class from all splits."
                )


def _hold_out(
    places: dict[str, np.ndarray],
    labels: np.ndarray,
    names: Sequence[str],
    num_validation: int,
    train_name: str,
) -> tuple[str, ...]:
    """Moves images from the training split to the splits that are missing.

    Args:
        places: Indices of files by split. This function changes it.
        labels: Int32 `[N]`.
        names: Names of the K classes.
        num_validation: As in `load_data`.
        train_name: Name of the training images, for messages.

    Returns:
        Sentences that describe the split.
    """
    missing = [split for split in ("test", "validation") if split not in places]
    if num_validation and "validation" not in missing:
        raise InputError(
            f"--num_validation must be 0 if there is a folder of validation images; got "
            f"{num_validation}, and {len(places['validation']):,} validation images are next to "
            f"{train_name}. Omit --num_validation or remove their folder."
        )
    why = "one for training, and one to hold out for " + " and ".join(reversed(missing))
    train = places["train"]
    if missing:
        splits.check_counts(labels[train], names, 1 + len(missing), why, train_name)
    notes = []
    for split in missing:
        counts = np.bincount(labels[train], minlength=len(names))
        if split == "test":
            wanted = splits.part_of_each(counts, _TEST_PART)
            notes.append("a sixth of each class as test images")
        else:
            wanted = splits.validation_shares(counts, num_validation, train_name)
            size = f"{num_validation:,} images, spread over the classes," if num_validation else ""
            notes.append(f"{size or 'a tenth of each class'} as validation images")
        held = splits.hold_out(
            labels[train], wanted, _TEST_SEED if split == "test" else _VALIDATION_SEED
        )
        places[split], train = train[held], train[~held]
    places["train"] = train
    return (f"Held out of the training images: {', then '.join(notes)}.",) if notes else ()


class _Source:
    """Base class of the ways to read the files of a plan. Keeps checksums and counts.

    Args:
        name: Name of the data set.
        plan: The files and their splits.
        size: Height and width in pixels to resize to.
        skip: The `skip_bad_images` of `load_data`.
        fit: As in `load_data`.
    """

    def __init__(self, name: str, plan: _Plan, size: int, skip: bool, fit: str) -> None:
        self.name, self.plan, self.size, self.skip, self.fit = name, plan, size, skip, fit
        self.used = dict(plan.places)  # by split, without the files that cannot be decoded
        self.conversions: dict[str, collections.Counter[str]] = {}  # by split
        self._checksums = np.zeros(len(plan.files), np.uint64)
        self._known = np.zeros(len(plan.files), bool)

    def read(self, *names: str) -> Sequence[AnySplit]:
        """Returns the images of each of the named splits."""
        raise NotImplementedError

    def checksums(self, indices: np.ndarray) -> np.ndarray:
        """Returns checksums of the contents of files, reading each file at most once.

        Args:
            indices: Int64 `[n]`.

        Returns:
            Uint64 `[n]`.

        Raises:
            InputError: If a file cannot be read.
        """
        new = indices[~self._known[indices]]
        try:
            found = checksums.of_files([self.plan.files[i] for i in new], self.skip)
        except OSError as error:
            raise InputError(
                f"{printable(error.filename)} cannot be read ({error.strerror}). Repair or remove "
                "it, or set --skip_bad_images to leave bad images out."
            ) from None
        self._checksums[new], self._known[new] = found, True
        return self._checksums[indices]

    def test_fingerprint(self) -> list[int]:
        """Returns the number and checksums of all test files, without decoding them."""
        places = self.plan.places["test"]
        found = checksums.summary(self.checksums(places))
        return [len(places), found, checksums.summary(self.plan.labels[places])]

    def check_classes(self, split: str) -> None:
        """Raises InputError if no image of a class is left in a split."""
        labels = self.plan.labels
        lost = np.setdiff1d(labels[self.plan.places[split]], labels[self.used[split]])
        if lost.size:
            name = printable(self.plan.class_names[lost[0]])
            raise InputError(
                f"{self.name}: every class must have a usable image in each split; class {name} "
                f"has none in the {split} images. Add images or remove the class."
            )

    def inventory(self, decode_test: bool = True) -> Inventory:
        """Counts the contents of the data set; see `Dataset.inventory`."""
        if decode_test:
            self.read("test")
        parts = {
            split: Part(
                len(used), self.plan.labels[used], self.checksums(used),
                functools.partial(self._shown, used),
            )
            for split, used in self.used.items()
        }  # fmt: skip
        conversions = sum(self.conversions.values(), collections.Counter())
        return count_up(
            self.name, self.plan.class_names, self.size, parts, passed=self.plan.passed,
            conversions=conversions if self.conversions else None, notes=self.plan.notes,
        )  # fmt: skip

    def _shown(self, used: np.ndarray, index: int) -> str:
        return printable(os.path.relpath(self.plan.files[used[index]], self.plan.root))


class _InMemory(_Source):
    """A source that decodes all files of a split at once."""

    def read(self, *names: str) -> list[Split]:
        """Decodes the named splits. Tries all files before it raises an error."""
        places = np.concatenate([self.plan.places[name] for name in names])
        check_memory(len(places), self.size, self.name)
        images = np.zeros((len(places), self.size, self.size, 3), np.uint8)
        kept = np.ones(len(places), bool)
        counts: collections.Counter[str] = collections.Counter()
        bad = BadImages(self.name, self.skip)
        rows = each(enumerate(places), f"{self.name}: reading", len(places), "images")
        for row, index in rows:
            try:
                with open(self.plan.files[index], "rb") as file:
                    content = file.read()
                decoded = decode(content)
                images[row] = resize(decoded.pixels, self.size, self.fit)
            except (tf.errors.OpError, OSError, ValueError) as error:
                kept[row] = False
                bad.add(printable(self.plan.files[index]), error)
                continue
            self._checksums[index], self._known[index] = checksums.checksum(content), True
            counts.update(decoded.conversions)
        bad.report(len(places))
        self.conversions["+".join(names)] = counts
        found, start = [], 0
        for name in names:
            good = kept[start : start + len(self.plan.places[name])]
            part = images[start : start + len(good)]
            start += len(good)
            self.used[name] = self.plan.places[name][good]
            self.check_classes(name)
            labels = self.plan.labels[self.used[name]]
            found.append(Split(part if good.all() else part[good], labels))
        return found


class _Streamed(_Source):
    """A source that leaves the files on disk."""

    def __init__(self, name: str, plan: _Plan, size: int, skip: bool, fit: str) -> None:
        super().__init__(name, plan, size, skip, fit)
        self._reader = FileReader(self.plan.files, self.plan.labels, self.checksums)

    def read(self, *names: str) -> list[StreamedSplit]:
        """Returns the named splits. With `skip`, decodes all files once to find bad ones."""
        found = []
        for name in names:
            split = StreamedSplit(self._reader, self.plan.places[name], self.size, self.fit)
            if self.skip:
                split = split.without_bad()
                self.used[name] = split.indices
                self.check_classes(name)
            found.append(split)
        return found

    def inventory(self, decode_test: bool = True) -> Inventory:
        """Counts the contents without decoding any image."""
        return super().inventory(decode_test=False)
