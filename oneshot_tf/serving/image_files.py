"""Finds the image files that a user names: files, and folders that are searched."""

import os
import sys
from collections.abc import Iterator, Sequence

from oneshot_tf.data.listing import is_hidden, is_image
from oneshot_tf.system.files import user_path
from oneshot_tf.system.printable import printable


class ImageFiles:
    """Image files of a list of files and folders, one after another.

    A folder is searched with the folders inside it, in the order of the names. Only the names in
    the folders that are being read are in memory, so there may be millions of files. A name with
    another suffix than that of an image, or that begins with ".", is left out. A file that the
    list names itself is never left out. Links are followed, but every folder is read only once.

    The constructor counts the files, and prints what it finds to standard error.

    Args:
        paths: The files and folders.

    Attributes:
        count: Number of image files.
        problems: Number of paths that do not exist or cannot be read, and of folders without
            images. A line on standard error names each of them.
    """

    def __init__(self, paths: Sequence[str]):
        self.paths = list(paths)
        self.count = self.problems = 0
        for path in self.paths:
            place = os.fspath(user_path(path))
            if not os.path.isdir(place):
                self._count_file(path, place)
                continue
            walk = _Walk(place)
            images = sum(1 for _ in walk)
            self.count += images
            for folder, reason in walk.unreadable:
                self._problem(f"{folder} cannot be read: {reason}")
            others = f"{walk.others:,} other files and {walk.hidden:,} hidden ones are left out"
            if images:
                _say(f"{path}: {images:,} images; {others}.")
            else:
                self._problem(f"{path} has no images; {others}.")

    def _count_file(self, path: str, place: str):
        if os.path.exists(place):
            self.count += 1
        else:
            self._problem(f"{path} does not exist.")

    def _problem(self, text: str):
        self.problems += 1
        _say(text)

    def __iter__(self) -> Iterator[str]:
        """Yields the paths as they are to be shown. A path may begin with `~`."""
        for path in self.paths:
            place = os.fspath(user_path(path))
            if os.path.isdir(place):
                yield from _Walk(place)
            elif os.path.exists(place):
                yield path


class _Walk:
    """Iterator over the images below a folder. It counts what it leaves out.

    Args:
        folder: The folder.

    Attributes:
        others, hidden: Numbers of files that are left out.
        unreadable: Folders that cannot be read, and the reasons.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self.others = self.hidden = 0
        self.unreadable: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[str]:
        seen: set[tuple[int, int]] = set()
        waiting = [(self.folder, self._names(self.folder, seen))]
        while waiting:
            here, names = waiting[-1]
            if not names:
                waiting.pop()
                continue
            path = os.path.join(here, names.pop())
            if path.endswith(os.sep):
                path = path[: -len(os.sep)]
                waiting.append((path, self._names(path, seen)))
            else:
                yield path

    def _names(self, folder: str, seen: set[tuple[int, int]]) -> list[str]:
        """Returns the names of images and folders in a folder, the last one first.

        The name of a folder ends with a separator.
        """
        names = []
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # a link leads to it
                return []
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        self.hidden += 1
                    elif entry.is_dir():
                        names.append(entry.name + os.sep)
                    elif is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
                        names.append(entry.name)  # broken links, too, so that reading names them
                    else:
                        self.others += 1
        except OSError as error:
            self.unreadable.append((folder, error.strerror or str(error)))
        return sorted(names, key=lambda name: name.removesuffix(os.sep), reverse=True)


def _say(text: str):
    print(printable(text), file=sys.stderr, flush=True)
