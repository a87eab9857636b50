"""Locks that allow one program at a time in a folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import make_folder, writing
from oneshot_tf.system.json_files import check_form, read_json
from oneshot_tf.system.opening import open_file
from oneshot_tf.system.printable import printable

_HOLDER = {"pid": int, "host": str, "command": [str]}
_TURN = ".turn.lock"  # name of the lock file of `in_turn`
_LOOK_SECONDS, _SAY_SECONDS = 0.5, 30.0  # between two looks at a lock, and between two lines
_PATIENCE = 3.0  # seconds of waiting before the first line


class InUse(InputError):
    """Raised if another process holds a lock."""


@contextlib.contextmanager
def locked(folder: str | os.PathLike, shared: bool = False, name: str = ".lock"):
    """Locks a folder for this process while the block runs.

    The operating system holds the lock and releases it however the process ends, so a dead
    process leaves no lock. The lock file is removed at the end. Folders that were created for it
    are removed too if they are still empty.

    Args:
        folder: The folder. It is created if it is missing.
        shared: Whether other processes may share the lock.
        name: Name of the lock file.

    Raises:
        InUse: Another process holds the lock. The message gives its number and host.
        InputError: The lock file is a link, or not a file.
    """
    folder = pathlib.Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = make_folder(folder) / name
    file = _acquire(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # other processes still share it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):  # otherwise ours was removed, and this is another program's
                path.unlink()
        file.close()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def in_turn(folder: str | os.PathLike, work: str) -> Iterator[None]:
    """Runs the block when no other process runs such a block for the folder. Waits for its turn.

    Args:
        folder: The folder that the block changes. It is created if it is missing.
        work: What the block does, for the line that is printed while waiting.

    Raises:
        InputError: As in `locked`.
    """
    said = time.monotonic() + _PATIENCE - _SAY_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder, name=_TURN))
                break
            except InUse as error:
                if time.monotonic() - said > _SAY_SECONDS:
                    said = time.monotonic()
                    print(f"Waiting to {work}. {str(error).partition('. ')[0]}.", flush=True)
            time.sleep(_LOOK_SECONDS)
        yield


def _acquire(path: pathlib.Path, kind: Any):
    """Acquires the lock and returns the open file that holds it."""
    while True:
        with writing(path):
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        file = os.fdopen(descriptor, "r+", encoding="utf-8")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InUse(_in_use(path)) from None
        except OSError as error:
            print(
                f"{printable(path.parent)} cannot be locked ({error.strerror}). Make sure that no "
                "other program works there.",
                flush=True,
            )
            return file
        # The last holder may have removed the file after it was opened and before it was locked.
        if _is_at(file, path):
            break
        file.close()
    with writing(path):
        _sign(file, kind)
    return file


def _is_at(file: Any, path: pathlib.Path) -> bool:
    """Returns whether an open file is the file at a path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    return False


def _sign(file: Any, kind: Any):
    """Writes the holder of the lock into the lock file.

    A file with a second name is left alone, because it could be a user's file. A process that
    shares the lock leaves an existing entry.
    """
    found = os.fstat(file.fileno())
    if found.st_nlink > 1 or (kind == fcntl.LOCK_SH and found.st_size):
        return
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv}
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _in_use(path: pathlib.Path) -> str:
    who = "another process"
    with contextlib.suppress(InputError):
        holder = read_json(path)
        check_form(path, holder, _HOLDER)
        if not _has_ended(holder):
            words = shlex.join(holder["command"])
            who = f"process {holder['pid']} on {holder['host']} ({words})"
    return printable(f"{path.parent} is in use by {who}. Wait for it to end, or stop it.")


def _has_ended(holder: Any) -> bool:
    """Returns whether the recorded holder is a process of this host that has ended."""
    if holder["host"] != socket.gethostname():
        return False
    with contextlib.suppress(PermissionError):  # the process of another user: it runs
        try:
            os.kill(holder["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return True
    return False
