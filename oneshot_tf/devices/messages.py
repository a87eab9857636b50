"""Messages between processes that do not know each other: lines of JSON, of which none is run.

Whoever is at the other end may send anything, or nothing, as slowly as it likes.
"""

import contextlib
import json
import socket
import time
from typing import Any

ANSWER = 5.0  # seconds in which a message must be there, or taken
_MOST_BYTES = 2**20


class NoMessage(Exception):
    """What came is no message, or the connection has ended."""


class Peer:
    """The other end of a connection, which may be anybody.

    Args:
        connection: a socket.
    """

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self.connection, self._received = connection, b""
        # Of its next message; None: it may be silent.
        self.deadline: float | None = time.monotonic() + ANSWER

    def fileno(self) -> int:
        """By which the system tells whether there is something to hear."""
        return self.connection.fileno()

    def send(self, value: Any) -> None:
        """Sends a line of JSON; OSError if the other end does not take it."""
        self.connection.settimeout(ANSWER)
        self.connection.sendall(json.dumps(value).encode() + b"\n")
        self.connection.setblocking(False)

    def hear(self):
        """The next message; None if it is not there yet. Nothing of it is run.

        Raises:
            NoMessage: it is late, too long or no JSON; or the connection has ended.
        """
        if b"\n" not in self._received:
            try:
                part = self.connection.recv(2**16)
            except BlockingIOError:
                part = None
            except OSError as error:
                raise NoMessage(str(error)) from None
            if part == b"":
                raise NoMessage("the connection has ended")
            self._received += part or b""
        line, found, self._received = self._received.partition(b"\n")
        if found:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(line)
            raise NoMessage("no JSON")
        self._received = line
        if len(line) > _MOST_BYTES or (self.deadline or float("inf")) < time.monotonic():
            raise NoMessage("too long, or too late")
        return None
