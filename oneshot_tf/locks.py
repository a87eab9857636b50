"""One program at a time in a folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import sys

from oneshot_tf.errors import InputError
from oneshot_tf.files import make_folder, writing


@contextlib.contextmanager
def locked(folder, shared: bool = False, name: str = ".lock"):
    """Holds a folder for this process while the block runs.

    The lock is the operating system's, which takes it back however its holder
    ends; so one whose owner died is free. Nothing of it remains, nor a folder
    that was made for it and is still empty.

    Args:
        folder: the folder; made if missing.
        shared: whether others may hold it too, who share it.
        name: of the file.

    Raises:
        InputError: another process holds it; the message has its number and host.
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
            path.unlink(missing_ok=True)
        file.close()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _acquire(path, kind):
    """The open file that holds the lock."""
    while True:
        with writing(path):
            file = open(path, "a+")  # noqa: SIM115
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InputError(_in_use(path)) from None
        except OSError as error:
            print(
                f"{path.parent} can't be locked ({error.strerror}): see to it that no other "
                "program works there.",
                flush=True,
            )
            return file
        # The last holder may have removed the file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    with writing(path):
        file.truncate(0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv}
        file.write(json.dumps(holder))
        file.flush()
    return file


def _in_use(path) -> str:
    try:
        holder = json.loads(path.read_text())
        who = f"process {holder['pid']} on {holder['host']} ({' '.join(holder['command'])})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return f"{path.parent} is in use by {who}; wait for it or stop it."
