"""Safe opening of files and folders: regular files only, without following links.

A run directory may come from anybody, so it is treated as data. Its contents must not make a
program write elsewhere, wait forever or fill the memory. Two functions ensure this: `open_file`
opens a file of a run directory, and `check_folder` checks a folder before anything below it is
used.
"""

import contextlib
import os
import pathlib
import stat

from oneshot_tf.system.errors import InputError

_CHUNK = 2**20
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: str | os.PathLike, flags: int = os.O_RDONLY) -> int:
    """Opens a file and returns its descriptor.

    It follows no links and never waits for the other end of a pipe.

    Args:
        path: Path of the file.
        flags: Flags of `os.open`, for example `os.O_RDWR | os.O_CREAT`.

    Raises:
        InputError: `path` is a link, a folder, a pipe, a socket or a device.
        OSError: The file cannot be opened.
    """
    # Check before opening: opening alone may have an effect on a device.
    with contextlib.suppress(FileNotFoundError):
        _check_file(path, os.lstat(path).st_mode)
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        _check_file(path, os.fstat(descriptor).st_mode)  # it may have been replaced since
    except InputError:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: str | os.PathLike, mode: int):
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path} must be a file; it is {_kind(mode)}. Replace it by the file itself, or remove "
            f"{_kind(mode).replace('a ', 'the ')}."
        )


def _kind(mode: int) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")


def read_bytes(path: str | os.PathLike, most: int) -> bytes:
    """Reads a file of at most `most` bytes, whatever length the file system reports.

    Raises:
        InputError: The file is missing, too long, not a file, or cannot be read.
    """
    read, parts = 0, []
    try:
        with open(open_file(path), "rb", buffering=0) as file:
            check_length(path, os.fstat(file.fileno()).st_size, most)
            while part := file.read(min(_CHUNK, most + 1 - read)):
                read += len(part)
                parts.append(part)
                check_length(path, read, most)
        return b"".join(parts)
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    except MemoryError:
        raise InputError(f"{path} cannot be read: it does not fit into memory.") from None


def check_length(path: str | os.PathLike, length: int, most: int) -> None:
    """Raises InputError for a file that is longer than `most` bytes."""
    if length > most:
        raise InputError(
            f"{path} must be at most {most:,} bytes long; it is longer. Restore the original "
            "file, or move this one away."
        )


def entries_below(folder: str | os.PathLike):
    """Yields an `os.DirEntry` for everything below a folder, without following links.

    Entries that disappear meanwhile, and the contents of unreadable folders, are left out.
    """
    folders = [os.fspath(folder)]
    while folders:
        found = []
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            yield entry


def check_folder(folder: str | os.PathLike, root: str | os.PathLike | None = None) -> None:
    """Makes sure that a folder contains only files and folders.

    Args:
        folder: The folder to check. It may be missing.
        root: The folder that links must not lead out of. None lets them lead anywhere.

    Raises:
        InputError: `folder`, or an entry below it, is a link that leads out of `root` or to
            nothing, or it is a pipe, a socket or a device, or a link to one.
    """
    _check_entry(folder, root)
    for entry in entries_below(folder):
        _check_entry(entry.path, root)


def _check_entry(path: str | os.PathLike, root: str | os.PathLike | None):
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            target = pathlib.Path(os.path.realpath(path))
            if root is not None and not target.is_relative_to(os.path.realpath(root)):
                raise InputError(
                    f"{path} is a link to {target}, outside of {root}. A run directory must hold "
                    "its own files. Replace the link by a copy of the files, or remove it."
                )
            check_link(path)
            mode = os.stat(path).st_mode
    except OSError:  # it has been removed meanwhile
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} must be a file or a folder; it is {_kind(mode)}. Remove it.")


def check_link(path: str | os.PathLike) -> None:
    """Refuses a link that leads nowhere. The programs would treat it as a missing file.

    Raises:
        InputError: `path` is a link to a path that does not exist.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise InputError(
            f"{path} is a link that leads nowhere. Replace it by a copy of the file, or remove the "
            "link."
        )
