"""Files that are whole or not there: written beside, flushed to disk, renamed.

And reading what somebody else may have written: nothing read here runs code. No link is
followed, and nothing but a file is opened (see `opening`). All files are bounded in length,
and arrays take no more memory than their file is long.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import sys
import zlib
from collections.abc import Callable
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.opening import entries_below, open_file, read_bytes

_WRITING = ".writing"
_LEFTOVER = re.compile(r"\..+\.(\d+|old)\.writing", re.DOTALL)
# Bytes. Values of JSON take up to some twenty times as much memory as their text.
MOST_TEXT, _MOST_SUMMED = 2**28, 2**34  # bytes
_MOST_INT = 2**63  # of what NumPy and plots can hold
_HERE, _SWAP = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


@contextlib.contextmanager
def writing(path: str | os.PathLike):
    """Turns a failure of the file system into one line that names the file.

    Raises:
        InputError: in place of OSError: disk full, no permission, not a folder.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"Cannot write {path}: {reason}. Files written before are whole. Correct the cause and "
            "repeat the command to resume."
        ) from None


def user_path(path: str | os.PathLike) -> pathlib.Path:
    """A path that a user typed, `~` replaced where there is such a user."""
    return pathlib.Path(os.path.expanduser(path))


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Makes a folder and those above it; returns its path."""
    with writing(path):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write_atomically(path: str | os.PathLike, write: Callable[[Any], Any], mode: str = "w") -> None:
    """Calls `write(file)` on a file beside `path`, flushes it to disk and renames it to `path`."""
    path = pathlib.Path(path)
    beside = beside_of(path)
    with writing(path):
        try:
            beside.unlink(missing_ok=True)  # of a program that had our number, and was killed
            descriptor = open_file(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def beside_of(path: pathlib.Path) -> pathlib.Path:
    """Where what will be called `path` is written."""
    return path.with_name(f".{path.name}.{os.getpid()}{_WRITING}")


def remove_leftovers(folder: str | os.PathLike, name: str = "") -> None:
    """Removes what programs that were killed were writing; never what a link leads to.

    Only for who holds the folder's lock.

    Args:
        folder: where.
        name: what was to be written in the folder itself; by default all below it counts.
    """
    with writing(folder):
        if name:
            found = [path for path in pathlib.Path(folder).iterdir()
                     if path.name.startswith(f".{name}.")]  # fmt: skip
        else:
            found = [pathlib.Path(entry.path) for entry in entries_below(folder)]
        for path in found:
            if not _LEFTOVER.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                remove_folder(path)
            else:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()


def remove_folder(folder: str | os.PathLike) -> None:
    """Removes a folder with all that is in it, as far as possible; no link is followed."""
    with contextlib.suppress(RecursionError):  # thousands of folders in each other
        shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: str | os.PathLike) -> None:
    """Brings what was renamed in a folder to disk."""
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_text(path: str | os.PathLike, most: int = MOST_TEXT) -> str:
    """Reads a text of at most `most` bytes.

    Raises:
        InputError: it is missing, no file, longer, not UTF-8, or cannot be read.
    """
    try:
        text = read_bytes(path, most).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}).") from None


def append_line(path: str | os.PathLike, line: str) -> None:
    """Appends one line and flushes it to disk.

    A file that has another name too, as in a copy made of hard links, is copied first.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with writing(path), open(open_file(path, flags), "a", encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_nlink > 1:
            whole = read_bytes(path, MOST_TEXT) + f"{line}\n".encode()
            write_atomically(path, lambda copy: copy.write(whole), mode="wb")
            return
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def checksum(path: str | os.PathLike) -> int:
    """CRC-32 of a file of at most 2^34 bytes.

    Raises:
        InputError: as `read_bytes`.
    """
    return zlib.crc32(read_bytes(path, _MOST_SUMMED))


def replace_folder(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Moves a finished folder to where an older one may stand, which is removed then.

    At every moment there is a whole folder at `target`, if there was one before.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    with writing(target):
        for path in (*source.rglob("*"), source):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            else:
                _flush(path)
        if not target.exists():
            os.replace(source, target)
        elif not _exchange(source, target):
            # No way to exchange them here: for a moment there is neither.
            old = source.with_name(f".{target.name}.old{_WRITING}")
            os.replace(target, old)
            os.replace(source, target)
            source = old
        _flush(target.parent)
        remove_folder(source)


def _exchange(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Exchanges the names of two folders at once; False where the system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    with contextlib.suppress(AttributeError, OSError):
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return system.renamex_np(*names, _SWAP) == 0
        return system.renameat2(_HERE, names[0], _HERE, names[1], _SWAP) == 0
    return False
