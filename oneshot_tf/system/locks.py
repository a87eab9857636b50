"""One program at a time in a folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import make_folder, writing
from oneshot_tf.system.json_files import check_form, read_json
from oneshot_tf.system.opening import open_file
from oneshot_tf.system.printable import printable

_HOLDER = {"pid": int, "host": str, "command": [str]}


@contextlib.contextmanager
def locked(folder: str | os.PathLike, shared: bool = False, name: str = ".lock"):
    """Holds a folder for this process while the block runs.

    The lock is the operating system's, which takes it back however its holder
    ends; so one whose owner died is free. Nothing of it remains, nor a folder
    that was made for it and is still empty.

    Args:
        folder: the folder; made if missing.
        shared: whether others may hold it too, who share it.
        name: of the file.

    Raises:
        InputError: another process holds it; the message has its number and host. Or the
            lock's file is a link, or no file.
    """
    folder = pathlib.Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = make_folder(folder) / name
    file = _acquire(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not while others still share it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):  # not another program's, after somebody removed ours
                path.unlink()
        file.close()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _acquire(path: pathlib.Path, kind: Any):
    """The open file that holds the lock."""
    while True:
        with writing(path):
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        file = os.fdopen(descriptor, "r+", encoding="utf-8")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InputError(_in_use(path)) from None
        except OSError as error:
            print(
                f"{printable(path.parent)} cannot be locked ({error.strerror}): see to it that no "
                "other program works there.",
                flush=True,
            )
            return file
        # The last holder may have removed the file between our opening and locking it.
        if _is_at(file, path):
            break
        file.close()
    with writing(path):
        _sign(file, kind)
    return file


def _is_at(file: Any, path: pathlib.Path) -> bool:
    """Whether an open file is the one at a path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    return False


def _sign(file: Any, kind: Any):
    """Writes down who holds the lock.

    Only into a file without another name, which could be a user's; and who shares the lock
    leaves what is there.
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
    return printable(f"{path.parent} is in use by {who}; wait for it or stop it.")


def _has_ended(holder: Any) -> bool:
    """Whether who is written down is a process of this host that is there no more."""
    if holder["host"] != socket.gethostname():
        return False
    with contextlib.suppress(PermissionError):  # another user's
        try:
            os.kill(holder["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return True
    return False
