"""Lists a folder of images: the files of each class, and the files that are ignored."""

import collections
import dataclasses
import os
import pathlib

import numpy as np

from oneshot_tf.data.images import SUFFIXES
from oneshot_tf.system.errors import InputError

_ROLES = {"train": "train", "val": "validation", "valid": "validation",
          "validation": "validation", "test": "test"}  # fmt: skip
# Files and folders of operating systems. They are hidden, like names that begin with ".".
_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin",
           "system volume information"}  # fmt: skip


@dataclasses.dataclass
class PassedOver:
    """Counts of ignored files and folders, and of images in unexpected places.

    Args:
        suffixes: Files that are not images, by suffix.
        folders: The same files, by the folder that contains them.
        hidden: Files and folders of operating systems, and those whose names begin with ".".
        nested: Images in folders inside class folders. They are used.
        loops: Links that are not followed, because their folder was already read.
    """

    suffixes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    folders: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    nested: int = 0
    loops: int = 0

    def add_file(self, name: str, folder: str) -> None:
        """Counts a file that is not used."""
        suffix = os.path.splitext(name)[1].lower()
        self.suffixes[suffix or "no suffix"] += 1
        self.folders[folder] += 1


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files of one folder of class folders, sorted by name.

    Args:
        root: The folder.
        files: N paths.
        labels: Int32 `[N]`.
        class_names: Names of the K class folders.
    """

    root: pathlib.Path
    files: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


def printable(path: str | bytes | os.PathLike) -> str:
    """Returns a path as printable text, with escape codes for control characters and bad bytes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_hidden(name: str) -> bool:
    """Returns whether a name belongs to an operating system, or begins with "."."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _folders(root: pathlib.Path) -> list[str]:
    """Returns the sorted names of the folders in a folder, without hidden ones."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not is_hidden(e.name))


def is_image(name: str) -> bool:
    """Returns whether a file is an image by its name."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def find_parts(path: str | os.PathLike, passed: PassedOver) -> dict[str, pathlib.Path]:
    """Finds the folders of class folders that make up a data set, by split.

    A folder `train` (in any capitalisation) is the training split if it contains folders but no
    images of its own. In that case `val`, `valid` or `validation`, and `test`, are the other
    splits. If `train` contains images and folders of other names are next to it, it is a class.

    Args:
        path: The folder of the data set.
        passed: Counts the ignored files.

    Returns:
        "train" and, if such folders exist, "validation" and "test". If the folder itself
        contains the class folders, {"": path}.

    Raises:
        InputError: If the folders are ambiguous or `train` is missing.
    """
    root = pathlib.Path(path)
    parts, others = _by_role(root)
    seen = ", ".join(folder.name for folder in parts.values())
    if "train" not in parts:
        if parts and not others:
            raise InputError(
                f"{printable(root)} has the folder(s) {seen}, but no folder train. Add a folder "
                "train that contains one folder of images per class."
            )
        return {"": root}
    loose, _ = _walk(parts["train"], set(), PassedOver(), deep=False)
    if loose and others:
        return {"": root}
    if not _folders(parts["train"]):
        raise InputError(
            f"{printable(parts['train'])} must have one folder of images per class; it has no "
            f"folder. {printable(root)} has no class folder besides {seen}, either. Sort the "
            "images into class folders."
        )
    for name in others:
        images, _ = _walk(root / name, set(), passed, deep=True)
        if images:
            raise InputError(
                f"{printable(root)} has {seen} with class folders, and next to them the folder "
                f"{printable(name)} with {len(images):,} image(s). Only splits may be there. If "
                f"{printable(name)} is a class, move it into train; otherwise, move it elsewhere."
            )
    _count_outside(root, passed)
    return parts


def _by_role(root: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[str]]:
    """Returns the folders with the name of a split, by split, and the names of other folders."""
    parts: dict[str, pathlib.Path] = {}
    others: list[str] = []
    for name in _folders(root):
        role = _ROLES.get(name.lower())
        if role is None:
            others.append(name)
        elif role in parts:
            raise InputError(
                f"{printable(root)} must have at most one folder of {role} images; it has "
                f"{parts[role].name} and {name}. Keep one of them."
            )
        else:
            parts[role] = root / name
    return parts, others


def list_classes(root: str | os.PathLike, passed: PassedOver) -> Listing:
    """Lists a folder of class folders.

    Images in folders inside a class folder belong to its class. Links are followed, and each
    folder is read once per class.

    Args:
        root: The folder.
        passed: Counts the ignored files.

    Raises:
        InputError: If there are fewer than two classes, a class has no images, or the name of a
            class is not UTF-8.
    """
    folder = pathlib.Path(root)
    names = _folders(folder)
    for name in names:
        _check_utf8(folder, name)
    outside = _count_outside(folder, passed)
    if len(names) < 2:
        has = f"only the class folder {printable(names[0])}" if names else "no class folder"
        raise InputError(
            f"{printable(folder)} must have a folder of images for each class, at least two; it "
            f"has {has}, and {outside:,} image(s) outside of class folders. Sort the images "
            "into class folders."
        )
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found, nested = _walk(folder / name, _identities(folder), passed, deep=True)
        if not found:
            raise InputError(
                f"The class folder {printable(folder / name)} has no images "
                f"({', '.join(sorted(SUFFIXES))}). Add images or remove the folder."
            )
        passed.nested += nested
        files += found
        labels += [label] * len(found)
    return Listing(folder, files, np.array(labels, np.int32), tuple(names))


def _check_utf8(root: pathlib.Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"The name of a class folder must be UTF-8; {printable(root / name)} is not. "
            "Rename the folder."
        ) from None


def _count_outside(root: pathlib.Path, passed: PassedOver) -> int:
    """Counts the files next to the class folders of a folder; returns the number of images."""
    outside, _ = _walk(root, set(), passed, deep=False)
    for path in outside:
        passed.add_file(path, printable(root.name))
    return len(outside)


def _identities(root: pathlib.Path) -> set[tuple[int, int]]:
    """Returns device and inode of a folder and of its parent, because links to them are loops."""
    return {(s.st_dev, s.st_ino) for s in (os.stat(root), os.stat(root / ".."))}


def _walk(
    folder: pathlib.Path, seen: set[tuple[int, int]], passed: PassedOver, deep: bool
) -> tuple[list[str], int]:
    """Finds the images in a folder.

    Args:
        folder: The folder.
        seen: Device and inode of the folders that were already read. This function adds to it.
        passed: Counts the ignored files.
        deep: Whether to read the folders inside the folder, too.

    Returns:
        The sorted paths of the images, and the number of images in folders inside the folder.
    """
    top, waiting = os.fspath(folder), [os.fspath(folder)]
    files: list[str] = []
    nested = 0
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
                if is_hidden(entry.name):
                    passed.hidden += 1
                elif entry.is_dir():
                    if deep:
                        waiting.append(entry.path)
                elif is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
                    files.append(entry.path)  # broken links, too, so that reading names them
                    nested += here != top
                else:
                    passed.add_file(entry.name, printable(os.path.relpath(here, above)))
    return sorted(files), nested
