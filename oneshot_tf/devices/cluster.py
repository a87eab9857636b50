"""Connects the workers that train together, one per machine, before TensorFlow starts.

TensorFlow does not compare the flags of the workers. So the chief collects the flags and versions
of each worker and sends all of them to every worker. Either all workers continue, or each of them
names what differs. A worker that waits says for whom, and Ctrl-C ends the wait.

The chief is the first worker in TF_CONFIG. Anybody can connect to its port. So a message is a line
of JSON of limited length and of a fixed form, and it must arrive soon. A connection that sends
anything else is closed, and it delays no worker.
"""

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from oneshot_tf.devices.messages import ANSWER, NoMessage, Peer
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.json_files import check_form

_PATIENCE = 600.0  # seconds that workers wait for each other
_RETURN = 120.0  # seconds in which a lost worker must be back
_REPORT = 10.0  # seconds between two lines on waiting
_MOST_STRANGERS = 64  # connections that have not sent a valid message yet
_HEARD, _STOPPED = {"answer": "heard"}, {"answer": "stopped"}
_MESSAGE = {"index": int, "facts": dict}
_EXAMPLE = (
    '\'{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers in TF_CONFIG.

    Args:
        addresses: HOST:PORT of each worker, the chief first.
        index: The position of this worker in `addresses`.
    """

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def from_tf_config(cls, text: str | None) -> "Cluster":
        """Reads the environment variable TF_CONFIG.

        Raises:
            InputError: It is missing or malformed, or has tasks other than chief and worker.
        """
        if not text:
            raise InputError(
                "--distribution=multi_worker needs the environment variable TF_CONFIG, for example "
                f"{_EXAMPLE}. On one machine use mirrored or auto."
            )
        try:
            value = json.loads(text)
            jobs, task = value["cluster"], value["task"]
            kind, number = task["type"], task["index"]
            lists = [list(jobs.get("chief", [])), list(jobs.get("worker", []))]
            place = sum(len(each) for each in lists[: ("chief", "worker").index(kind)]) + number
            addresses = tuple(address for each in lists for address in each)
            if set(jobs) - {"chief", "worker"} or type(number) is not int:
                raise ValueError("tasks must be 'chief' or 'worker', with a whole number as index")
            if not 0 <= number < len(jobs[kind]):
                raise ValueError(f"index {number} must be below {len(jobs[kind])} for a {kind}")
            for address in addresses:
                host, port = address.rsplit(":", 1)
                if not host or not 0 < int(port) < 2**16:
                    raise ValueError(f"{short(address)} is not HOST:PORT")
            if len(set(addresses)) < len(addresses):
                raise ValueError("two tasks have the same address")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise InputError(
                f"TF_CONFIG={short(text)} is not valid ({type(error).__name__}: {error}). "
                f"Example: {_EXAMPLE}."
            ) from None
        return cls(addresses, place)

    def meet(self, facts: dict, patience: float = _PATIENCE) -> None:
        """Waits for all workers and checks that they were started alike.

        Args:
            facts: Values by name by group. They must be the same for all workers.
            patience: Seconds to wait.

        Raises:
            InputError: A worker did not connect, disconnected, or was started differently; or the
                address of this worker is not one of this machine.
        """
        with self._listen() as server:
            mine = {"index": self.index, "facts": facts}
            if self.index == 0:
                everyone = self._collect(server, mine, _Waiting(patience))
            else:
                server.close()
                everyone = self._join(mine, _Waiting(patience))
        for other in everyone:
            _compare(other["index"], other["facts"], everyone[0]["facts"])

    def _listen(self):
        """Returns a server at the address that TensorFlow will use for this worker."""
        host, port = _host_and_port(self.addresses[self.index])
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as mine:
                mine.bind((address[0], 0))  # fails if the address is not of this machine
            # The server listens on all interfaces, as TensorFlow does. The host name alone may
            # stand for the local interface.
            both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
            return socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"TF_CONFIG gives this worker the address {self.addresses[self.index]}, but it "
                f"cannot listen there ({getattr(error, 'strerror', None) or error}). The address "
                "belongs to another machine, or the port is taken."
            ) from None

    def _collect(self, server: socket.socket, mine: Any, waiting: Any):
        """Receives the facts of all workers, then sends all facts to each. The chief calls it."""
        with _Guests(server, len(self.addresses)) as guests:
            while len(guests.met) < len(self.addresses) - 1:
                missing = [a for i, a in enumerate(self.addresses) if i and i not in guests.met]
                whom = f"for {len(missing)} of {len(self.addresses)} workers"
                waiting.report(whom, missing, gone=bool(guests.gone))
                guests.hear()
            messages = [guests.met[i][0] for i in range(1, len(self.addresses))]
            guests.tell([mine, *messages])
        return [mine, *messages]

    def _join(self, mine: Any, waiting: Any):
        """Sends facts to the chief and waits for its answer. All other workers call it."""
        first, gone = _host_and_port(self.addresses[0]), False
        while True:
            waiting.report("for the chief", self.addresses[:1], gone)
            with (
                contextlib.suppress(OSError, NoMessage),
                socket.create_connection(first, timeout=ANSWER) as connection,
            ):
                host = Peer(connection)
                host.send(mine)
                self._await(host, lambda answer: answer == _HEARD, waiting, gone)
                gone, host.deadline = True, None  # from here on the chief may be lost
                everyone = self._await(host, self._is_last, waiting)
                if everyone != _STOPPED:
                    return everyone
                raise InputError(
                    f"The chief in TF_CONFIG ({self.addresses[0]}) stopped before all workers had "
                    "connected. Its output says why. Start all workers again."
                )
            time.sleep(0.5)

    def _await(self, host: Peer, is_right: Callable[[Any], bool], waiting: Any, gone: bool = False):
        """Returns the next message of the chief. Raises NoMessage if it has a wrong form."""
        others = [a for i, a in enumerate(self.addresses) if i != self.index]
        while True:
            waiting.report("for the other workers", others, gone)
            message = host.hear()
            if message is not None:
                if is_right(message):
                    return message
                raise NoMessage("a wrong form")
            wait([host], timeout=1.0)  # type: ignore[list-item]  # `Peer` has a fileno

    def _is_last(self, message: Any) -> bool:
        """Returns whether a message is the last one of the chief: all facts, or that it stops."""
        if message == _STOPPED:
            return True
        whole = isinstance(message, list) and len(message) == len(self.addresses)
        return whole and all(_is_of(each, index) for index, each in enumerate(message))


class _Guests:
    """The connections to the chief: from workers, and from strangers that sent no message yet.

    Args:
        server: The listening server.
        count: The number of workers, including the chief.
    """

    def __init__(self, server: socket.socket, count: int):
        self.met: dict[Any, Any] = {}  # messages and peers of workers, by index
        self.gone: set[Any] = set()  # indices of workers that disconnected
        self._server, self._count = server, count
        self._strangers: list[Peer] = []

    def __enter__(self):
        self._server.setblocking(False)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any):
        if kind is not None:
            self.tell(_STOPPED)
        for peer in self._peers():
            peer.connection.close()

    def _peers(self):
        return [*self._strangers, *(peer for _, peer in self.met.values())]

    def hear(self):
        """Accepts connections and reads messages. Waits at most one second."""
        ready = wait([self._server, *self._peers()], timeout=1.0)
        if self._server in ready:
            with contextlib.suppress(OSError):  # the stranger may have disconnected
                self._strangers.append(Peer(self._server.accept()[0]))
        for index, (_, peer) in list(self.met.items()):
            try:
                peer.hear()
            except NoMessage:  # it stopped while the chief waited for others
                del self.met[index]
                self.gone.add(index)
                peer.connection.close()
        for peer in list(self._strangers):
            try:
                self._introduce(peer, peer.hear())
            except (NoMessage, OSError):
                self._strangers.remove(peer)
                peer.connection.close()
        while len(self._strangers) > _MOST_STRANGERS:
            self._strangers.pop(0).connection.close()

    def _introduce(self, peer: Any, message: Any):
        if message is None:
            return
        index = message.get("index") if isinstance(message, dict) else None
        if index is None or index not in range(1, self._count) or not _is_of(message, index):
            raise NoMessage("a wrong form")
        peer.send(_HEARD)
        peer.deadline = None  # it may stay silent now
        self._strangers.remove(peer)
        if index in self.met:
            self.met[index][1].connection.close()
        self.met[index] = message, peer
        self.gone.discard(index)

    def tell(self, value: Any):
        """Sends a message to all workers that have connected."""
        for _, peer in self.met.values():
            with contextlib.suppress(OSError):  # TensorFlow will notice
                peer.send(value)


class _Waiting:
    """A wait that prints for whom it waits, and gives up in the end."""

    def __init__(self, patience: float):
        self._start = self._said = time.monotonic()
        self._patience = patience
        self._gone: float | None = None

    def report(self, whom: str, addresses: Any, gone: bool = False):
        """Prints a line now and then.

        Args:
            whom: The missing workers as text, for example "for the chief".
            addresses: Their addresses.
            gone: Whether one of them has connected and then disconnected.

        Raises:
            InputError: The wait was too long.
        """
        now, where = time.monotonic(), ", ".join(addresses)
        self._gone = (self._gone or now) if gone else None
        if self._gone is not None and now - self._gone > _RETURN:
            raise InputError(
                f"A worker in TF_CONFIG ({where}) disconnected before all workers had connected, "
                f"and did not return within {_RETURN:.0f} s. Start all workers again."
            )
        if now - self._start > self._patience:
            raise InputError(
                f"Waited {self._patience:.0f} s {whom} in TF_CONFIG ({where}). Start the same "
                "command for every worker, and check that the machines reach each other."
            )
        if now - self._said > _REPORT:
            print(f"Waiting {whom} in TF_CONFIG ({where}) ...", flush=True)
            self._said = now


def _is_of(message: Any, index: int) -> bool:
    """Returns whether a message has the right form and comes from the worker `index`."""
    with contextlib.suppress(InputError):
        check_form("A message", message, _MESSAGE)
        return message["index"] == index and all(
            isinstance(group, dict) for group in message["facts"].values()
        )
    return False


def _host_and_port(address: str):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _compare(index: int, facts: dict[str, Any], first: Any):
    """Raises InputError if a worker was started differently from the chief."""
    for group in {*facts, *first}:
        theirs, ours = facts.get(group, {}), first.get(group, {})
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                raise InputError(
                    f"Worker {index} in TF_CONFIG (0 is the chief) has {group} {name} "
                    f"{short(theirs.get(name))}, but the chief has {short(ours.get(name))}. Start "
                    "all workers alike."
                )
