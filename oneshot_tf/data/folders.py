"""A folder of image files: it assigns files to splits, and reads them or leaves them on disk.

PATH has one folder of images per class, or folders `train` and, optionally, `val` and `test`
with such folders, see `listing.find_parts`. A split that PATH doesn't have is held out of the
training images, class by class and with a fixed seed: a sixth of each class as test images, then
a tenth of the rest as validation images.
"""

import collections
import dataclasses
import functools
import os

import numpy as np
import tensorflow as tf

from oneshot_tf.data import checksums, splits
from oneshot_tf.data.dataset import Dataset, Split, check_memory, from_splits
from oneshot_tf.data.images import BadImages, decode, resize
from oneshot_tf.data.inventory import Inventory, Part, count_up
from oneshot_tf.data.listing import PassedOver, find_parts, list_classes, printable
from oneshot_tf.data.streaming import FileReader, StreamedSplit
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path

_TEST_PART = 6  # one image of so many is held out as a test image
_TEST_SEED, _VALIDATION_SEED, _ORDER_SEED = 1, 0, 2


def load(
    path: str, size: int, skip: bool, streamed: bool, fit: str, num_validation: int = 0
) -> Dataset:
    """The data set of a folder; the arguments are those of `load_data`.

    Raises:
        InputError: it can't be used; the message says why and the way out.
    """
    root = user_path(path)
    if not root.is_dir():
        raise InputError(f"--dataset=folder:{path}: there is no folder {root}.")
    plan = _plan(root, num_validation)
    source = (_Streamed if streamed else _InMemory)(f"folder:{path}", plan, size, skip, fit)
    train, validation = source.read("train", "validation")

    def load_test():
        return source.read("test")[0]

    dataset = from_splits(source.name, train, validation, load_test, plan.class_names, fit)
    return dataclasses.replace(
        dataset, test_fingerprint=source.test_fingerprint, inventory=source.inventory
    )


@dataclasses.dataclass(frozen=True)
class _Plan:
    """All files, int32 labels `[N]`, class names; by split which of them, in mixed order."""

    root: os.PathLike
    files: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    places: dict[str, np.ndarray]
    passed: PassedOver
    notes: tuple[str, ...]


def _plan(root, num_validation):
    """Assigns each file to a split; reads no file."""
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
    # Consecutive images share batch statistics when candidates are evaluated: classes are mixed.
    mix = np.random.default_rng(_ORDER_SEED).permutation
    places = {split: mix(places[split]) for split in ("train", "validation", "test")}
    files = [file for listing in listed.values() for file in listing.files]
    return _Plan(root, files, labels, names, places, passed, notes)


def _check_same_classes(listed):
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
                    f"{printable(lacking.root)} has no folder for the class {shown}{more}, which "
                    f"{printable(listed['train'].root.parent)} has in another split. All splits "
                    "must have the same classes: add the folder, or remove the class."
                )


def _hold_out(places, labels, names, num_validation, train_name):
    """Takes the splits that `places` lacks out of its "train"; returns sentences that say so."""
    missing = [split for split in ("test", "validation") if split not in places]
    if num_validation and "validation" not in missing:
        raise InputError(
            f"--num_validation={num_validation}, but {train_name} has a folder of "
            f"{len(places['validation']):,} validation images beside it. Leave --num_validation "
            "out, or remove that folder."
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
    """The files of a plan, and what was found out about them.

    Args:
        name: of the data set.
        plan: which files there are.
        size, skip, fit: as `image_size`, `skip_bad_images` and `fit` of `load_data`.
    """

    def __init__(self, name, plan, size, skip, fit):
        self.name, self.plan, self.size, self.skip, self.fit = name, plan, size, skip, fit
        self.used = dict(plan.places)  # by split; without those that can't be decoded
        self.conversions = {}  # by split
        self._checksums = np.zeros(len(plan.files), np.uint64)
        self._known = np.zeros(len(plan.files), bool)

    def checksums(self, indices):
        """Of the contents of files: uint64 `[n]`; reads those that were not read yet."""
        new = indices[~self._known[indices]]
        try:
            found = checksums.of_files([self.plan.files[i] for i in new], self.skip)
        except OSError as error:
            raise InputError(
                f"{printable(error.filename)} can't be read ({error.strerror}). Repair or remove "
                "it, or leave out what can't be used: --skip_bad_images."
            ) from None
        self._checksums[new], self._known[new] = found, True
        return self._checksums[indices]

    def test_fingerprint(self):
        """As `Split.fingerprint`, of the files of all test images; decodes none."""
        places = self.plan.places["test"]
        found = checksums.summary(self.checksums(places))
        return [len(places), found, checksums.summary(self.plan.labels[places])]

    def check_classes(self, split):
        """Raises InputError if a class has no image left in a split."""
        labels = self.plan.labels
        lost = np.setdiff1d(labels[self.plan.places[split]], labels[self.used[split]])
        if lost.size:
            name = printable(self.plan.class_names[lost[0]])
            raise InputError(
                f"{self.name}: of class {name} no image is left in the {split} images. Add images "
                "of it, or remove the class."
            )

    def inventory(self, decode_test: bool = True) -> Inventory:
        """Counts everything; see `Dataset.inventory`."""
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

    def _shown(self, used, index):
        return printable(os.path.relpath(self.plan.files[used[index]], self.plan.root))


class _InMemory(_Source):
    """Reads and decodes files at once."""

    def read(self, *names):
        """A `Split` for each of some splits; all files are tried before an error is raised."""
        places = np.concatenate([self.plan.places[name] for name in names])
        check_memory(len(places), self.size, self.name)
        images = np.zeros((len(places), self.size, self.size, 3), np.uint8)
        kept, counts = np.ones(len(places), bool), collections.Counter()
        bad = BadImages(self.name, self.skip)
        for row, index in enumerate(places):
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
    """Leaves files on disk."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._reader = FileReader(self.plan.files, self.plan.labels, self.checksums)

    def read(self, *names):
        """A `StreamedSplit` for each of some splits; with `skip`, all files are tried."""
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
        """Counts what is known without decoding."""
        return super().inventory(decode_test=False)
