"""Atomic writing and safe reading of files.

Every file is written to a temporary name, flushed to disk and renamed, so a crash leaves the old
or the new version, never half of one.

A file may come from anybody. Reading never runs code from it, follows no links and opens only
regular files (see `opening`). The length of every file is limited, and arrays take no more memory
than the length of their file.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.opening import entries_below, open_file, read_bytes

_WRITING = ".writing"
_LEFTOVER = re.compile(r"\..+\.(\d+|old)\.writing", re.DOTALL)
# JSON values take up to about twenty times as much memory as their text.
MOST_TEXT, _MOST_SUMMED = 2**28, 2**34  # bytes
_MOST_INT = 2**63  # the limit of NumPy and of plots
# Processes on two machines may have the same process number.
_MACHINE = int.from_bytes(os.urandom(6), "big")
_HERE, _SWAP = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


@contextlib.contextmanager
def writing(path: str | os.PathLike):
    """Turns an OSError into an InputError whose one-line message names the file.

    Raises:
        InputError: The block raised an OSError: the disk is full, permission is missing, or a
            path is not a folder.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"Cannot write {path}: {reason}. All files written before are complete. Fix the cause "
            "and repeat the command to resume."
        ) from None


def user_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path that a user typed, with a leading `~` expanded if that user exists."""
    return pathlib.Path(os.path.expanduser(path))


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Creates a folder and its missing parents, and returns its path."""
    with writing(path):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write_atomically(
    path: str | os.PathLike, write: Callable[[Any], Any], mode: str = "w", flush: bool = True
) -> None:
    """Calls `write(file)` on a temporary file, flushes it to disk and renames it to `path`.

    Without `flush`, it does not wait for the disk. After a power cut, the file may then be empty.
    """
    path = pathlib.Path(path)
    beside = beside_of(path)
    with writing(path):
        try:
            beside.unlink(missing_ok=True)  # left by an earlier failure of this process
            descriptor = open_file(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
                write(file)
                file.flush()
                if flush:
                    os.fsync(file.fileno())
            os.replace(beside, path)
            if flush:
                _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def beside_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the temporary name, in the same folder, under which `path` is written."""
    return path.with_name(f".{path.name}.{os.getpid()}{_MACHINE:015d}{_WRITING}")


def remove_leftovers(folder: str | os.PathLike, name: str = "") -> None:
    """Removes temporary files that killed programs left behind. Never removes a link's target.

    The caller must hold the lock of the folder.

    Args:
        folder: The folder to clean.
        name: Final name of a file or folder directly in `folder`: only its temporary versions
            are removed. By default, everything below `folder` is searched.
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


def total_bytes(paths: Iterable[pathlib.Path]) -> int:
    """Returns the length of files, and of all files in folders. Missing ones have none."""
    inner = (each for path in paths for each in (path, *path.rglob("*")))
    return sum(each.stat().st_size for each in inner if each.is_file())


def discard_folder(folder: str | os.PathLike) -> None:
    """Removes a folder that other processes may use: at once, as they see it.

    Raises:
        InputError: The folder cannot be renamed. It may be missing.
    """
    gone = beside_of(pathlib.Path(folder))
    with writing(folder), contextlib.suppress(FileNotFoundError):
        os.replace(folder, gone)
    remove_folder(gone)


def remove_folder(folder: str | os.PathLike) -> None:
    """Removes a folder and its contents as far as possible, without following links."""
    with contextlib.suppress(RecursionError):  # thousands of nested folders
        shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: str | os.PathLike) -> None:
    """Flushes renames in a folder to disk."""
    with contextlib.suppress(OSError):  # not every file system supports this
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_text(path: str | os.PathLike, most: int = MOST_TEXT) -> str:
    """Reads a text file of at most `most` bytes.

    Raises:
        InputError: The file is missing, not a file, too long, not UTF-8, or cannot be read.
    """
    try:
        text = read_bytes(path, most).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}).") from None


def append_line(path: str | os.PathLike, line: str) -> None:
    """Appends one line to a file and flushes it to disk.

    A file with more than one name, as in a copy made of hard links, is copied first.
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
    """Returns the CRC-32 of a file of at most 2^34 bytes.

    Raises:
        InputError: As in `read_bytes`.
    """
    return zlib.crc32(read_bytes(path, _MOST_SUMMED))


def replace_folder(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Moves a finished folder to `target`, and removes an older folder there.

    If `target` existed before, a complete folder stands there at every moment, except where the
    system cannot exchange two names at once. There it is missing for a moment.
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
            # The system cannot exchange the two names: for a moment, `target` does not exist.
            old = source.with_name(f".{target.name}.old{_WRITING}")
            os.replace(target, old)
            os.replace(source, target)
            source = old
        _flush(target.parent)
        remove_folder(source)


def _exchange(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Exchanges the names of two folders at once. Returns False if the system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    with contextlib.suppress(AttributeError, OSError):
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return system.renamex_np(*names, _SWAP) == 0
        return system.renameat2(_HERE, names[0], _HERE, names[1], _SWAP) == 0
    return False
