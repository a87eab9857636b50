"""Messages between processes that do not know each other.

A message is one line of JSON, and nothing in it is executed. The other end of a connection is not
trusted: it may send anything or nothing, as slowly as it likes.
"""

import contextlib
import json
import socket
import time
from typing import Any

ANSWER = 5.0  # seconds to send or to receive a message
_MOST_BYTES = 2**20


class NoMessage(Exception):
    """Raised if no valid message arrived, or if the connection was closed."""


class Peer:
    """The untrusted other end of a connection.

    Args:
        connection: A socket.

    Attributes:
        deadline: When the next message must have arrived, on the monotonic clock. None allows
            any silence.
    """

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self.connection, self._received = connection, b""
        self.deadline: float | None = time.monotonic() + ANSWER

    def fileno(self) -> int:
        """Returns the file descriptor, so that the system can wait for messages."""
        return self.connection.fileno()

    def send(self, value: Any) -> None:
        """Sends a line of JSON.

        Raises:
            OSError: The other end does not take it.
        """
        self.connection.settimeout(ANSWER)
        self.connection.sendall(json.dumps(value).encode() + b"\n")
        self.connection.setblocking(False)

    def hear(self):
        """Returns the next message; None if it has not arrived yet.

        Raises:
            NoMessage: The message is late, too long or not JSON, or the connection was closed.
        """
        if b"\n" not in self._received:
            try:
                part = self.connection.recv(2**16)
            except BlockingIOError:
                part = None
            except OSError as error:
                raise NoMessage(str(error)) from None
            if part == b"":
                raise NoMessage("the connection was closed")
            self._received += part or b""
        line, found, self._received = self._received.partition(b"\n")
        if found:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(line)
            raise NoMessage("not JSON")
        self._received = line
        if len(line) > _MOST_BYTES or (self.deadline or float("inf")) < time.monotonic():
            raise NoMessage("too long or too late")
        return None
