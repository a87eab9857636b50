"""Several processes, one a machine, that train together: they meet before TensorFlow starts.

TensorFlow's own start knows nothing of our flags. So the first process collects what each
was started with, and sends it to all: either all go on, or each says what differs. Whoever
waits says for whom, and hears Ctrl-C.
"""

import contextlib
import dataclasses
import json
import socket
import time

from oneshot_tf.errors import InputError, short

_PATIENCE = 600.0  # seconds that the processes wait for each other
_REPORT = 10.0  # seconds between two lines that say so
_MOST_BYTES = 2**20
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
                f"TF_CONFIG={short(text)} can't be used ({type(error).__name__}: {error}); needed "
                f"is such as {_EXAMPLE}."
            ) from None
        return cls(addresses, place)

    def meet(self, facts: dict, patience: float = _PATIENCE) -> None:
        """Waits until all processes are here, and checks that they were started alike.

        Args:
            facts: values by name by group: what must be the same everywhere.
            patience: seconds to wait.

        Raises:
            InputError: somebody didn't come, or was started in another way; an address isn't
                this machine's.
        """
        with self._listen() as server:
            mine = {"index": self.index, "facts": facts}
            if self.index == 0:
                everyone = self._collect(server, mine, patience)
            else:
                server.close()
                everyone = self._send(mine, patience)
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
                f"can't listen there ({getattr(error, 'strerror', None) or error}): the address "
                "is another machine's, or the port is taken."
            ) from None

    def _collect(self, server, mine, patience):
        """As the first process: hears all others, then sends everybody's facts to each."""
        met, waiting = {0: (mine, None)}, _Waiting(patience)
        server.settimeout(1.0)
        with contextlib.ExitStack() as open_connections:
            while len(met) < len(self.addresses):
                for index in [i for i in met if i and _is_closed(met[i][1])]:
                    del met[index]  # it died while others were waited for
                missing = [a for i, a in enumerate(self.addresses) if i not in met]
                waiting.report(f"for {len(missing)} of {len(self.addresses)} processes", missing)
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                open_connections.enter_context(connection)
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    message = _receive(connection)
                    if message["index"] in range(1, len(self.addresses)):
                        met[message["index"]] = message, connection
            everyone = [met[i][0] for i in range(len(self.addresses))]
            for i in range(1, len(self.addresses)):
                with contextlib.suppress(OSError):  # TensorFlow will notice
                    _send(met[i][1], everyone)
        return everyone

    def _send(self, mine, patience):
        """As another process: tells the first one, and waits for its answer."""
        waiting = _Waiting(patience)
        while True:
            waiting.report("for the first process", self.addresses[:1])
            first = _host_and_port(self.addresses[0])
            with (
                contextlib.suppress(OSError, ValueError),
                socket.create_connection(first, timeout=5.0) as connection,
            ):
                _send(connection, mine)
                # The others may take their time to come, but its end is noticed at once.
                everyone = _receive(connection, waiting)
                if isinstance(everyone, list):
                    return everyone
            time.sleep(0.5)


class _Waiting:
    """Says for whom one waits; gives up in the end."""

    def __init__(self, patience):
        self._start = self._said = time.monotonic()
        self._patience = patience

    def report(self, whom, addresses):
        now = time.monotonic()
        where = ", ".join(addresses)
        if now - self._start > self._patience:
            raise InputError(
                f"Waited {self._patience:.0f} s {whom} of TF_CONFIG ({where}); start the same "
                "command on each of them, and see that they reach each other."
            )
        if now - self._said > _REPORT:
            print(f"Waiting {whom} of TF_CONFIG ({where}) ...", flush=True)
            self._said = now


def _is_closed(connection) -> bool:
    """Whether the process at the other end has gone."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False  # there, and silent
    except OSError:
        return True
    finally:
        connection.settimeout(5.0)


def _host_and_port(address):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _send(connection, value):
    connection.sendall(json.dumps(value).encode() + b"\n")


def _receive(connection, waiting=None):
    """One line of JSON; nothing of it is run."""
    connection.settimeout(1.0 if waiting else 5.0)
    received = b""
    while not received.endswith(b"\n"):
        try:
            part = connection.recv(2**16)
        except TimeoutError:
            if waiting is None:
                raise
            waiting.report("for the other processes", ["all are asked"])
            continue
        received += part
        if not part or len(received) > _MOST_BYTES:
            raise ValueError("no line")
    return json.loads(received)


def _compare(index, facts, first):
    """Raises InputError where a process was started in another way than the first."""
    for group in {*facts, *first}:
        theirs, ours = facts.get(group, {}), first.get(group, {})
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                raise InputError(
                    f"Process {index} of TF_CONFIG has {group} {name} {short(theirs.get(name))}, "
                    f"process 0 has {short(ours.get(name))}; start all of them alike."
                )
