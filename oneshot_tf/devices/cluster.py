"""Several processes, one a machine, that train together: they meet before TensorFlow starts.

TensorFlow's own start knows nothing of our flags. So the first process collects what each
was started with, and sends it to all: either all go on, or each says what differs. Whoever
waits says for whom, and hears Ctrl-C.

Anybody can connect to the first process's port. So a message is a line of JSON of bounded length
and of one form, and must come soon; whoever sends another one is left alone, and keeps nobody
else waiting.
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

_PATIENCE = 600.0  # seconds that the processes wait for each other
_RETURN = 120.0  # seconds in which one that went away must be back
_REPORT = 10.0  # seconds between two lines that say so
_MOST_STRANGERS = 64  # connections that have not said anything yet
_HEARD, _STOPPED = {"answer": "heard"}, {"answer": "stopped"}
_MESSAGE = {"index": int, "facts": dict}
_EXAMPLE = (
    '\'{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes named in TF_CONFIG.

    Args:
        addresses: HOST:PORT of each, the chief first.
        index: which of them this one is.
    """

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def from_tf_config(cls, text: str | None) -> "Cluster":
        """Reads the environment variable TF_CONFIG.

        Raises:
            InputError: missing, malformed, or with other tasks than chief and worker.
        """
        if not text:
            raise InputError(
                "--distribution=multi_worker needs the environment variable TF_CONFIG, such as "
                f"{_EXAMPLE}; on one machine use mirrored or auto."
            )
        try:
            value = json.loads(text)
            jobs, task = value["cluster"], value["task"]
            kind, number = task["type"], task["index"]
            lists = [list(jobs.get("chief", [])), list(jobs.get("worker", []))]
            place = sum(len(each) for each in lists[: ("chief", "worker").index(kind)]) + number
            addresses = tuple(address for each in lists for address in each)
            if set(jobs) - {"chief", "worker"} or type(number) is not int:
                raise ValueError("tasks are 'chief' and 'worker', their index is a number")
            if not 0 <= number < len(jobs[kind]):
                raise ValueError(f"index {number} of {len(jobs[kind])} {kind}s")
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
        """Waits until all processes are here, and checks that they were started alike.

        Args:
            facts: values by name by group: what must be the same everywhere.
            patience: seconds to wait.

        Raises:
            InputError: a process did not come, went away, or was started in another way; an
                address is not this machine's.
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
        """A server at this process's own address, where TensorFlow's will be."""
        host, port = _host_and_port(self.addresses[self.index])
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as mine:
                mine.bind((address[0], 0))  # only this machine's addresses can be
            # On all interfaces, as TensorFlow's: a name may mean the local one only.
            both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
            return socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"TF_CONFIG gives this process the address {self.addresses[self.index]}, but it "
                f"cannot listen there ({getattr(error, 'strerror', None) or error}): the address "
                "is another machine's, or the port is taken."
            ) from None

    def _collect(self, server: socket.socket, mine: Any, waiting: Any):
        """As the first process: hears all others, then sends everybody's facts to each."""
        with _Guests(server, len(self.addresses)) as guests:
            while len(guests.met) < len(self.addresses) - 1:
                missing = [a for i, a in enumerate(self.addresses) if i and i not in guests.met]
                whom = f"for {len(missing)} of {len(self.addresses)} processes"
                waiting.report(whom, missing, gone=bool(guests.gone))
                guests.hear()
            messages = [guests.met[i][0] for i in range(1, len(self.addresses))]
            guests.tell([mine, *messages])
        return [mine, *messages]

    def _join(self, mine: Any, waiting: Any):
        """As another process: tells the first one, and waits for its answer."""
        first, gone = _host_and_port(self.addresses[0]), False
        while True:
            waiting.report("for the first process", self.addresses[:1], gone)
            with (
                contextlib.suppress(OSError, NoMessage),
                socket.create_connection(first, timeout=ANSWER) as connection,
            ):
                host = Peer(connection)
                host.send(mine)
                self._await(host, lambda answer: answer == _HEARD, waiting, gone)
                gone, host.deadline = True, None  # from here on its end counts
                everyone = self._await(host, self._is_last, waiting)
                if everyone != _STOPPED:
                    return everyone
                raise InputError(
                    f"The first process of TF_CONFIG ({self.addresses[0]}) has stopped before all "
                    "had met; it says why. Start all of them again."
                )
            time.sleep(0.5)

    def _await(self, host: Peer, is_right: Callable[[Any], bool], waiting: Any, gone: bool = False):
        """The first process's next message, if it is a right one."""
        others = [a for i, a in enumerate(self.addresses) if i != self.index]
        while True:
            waiting.report("for the other processes", others, gone)
            message = host.hear()
            if message is not None:
                if is_right(message):
                    return message
                raise NoMessage("of another form")
            wait([host], timeout=1.0)  # type: ignore[list-item]  # it has a fileno

    def _is_last(self, message: Any) -> bool:
        """Whether a message is the last of the first process: everybody's, or that it stops."""
        if message == _STOPPED:
            return True
        whole = isinstance(message, list) and len(message) == len(self.addresses)
        return whole and all(_is_of(each, index) for index, each in enumerate(message))


