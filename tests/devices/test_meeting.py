"""Processes meet before TensorFlow starts, whatever strangers send and whoever goes away."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import free_addresses, tf_config

import oneshot_tf as ost
from oneshot_tf.devices import cluster
from oneshot_tf.devices.cluster import Cluster

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def meet(facts, patience=20.0):
    """What each process says: None or its error."""
    addresses, said = free_addresses(len(facts)), [None] * len(facts)

    def process(index):
        try:
            Cluster(addresses, index).meet(facts[index], patience)
        except ost.InputError as error:
            said[index] = str(error)

    present = [i for i, each in enumerate(facts) if each is not None]
    threads = [threading.Thread(target=process, args=[i]) for i in present]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_processes_that_are_alike_meet():
    assert meet([{"the flag": {"--filters": 4}}] * 3) == [None] * 3


def test_processes_that_differ_all_say_so():
    said = meet([{"the flag": {"--filters": 4}}] * 2 + [{"the flag": {"--filters": 8}}])
    assert all(
        "Worker 2 in TF_CONFIG (0 is the chief) has the flag --filters 8, but the chief has 4" in s
        for s in said
    )


@pytest.mark.parametrize("missing", [0, 1])
def test_a_process_that_does_not_come_is_named(missing):
    facts = [{}, {}]
    facts[missing] = None
    (said,) = filter(None, meet(facts, patience=2.0))
    assert "Waited 2 s" in said and "127.0.0.1:" in said


def chief(count=2, patience=20.0, facts=None):
    """A first process that waits for the others, in a thread; its addresses and what it says."""
    addresses, said = free_addresses(count), []

    def process():
        try:
            said.append(Cluster(addresses, 0).meet(facts or {}, patience))
        except Exception as error:  # whatever it is: the test looks at it
            said.append(error)

    thread = threading.Thread(target=process)
    thread.start()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            connect(addresses).close()
            return addresses, thread, said
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the first process does not listen")


def connect(addresses):
    host, port = addresses[0].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


STRANGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no facts": b'{"index": 1}\n',
    "a number": b'{"index": 1, "facts": 5}\n', "no index": b'{"facts": {}}\n',
    "a number in it": b'{"index": 1, "facts": {"the flag": 5}}\n', "deep": b"[" * 100_000 + b"\n",
    "deep objects": b'{"index":' * 50_000 + b"\n", "a list": b"[1]\n", "null": b"null\n",
    "its own index": b'{"index": 0, "facts": {}}\n', "true": b'{"index": true, "facts": {}}\n',
    "a list as index": b'{"index": [1], "facts": {}}\n', "1.0": b'{"index": 1.0, "facts": {}}\n',
    "far": b'{"index": 99, "facts": {}}\n', "no UTF-8": b'\xff\xfe{"index"\n', "empty": b"\n",
    "long number": b'{"index": ' + b"9" * 10_000 + b', "facts": {}}\n', "half": b'{"index": 1, ',
    "no line": b" " * 2**21, "nothing": b"",
}  # fmt: skip


def test_strangers_at_the_first_processs_port_are_left_alone():
    """All at once, and all stay connected; the processes meet as if there were none."""
    addresses, thread, said = chief(facts={"the flag": {"--filters": 4}})
    open_ones = []
    for content in STRANGE.values():
        stranger = connect(addresses)
        open_ones.append(stranger)
        try:
            stranger.sendall(content)
        except OSError:
            assert content == STRANGE["no line"]  # it is cut off before it ends
    time.sleep(1.0)
    assert thread.is_alive() and not said
    Cluster(addresses, 1).meet({"the flag": {"--filters": 4}}, 20.0)
    thread.join(20)
    assert said == [None]
    for stranger in open_ones:
        stranger.close()


def test_idle_and_slow_strangers_keep_nobody_waiting():
    addresses, thread, said = chief(facts={"the flag": {"--filters": 4}})
    idle = [connect(addresses) for _ in range(100)]
    slow, stop = connect(addresses), threading.Event()

    def trickle():
        with contextlib.suppress(OSError):
            while not stop.wait(0.2):
                slow.sendall(b" ")

    writer = threading.Thread(target=trickle)
    writer.start()
    started = time.monotonic()
    Cluster(addresses, 1).meet({"the flag": {"--filters": 4}}, 20.0)
    assert time.monotonic() - started < 4
    thread.join(20)
    stop.set()
    writer.join()
    assert said == [None]
    for stranger in (*idle, slow):
        stranger.close()


def test_patience_ends_whatever_strangers_do():
    """A slow one is cut off after five seconds, and a new one comes: the wait ends all the same."""
    addresses, thread, said = chief(patience=3.0)
    started, cut_off = time.monotonic(), 0
    stranger = connect(addresses)
    while thread.is_alive() and time.monotonic() - started < 30:
        try:
            stranger.sendall(b" ")
        except OSError:
            cut_off += 1
            with contextlib.suppress(OSError):
                stranger = connect(addresses)
        time.sleep(0.2)
    assert "Waited 3 s for 1 of 2 workers" in str(said[0])
    assert time.monotonic() - started < 8
    stranger.close()


def test_a_stranger_where_the_first_process_should_be():
    """What it answers is checked in the same way, and the wait ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        (own,) = free_addresses(1)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        answers = iter([b"[" * 100_000 + b"\n", b'{"answer": "heard"}\n[1, 2]\n', b"5\n",
                        b'{"answer": "heard"}\n[{"index": 0}, {"index": 1, "facts": {}}]\n',
                        b'[{"index": 0, "facts": {}}, {"index": 1, "facts": {}}]\n'])  # fmt: skip

        def serve():
            server.settimeout(15)
            with contextlib.suppress(OSError):
                for answer in answers:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(2**16)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ost.InputError, match="Waited 6 s"):
            Cluster((address, own), 1).meet({}, 6.0)
        assert next(answers, None) is None  # it has heard them all
        thread.join()


