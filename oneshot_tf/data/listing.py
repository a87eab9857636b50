"""Lists a folder of images: the files of each class, and what is passed over."""

import collections
import dataclasses
import os
import pathlib

import numpy as np

from oneshot_tf.data.images import SUFFIXES
from oneshot_tf.system.errors import InputError

_ROLES = {"train": "train", "val": "validation", "valid": "validation",
          "validation": "validation", "test": "test"}  # fmt: skip
# Files and folders of operating systems, besides names that begin with ".".
_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin",
           "system volume information"}  # fmt: skip


@dataclasses.dataclass
class PassedOver:
    """Counts of what was seen in a folder and is not used, or lies where few expect it.

    Args:
        suffixes: files that are no images, by suffix.
        folders: the same files, by the folder that they lie in.
        hidden: files and folders that begin with ".", and those of operating systems.
        nested: images that are used, in folders inside class folders.
        loops: links to a folder that was read before, which are not followed.
    """

    suffixes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    folders: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    nested: int = 0
    loops: int = 0

    def add_file(self, name: str, folder: str) -> None:
        """A file that is not used."""
        suffix = os.path.splitext(name)[1].lower()
        self.suffixes[suffix or "without a suffix"] += 1
        self.folders[folder] += 1


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files of one folder of class folders, in the order of their names.

    Args:
        root: the folder.
        files: N paths.
        labels: int32 `[N]`.
        class_names: K names of folders.
    """

    root: pathlib.Path
    files: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


def printable(path) -> str:
    """A path as text that any UTF-8 terminal shows: other bytes and control characters as codes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_hidden(name):
    return name.startswith(".") or name.lower() in _SYSTEM


def _folders(root):
    """Names of the folders in a folder, without hidden ones, sorted."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not _is_hidden(e.name))


def _is_image(name):
    return not _is_hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def find_parts(path, passed: PassedOver) -> dict[str, pathlib.Path]:
    """The folders of class folders that make up a data set, by split.

    A folder `train` (in any capitalisation) is the training split if it holds folders and no
    image of its own. Then `val`, `valid` or `validation`, and `test`, are the other splits. A
    folder of one of these names that holds images, beside folders of other names, is a class.

    Args:
        path: the folder.
        passed: takes folders beside the splits that hold no image.

    Returns:
        "train" and, where there are such folders, "validation" and "test"; {"": path} if the
        folder holds the class folders itself.

    Raises:
        InputError: the folders mean more than one thing, or `train` is missing.
    """
    root = pathlib.Path(path)
    parts, others = _by_role(root)
    seen = ", ".join(folder.name for folder in parts.values())
    if "train" not in parts:
        if parts and not others:
            raise InputError(
                f"{printable(root)} has the folder(s) {seen}, but no folder train. Add a folder "
                "train with one folder of images per class."
            )
        return {"": root}
    loose, _ = _walk(parts["train"], set(), PassedOver(), deep=False)
    if loose and others:
        return {"": root}
    if not _folders(parts["train"]):
        raise InputError(
            f"{printable(parts['train'])} must have one folder of images per class, because "
            f"{printable(root)} has no class folder beside {seen}; it has none. Sort its images "
            "into class folders."
        )
    for name in others:
        images, _ = _walk(root / name, set(), passed, deep=True)
        if images:
            raise InputError(
                f"{printable(root)} has {seen} with class folders, and beside them the folder "
                f"{printable(name)} with {len(images):,} image(s). It is unclear whether that is a "
                "class. Move it into train, or out of the way."
            )
    _count_outside(root, passed)
    return parts


def _by_role(root):
    """The folders in a folder: by split those that are named like one, and names of others."""
    parts, others = {}, []
    for name in _folders(root):
        role = _ROLES.get(name.lower())
        if role is None:
            others.append(name)
        elif role in parts:
            raise InputError(
                f"{printable(root)} has the folders {parts[role].name} and {name}, both for "
                f"{role} images. Keep one of them."
            )
        else:
            parts[role] = root / name
    return parts, others


def list_classes(root, passed: PassedOver) -> Listing:
    """Lists a folder of class folders; images in folders inside a class folder are of that class.

    Links are followed; each folder is read once per class.

    Args:
        root: the folder.
        passed: counts what is not used.

    Raises:
        InputError: fewer than two classes, a class without images, or a name that isn't UTF-8.
    """
    root = pathlib.Path(root)
    names = _folders(root)
    for name in names:
        _check_utf8(root, name)
    outside = _count_outside(root, passed)
    if len(names) < 2:
        has = f"the class folder {printable(names[0])} only" if names else "no class folder"
        raise InputError(
            f"{printable(root)} must have a folder of images for each of two or more classes; it "
            f"has {has}, and {outside:,} image(s) outside of class folders. Sort the images "
            "into class folders."
        )
    files, labels = [], []
    for label, name in enumerate(names):
        found, nested = _walk(root / name, _identities(root), passed, deep=True)
        if not found:
            raise InputError(
                f"The class folder {printable(root / name)} holds no image "
                f"({', '.join(sorted(SUFFIXES))}). Add some or remove the folder."
            )
        passed.nested += nested
        files += found
        labels += [label] * len(found)
    return Listing(root, files, np.array(labels, np.int32), tuple(names))


def _check_utf8(root, name):
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"The name of the class folder {printable(root / name)} is not UTF-8. Rename it."
        ) from None


def _count_outside(root, passed):
    """Counts what lies in a folder beside its class folders; returns how many are images."""
    outside, _ = _walk(root, set(), passed, deep=False)
    for path in outside:
        passed.add_file(path, printable(root.name))
    return len(outside)


def _identities(root):
    """Device and number of a folder and of the one above it: links to them lead in circles."""
    return {(s.st_dev, s.st_ino) for s in (os.stat(root), os.stat(root / ".."))}


def _walk(folder, seen, passed, deep):
    """Images in a folder, sorted, and how many of them lie in folders inside it.

    `seen` has the identities of folders that were read; each is read once.
    """
    top, files, nested, waiting = os.fspath(folder), [], 0, [os.fspath(folder)]
    above = os.path.dirname(top)
    while waiting:
        here = waiting.pop()
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            passed.loops += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(here) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    passed.hidden += 1
                elif entry.is_dir():
                    if deep:
                        waiting.append(entry.path)
                elif _is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
                    files.append(entry.path)  # a broken link too: it is named when it is read
                    nested += here != top
                else:
                    passed.add_file(entry.name, printable(os.path.relpath(here, above)))
    return sorted(files), nested