class _Guests:
    """Who has connected to the first process: strangers, and those that said who they are.

    Args:
        server: that listens.
        count: processes, the first one among them.
    """

    def __init__(self, server: socket.socket, count: int):
        self.met: dict[Any, Any] = {}  # messages and peers by index
        self.gone: set[Any] = set()  # indices of those that were met and went away
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
        """Takes new connections and what is there of messages; waits a second at most."""
        ready = wait([self._server, *self._peers()], timeout=1.0)
        if self._server in ready:
            with contextlib.suppress(OSError):  # it may have gone again
                self._strangers.append(Peer(self._server.accept()[0]))
        for index, (_, peer) in list(self.met.items()):
            try:
                peer.hear()
            except NoMessage:  # it died while others were waited for
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
            raise NoMessage("of another form")
        peer.send(_HEARD)
        peer.deadline = None  # it may be silent now
        self._strangers.remove(peer)
        if index in self.met:
            self.met[index][1].connection.close()
        self.met[index] = message, peer
        self.gone.discard(index)

    def tell(self, value: Any):
        """Sends something to all that were met."""
        for _, peer in self.met.values():
            with contextlib.suppress(OSError):  # TensorFlow will notice
                peer.send(value)


class _Waiting:
    """Says for whom one waits; gives up in the end."""

    def __init__(self, patience: float):
        self._start = self._said = time.monotonic()
        self._patience = patience
        self._gone: float | None = None

    def report(self, whom: str, addresses: Any, gone: bool = False):
        """Raises InputError when it was too long.

        Args:
            whom: is waited for, in words.
            addresses: theirs.
            gone: whether one of them was here, and went away.
        """
        now, where = time.monotonic(), ", ".join(addresses)
        self._gone = (self._gone or now) if gone else None
        if self._gone is not None and now - self._gone > _RETURN:
            raise InputError(
                f"A process of TF_CONFIG ({where}) went away before all had met, and did not come "
                f"back within {_RETURN:.0f} s. Start all of them again."
            )
        if now - self._start > self._patience:
            raise InputError(
                f"Waited {self._patience:.0f} s {whom} of TF_CONFIG ({where}); start the same "
                "command on each of them, and see that they reach each other."
            )
        if now - self._said > _REPORT:
            print(f"Waiting {whom} of TF_CONFIG ({where}) ...", flush=True)
            self._said = now


def _is_of(message: Any, index: int) -> bool:
    """Whether a message has the form of those of processes, and is of this one."""
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
    """Raises InputError where a process was started in another way than the first."""
    for group in {*facts, *first}:
        theirs, ours = facts.get(group, {}), first.get(group, {})
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                raise InputError(
                    f"Process {index} of TF_CONFIG has {group} {name} {short(theirs.get(name))}, "
                    f"process 0 has {short(ours.get(name))}; start all of them alike."
                )