def worker(addresses, index, said, patience=20.0):
    def process():
        try:
            said.append(Cluster(addresses, index).meet({}, patience))
        except Exception as error:
            said.append(error)

    thread = threading.Thread(target=process)
    thread.start()
    return thread


MEETS = """
import sys, types
package = sys.modules["oneshot_tf"] = types.ModuleType("oneshot_tf")
package.__path__ = ["oneshot_tf"]  # without TensorFlow, which takes long to import
from oneshot_tf.devices.cluster import Cluster
from oneshot_tf.system.interrupts import listen
listen()
print("here", flush=True)
Cluster(tuple(sys.argv[2:]), int(sys.argv[1])).meet({}, 60.0)
"""


def in_another_process(index, addresses):
    """A process that meets, whose signals are its own; returned when it has met the chief."""
    return subprocess.Popen(
        [sys.executable, "-c", MEETS, str(index), *addresses],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("number, message", [
    (signal.SIGKILL, "before all workers had connected, and did not return within 2 s"),
    (signal.SIGTERM, "stopped before all workers had connected"),
])  # fmt: skip
def test_a_first_process_that_ends_before_all_have_met(monkeypatch, number, message):
    """The others, which have minutes of patience, end soon; at once if it could say so."""
    monkeypatch.setattr(cluster, "_RETURN", 2.0)
    addresses, said = free_addresses(3), []
    first = in_another_process(0, addresses)
    assert first.stdout.readline() == "here\n"
    thread = worker(addresses, 1, said, 60.0)
    time.sleep(2.0)  # until it is heard
    assert not said
    first.send_signal(number)
    first.communicate()
    ended = time.monotonic()
    thread.join(30)
    assert isinstance(said[0], ost.InputError) and message in str(said[0])
    assert time.monotonic() - ended < 10


def test_a_process_that_goes_and_comes_back():
    addresses, thread, said = chief(3, 60.0)
    member = connect(addresses)
    member.sendall(b'{"index": 2, "facts": {}}\n')
    assert b"heard" in member.recv(100)
    member.close()
    time.sleep(1.5)
    assert thread.is_alive() and not said
    others = [[], []]
    threads = [worker(addresses, index, others[index - 1], 60.0) for index in (1, 2)]
    for each in (thread, *threads):
        each.join(20)
    assert said == others[0] == others[1] == [None]


def test_a_process_that_was_met_and_does_not_come_back(monkeypatch):
    """The first one gives it up after two minutes (here: seconds), and tells the other one."""
    monkeypatch.setattr(cluster, "_RETURN", 2.0)
    addresses, thread, said = chief(4, 60.0)
    other_said = []
    other = worker(addresses, 1, other_said, 60.0)
    member = connect(addresses)
    member.sendall(b'{"index": 2, "facts": {"the flag": {}}}\n')
    assert b"heard" in member.recv(100)
    time.sleep(2.0)  # until the other one is heard too
    member.close()
    thread.join(20)
    assert f"({addresses[2]}, {addresses[3]}) disconnected before all workers" in str(said[0])
    other.join(20)
    assert "stopped before all workers had connected" in str(other_said[0])


def test_processes_with_other_clusters_say_so():
    said = meet([{"the addresses of": {"worker": ["a:1", "b:2"]}}, {"the addresses of": {}}])
    assert all(
        "Worker 1 in TF_CONFIG (0 is the chief) has the addresses of worker" in s for s in said
    )


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_host_that_is_no_name(host):
    with pytest.raises(ost.InputError, match="cannot listen there"):
        Cluster((f"{host}:2222", "192.0.2.2:2222"), 0).meet({})


def test_an_address_of_another_machine():
    with pytest.raises(ost.InputError, match="192.0.2.1:2222, but it cannot listen there"):
        Cluster(("192.0.2.1:2222", "192.0.2.2:2222"), 0).meet({})


@pytest.mark.parametrize(
    "text",
    [
        None, "", "{", "[]", "3", '{"cluster": {}}', '{"cluster": 3, "task": 4}', "[" * 100_000,
        tf_config({"worker": ["a:1", "b:2"]}, index=2), tf_config({"worker": ["a:1"]}, index=-1),
        tf_config({"worker": ["a:1"]}, index="0"), tf_config({"worker": ["a"]}),
        tf_config({"worker": ["a:0"]}), tf_config({"worker": ["a:1", "a:1"]}),
        tf_config({"worker": "a:1"}), tf_config({"worker": [1]}),
        tf_config({"worker": ["a:1"]}, "ps"),
        tf_config({"worker": ["a:1"], "ps": ["b:1"]}),
    ],
)  # fmt: skip
def test_a_malformed_tf_config(text):
    with pytest.raises(ost.InputError, match="TF_CONFIG"):
        Cluster.from_tf_config(text)


def test_the_chief_comes_first():
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    assert Cluster.from_tf_config(tf_config(jobs, "worker", 1)) == Cluster(("c:3", "a:1", "b:2"), 2)
    assert Cluster.from_tf_config(tf_config(jobs, "chief")) == Cluster(("c:3", "a:1", "b:2"), 0)
