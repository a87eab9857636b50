"""Opening what somebody else may have put there: only files, and no links.

A run directory may come from anybody, so it is data: what it holds must not make a program
write elsewhere, wait for ever or fill the memory. Two rules keep that. `open_file` opens a
file of a run directory, and `check_folder` looks at a folder before anything below it is used.
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
    """Opens a file; returns its descriptor.

    A link is not followed, and nothing waits for the other end of a pipe.

    Args:
        path: the file.
        flags: of `os.open`, such as `os.O_RDWR | os.O_CREAT`.

    Raises:
        InputError: `path` is a link, a folder, a pipe, a socket or a device.
        OSError: it cannot be opened.
    """
    # Before opening: that alone may do something to a device.
    with contextlib.suppress(FileNotFoundError):
        _check_file(path, os.lstat(path).st_mode)
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        _check_file(path, os.fstat(descriptor).st_mode)  # another one may be there by now
    except InputError:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: str | os.PathLike, mode: int):
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path} must be a file; it is {_kind(mode)}. Put the file itself there, or remove "
            f"{_kind(mode).replace('a ', 'the ')}."
        )


def _kind(mode: int) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")


def read_bytes(path: str | os.PathLike, most: int) -> bytes:
    """Reads a file of at most `most` bytes, whatever length the file system gives for it.

    Raises:
        InputError: it is missing, longer, not a file, or cannot be read.
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
        raise InputError(f"{path} cannot be read: there is not enough memory for it.") from None


def check_length(path: str | os.PathLike, length: int, most: int) -> None:
    """Raises InputError for a file that is longer than `most` bytes."""
    if length > most:
        raise InputError(
            f"{path} must be at most {most:,} bytes long; it is longer. Put a whole copy of the "
            "file there, or move it away."
        )


def entries_below(folder: str | os.PathLike):
    """Yields `os.DirEntry` of all that is below a folder; no link is followed.

    What disappears meanwhile, or cannot be looked into, is left out.
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
    """Makes sure that what is below a folder is there, and is files and folders.

    Args:
        folder: to look at; it may be missing.
        root: the folder that links must not lead out of; None lets them lead anywhere.

    Raises:
        InputError: `folder`, or something below it, is a link that leads out of `root`, or a
            pipe, a socket or a device, or a link to one.
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
                    "its own files: put a copy of them there, or remove the link."
                )
            check_link(path)
            mode = os.stat(path).st_mode
    except OSError:  # it is not there any more
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} must be a file or a folder; it is {_kind(mode)}. Remove it.")


def check_link(path: str | os.PathLike) -> None:
    """Refuses a link that leads nowhere: the programs would take it for a file that is missing.

    Raises:
        InputError: `path` is such a link.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise InputError(
            f"{path} is a link that leads nowhere. Put a copy of the file there, or remove the "
            "link."
        )
