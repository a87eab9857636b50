"""Claims on pieces of work, for copies of a program that see one folder.

A copy of the program claims a piece of work by creating a file exclusively (O_EXCL): only one copy
can. A thread renews the claim: it sets the time of the file to now. If the copy dies, nobody renews
its claim. The claim expires, and another copy takes the work over.

The file of a claim is NAME.NUMBER.claim. The claim with the largest number counts. To take over an
expired claim, a copy creates the file with the next number, and again only one copy can. No copy
ever removes, renames or writes the claim of another one, so nothing depends on the order in which
several copies look and act. A copy that was suspended and continues sees the next number, or how
long it slept, and knows that it has lost its claim.

Clocks of machines differ. So the age of a claim is the difference of two times that the file system
gave: the time of the claim, and the time of a file that was created to learn what time it is.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import writing
from oneshot_tf.system.interrupts import uninterrupted
from oneshot_tf.system.opening import open_file
from oneshot_tf.system.printable import printable

LEAST_SECONDS, MOST_SECONDS = 1.0, 86_400.0  # bounds of the time until a claim expires
_RENEWALS = 5  # in the time until a claim expires
_FILE = re.compile(r"([A-Za-z0-9_-]{1,200})\.(0|[1-9]\d{0,8})\.claim")
_MOST_TEXT = 4096  # bytes of a claim that are read


class ClaimLost(InputError):
    """Raised if a copy works on a piece of work whose claim it has lost."""


class Claims:
    """The claims in a folder, and those of them that this process holds.

    Use it as a context manager. The end of the block releases all claims of this process, also
    after Ctrl-C.

    Example:

        >>> with Claims(folder) as claims, claims.take(["block_0", "block_1"]) as claim:
        ...     claim.name
        'block_0'

    Args:
        folder: The folder of the claims. Who makes the folder also removes it when all work is
            done. The folder must be used for claims only.
        seconds: Time until a claim of this process expires if nobody renews it, from 1 to 86,400.
            The claim says so to the other copies.
    """

    def __init__(self, folder: str | os.PathLike, seconds: float = 60.0):
        if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            raise InputError(f"seconds must be from 1 to 86,400; got {seconds}.")
        self.folder, self.seconds = pathlib.Path(folder), seconds
        self._held: list[Claim] = []

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_: Any) -> None:
        for claim in self._held:
            claim.release()

    def take(self, names: Iterable[str]) -> "Claim | None":
        """Claims the first piece of work that no other copy has claimed.

        Args:
            names: Names of pieces of work: 1 to 200 letters, digits, '_' and '-' each.

        Returns:
            The claim, which is renewed from now on. None if other copies have claimed all of the
            work, or if the folder is missing, because all work is done.

        Raises:
            InputError: A name is not allowed, a claim is not a file, or the folder cannot be read
                or written.
        """
        try:
            newest, now = self._newest(), self._now()
            for name in names:
                number = newest.get(name, -1)
                if number < 0 or self._is_expired(self._path(name, number), now):
                    claim = self._create(name, number + 1)
                    if claim is not None:
                        return claim
        except FileNotFoundError:
            pass
        return None

    def holders(self, names: Iterable[str], most: int = 3) -> str:
        """Returns who holds the claims on pieces of work, in words, for the first `most` names."""
        said, newest = [], {}
        with contextlib.suppress(FileNotFoundError):
            newest = self._newest()
        for name in [name for name in names if name in newest][:most]:
            found = {}
            with contextlib.suppress(FileNotFoundError):
                found = _read(self._path(name, newest[name]))[1]
            who = f"process {found.get('pid')} on {found.get('host')}" if found else "another copy"
            said.append(printable(f"{name}: {who}"[:200]))
        return ", ".join(said)

    def _newest(self) -> dict[str, int]:
        """Returns the largest number of a claim by name."""
        newest: dict[str, int] = {}
        with _reading(self.folder):
            for entry in os.listdir(self.folder):
                if match := _FILE.fullmatch(entry):
                    newest[match[1]] = max(newest.get(match[1], -1), int(match[2]))
        return newest

    def _now(self) -> float:
        """Returns the time of the file system."""
        with _writing(self.folder), tempfile.TemporaryFile(dir=self.folder) as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime

    def _is_expired(self, path: pathlib.Path, now: float) -> bool:
        """Returns whether a claim was not renewed in time.

        `now` must be from before the call. If this process is suspended in between, the claim seems
        too young, and not too old.
        """
        renewed, found = _read(path)
        seconds = found.get("seconds")
        if not isinstance(seconds, (int, float)) or not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            seconds = self.seconds
        if renewed - now > seconds:  # long suspended here, or somebody gave it a time to come
            return renewed - self._now() > seconds
        return now - renewed > seconds

    def _create(self, name: str, number: int) -> "Claim | None":
        path = self._path(name, number)
        with uninterrupted():
            try:
                with _writing(path):
                    descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:  # another copy was faster
                return None
            claim = Claim(name, path, self._path(name, number + 1), descriptor, self.seconds)
            self._held = [c for c in self._held if not c.released] + [claim]
        claim.sign()
        return claim

    def _path(self, name: str, number: int) -> pathlib.Path:
        if not _FILE.fullmatch(f"{name}.{number}.claim"):
            raise InputError(
                "The name of a claim must be 1 to 200 letters, digits, '_' and '-'; got "
                f"{short(name)}."
            )
        return self.folder / f"{name}.{number}.claim"


class Claim:
    """A claim of this process. `Claims.take` makes it; the end of a `with` block releases it.

    Attributes:
        name: Name of the piece of work.
        released: Whether the claim has been released.
    """

    def __init__(
        self, name: str, path: pathlib.Path, after: pathlib.Path, descriptor: int, seconds: float
    ):
        self.name, self.released = name, False
        self._path, self._after, self._file, self._seconds = path, after, descriptor, seconds
        self._renewed, self._expired = time.monotonic(), False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    def sign(self) -> None:
        """Writes into the file who holds the claim, and when it expires without renewal."""
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "seconds": self._seconds}
        with writing(self._path):
            os.pwrite(self._file, json.dumps(holder).encode(), 0)
            os.utime(self._file)

    def lost(self) -> bool:
        """Returns whether the claim was lost.

        It is lost if it was not renewed in time, for example because the process was suspended, or
        if another copy has taken it over, or if the folder was removed.
        """
        if self.released or self._expired or self._is_late() or os.path.lexists(self._after):
            self._expired = True
            return True
        try:
            return not os.path.samestat(os.fstat(self._file), os.lstat(self._path))
        except OSError:
            return True

    def check(self) -> None:
        """Raises ClaimLost if the claim was lost. Call it before a write that repeats no other."""
        if self.lost():
            raise ClaimLost(
                f"This copy has lost its claim on {self.name}, because it did not renew the claim "
                f"for {self._seconds:g} seconds. Another copy may work on it."
            )

    def release(self) -> None:
        """Gives the claim back: it expires at once. The file stays, so that its number does."""
        if self.released:
            return
        self.released = True
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # the folder may be gone
            os.utime(self._file, (0, 0))
        os.close(self._file)

    def _is_late(self) -> bool:
        return time.monotonic() - self._renewed > self._seconds

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / _RENEWALS):
            if self._is_late():  # the process was suspended: another copy may have the work
                self._expired = True
                return
            with contextlib.suppress(OSError):  # for example a network that fails for a while
                began = time.monotonic()
                os.utime(self._file)
                self._renewed = began


def _read(path: pathlib.Path) -> tuple[float, dict[str, Any]]:
    """Returns the time of a claim in seconds, and what it says about its holder.

    The file is opened, because a network file system asks for the current time of an open file.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is not a file, or it cannot be read.
    """

    with _reading(path), open(open_file(path), "rb", buffering=0) as file:
        renewed, text = os.fstat(file.fileno()).st_mtime, file.read(_MOST_TEXT) or b""
    with contextlib.suppress(ValueError, RecursionError):  # any contents are allowed
        found = json.loads(text)
        return renewed, found if isinstance(found, dict) else {}
    return renewed, {}


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Turns an OSError into an InputError. A missing file is left to the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
    """As `writing`, but a missing folder and an existing file are left to the caller."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        with writing(path):
            raise
