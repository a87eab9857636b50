"""Claims of real processes: one holder, renewal, expiry, and a takeover by exactly one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import oneshot_tf as ost
from oneshot_tf.system import claims as module
from oneshot_tf.system.claims import ClaimLost, Claims
from oneshot_tf.system.progress import Progress
from oneshot_tf.system.sharing import do_together

SECONDS = 1.5
# Prints what happens to a claim. It loads only the package's system room, to start quickly.
PROGRAM = """
import pathlib, sys, time, types
package = types.ModuleType("oneshot_tf")
package.__path__ = [sys.argv[1]]
sys.modules["oneshot_tf"] = package
from oneshot_tf.system.claims import Claims
from oneshot_tf.system.interrupts import Interrupted, listen
folder, what = pathlib.Path(sys.argv[2]), sys.argv[3]
listen()
try:
    with Claims(folder, float(sys.argv[4])) as claims:
        print("ready", flush=True)
        sys.stdin.readline()
        while (claim := claims.take(["work"])) is None and what == "wait":
            time.sleep(0.02)
        print("held" if claim else "refused", flush=True)
        while claim and not claim.lost():
            time.sleep(0.02)
        print("lost", flush=True)
except Interrupted:
    print("stopped", flush=True)
"""


def start(folder, what="once", seconds=SECONDS):
    """A process that is ready to claim the work."""
    package = os.path.dirname(ost.__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, package, str(folder), what, str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@contextlib.contextmanager
def started(*arguments, count=1, **options):
    """Several of them. They are killed at the end."""
    processes = [start(*arguments, **options) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def go(processes):
    """Lets all of them try at the same time; returns what each says."""
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes]


def test_one_process_at_a_time_holds_a_claim_and_renews_it(tmp_path):
    with started(tmp_path, count=6) as processes:
        assert sorted(go(processes)) == ["held", *["refused"] * 5]
        time.sleep(2 * SECONDS)
        with Claims(tmp_path, SECONDS) as claims:
            assert claims.take(["work"]) is None
            holder = next(p for p in processes if f"process {p.pid} " in claims.holders(["work"]))
            # Another piece of work is free.
            with claims.take(["work", "more"]) as claim:
                assert claim.name == "more"
        holder.kill()


def test_a_dead_holder_is_followed_by_exactly_one(tmp_path):
    with started(tmp_path) as (first,), started(tmp_path, "wait", count=5) as others:
        assert go([first]) == ["held"]
        for process in others:
            process.stdin.write("go\n")
            process.stdin.flush()
        time.sleep(1.5 * SECONDS)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["work.0.claim"]  # renewed
        first.kill()
        began = time.monotonic()
        while not (tmp_path / "work.1.claim").exists():
            assert time.monotonic() - began < 20
            time.sleep(0.01)
        assert time.monotonic() - began > 0.5 * SECONDS
        time.sleep(2 * SECONDS)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["work.0.claim", "work.1.claim"]
        holder = json.loads((tmp_path / "work.1.claim").read_text())["pid"]
        assert holder in [process.pid for process in others]
        said = []
        for process in others:
            process.kill()
            said += process.communicate()[0].splitlines()
        assert said == ["held"]


def test_a_suspended_holder_has_lost_its_claim_and_harms_nobody(tmp_path):
    with started(tmp_path) as (first,), started(tmp_path, "wait") as (second,):
        assert go([first]) == ["held"]
        first.send_signal(signal.SIGSTOP)
        assert go([second]) == ["held"]
        first.send_signal(signal.SIGCONT)
        assert first.stdout.readline() == "lost\n"
        assert first.wait(20) == 0
        # The end of the first has not given the work away.
        with Claims(tmp_path, SECONDS) as claims:
            assert claims.take(["work"]) is None
        assert sorted(p.name for p in tmp_path.iterdir()) == ["work.0.claim", "work.1.claim"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_stopped_releases_its_claim_at_once(tmp_path, number):
    with started(tmp_path, seconds=600.0) as (first,):
        assert go([first]) == ["held"]
        first.send_signal(number)
        assert first.communicate()[0] == "stopped\n"
    with Claims(tmp_path, 600.0) as claims:
        assert claims.take(["work"]) is not None


def test_claims_expire_by_the_time_of_the_file_system(tmp_path, monkeypatch):
    """Another local clock changes nothing."""
    with Claims(tmp_path, 600.0) as claims:
        claim = claims.take(["work"])
        monkeypatch.setattr(time, "time", lambda: 0.0)
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        assert Claims(tmp_path, 600.0).take(["work"]) is None
        os.utime(claim._path, (1.0, 1.0))
        assert Claims(tmp_path, 600.0).take(["work"]) is not None
        assert claim.lost()
        with pytest.raises(ClaimLost, match="This copy has lost its claim on work, because it"):
            claim.check()


def test_a_claim_says_when_it_expires(tmp_path):
    with Claims(tmp_path, 600.0) as claims, claims.take(["work"]) as claim:
        now = os.stat(claim._path).st_mtime
        os.utime(claim._path, (now - 300, now - 300))
        assert Claims(tmp_path, 2.0).take(["work"]) is None


def test_a_time_to_come_does_not_hold_a_claim_for_ever(tmp_path):
    (tmp_path / "work.0.claim").write_text("")
    now = os.stat(tmp_path / "work.0.claim").st_mtime
    os.utime(tmp_path / "work.0.claim", (now + 10**6, now + 10**6))
    with Claims(tmp_path, 2.0) as claims:
        assert claims.take(["work"]) is not None


def test_a_removed_folder_ends_claims(tmp_path):
    folder = tmp_path / "claims"
    folder.mkdir()
    with Claims(folder, SECONDS) as claims:
        claim = claims.take(["work"])
        assert not claim.lost()
        os.rename(folder, tmp_path / "gone")
        assert claim.lost() and claims.take(["work"]) is None and claims.holders(["work"]) == ""
        assert not folder.exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe", b"[" * 3000, b"x" * 10**6, b'{"seconds": "long", "pid": []}',
     b'{"seconds": 1e300, "host": "\\u001b[2J"}', b'{"seconds": NaN}'],
)  # fmt: skip
def test_any_contents_of_a_claim_are_handled(tmp_path, text):
    path = tmp_path / "work.0.claim"
    path.write_bytes(text)
    for number in ("999999999999", "07"):  # no numbers of claims
        (tmp_path / f"work.{number}.claim").write_text("")
    (tmp_path / "else").write_text("")
    with Claims(tmp_path, SECONDS) as claims:
        assert claims.take(["work"]) is None
        assert "\x1b" not in claims.holders(["work"])
        os.utime(path, (1.0, 1.0))
        assert claims.take(["work"]) is not None


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "work.0.claim").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ost.InputError, match=r"work\.0\.claim must be a file; it is a folder"):
        Claims(tmp_path).take(["work"])
    with pytest.raises(ost.InputError, match="file cannot be read"):
        Claims(tmp_path / "file").take(["work"])
    for name in ("", "a/b", "a.b", "x" * 201):
        with pytest.raises(ost.InputError, match="must be 1 to 200 letters"):
            Claims(tmp_path).take([name])
    with pytest.raises(ost.InputError, match=r"seconds must be from 1 to 86,400; got 0\.5"):
        Claims(tmp_path, 0.5)


def test_a_folder_that_cannot_be_written_gives_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("utime", "pwrite"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(ost.InputError, match="Cannot write .*No space left") as raised:
                Claims(tmp_path).take(["work"])
        assert "\n" not in str(raised.value)


def test_work_is_done_once_and_again_where_it_failed(tmp_path, capsys):
    """A copy goes on after it has lost a claim, and stops with the error of its own work."""
    done, tried = set(), []

    def do(claim):
        tried.append(claim.name)
        if tried == ["a"]:
            claim._expired = True
            claim.check()
        done.add(claim.name)

    arguments = (["a", "b"], do, done.__contains__, lambda: False)
    with Claims(tmp_path, SECONDS) as claims:
        do_together(claims, *arguments, Progress("test", 2, "pieces"))
    assert done == {"a", "b"} and sorted(tried) == ["a", "a", "b"]
    assert "has lost its claim on a" in capsys.readouterr().out

    def fail(claim):
        raise ost.InputError("no")

    with Claims(tmp_path, SECONDS) as claims:
        with pytest.raises(ost.InputError, match="no"):
            do_together(
                claims, ["c"], fail, lambda _: False, lambda: False, Progress("test", 1, "pieces")
            )
        assert claims.take(["c"]) is not None  # released at once


def test_who_waits_says_for_whom_and_ends_when_the_work_is_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("oneshot_tf.system.sharing._SAY_SECONDS", 0.0)
    over = iter([False, False, True])
    with Claims(tmp_path, SECONDS) as other, other.take(["b"]), Claims(tmp_path, SECONDS) as claims:
        do_together(
            claims, ["a", "b"], pytest.fail, "a".__eq__, lambda: next(over),
            Progress("test", 2, "pieces"),
        )  # fmt: skip
    said = capsys.readouterr().out
    assert f"test: 1/2 pieces are done. Waiting for other copies (b: process {os.getpid()}" in said


def test_names_of_files_being_written_differ_between_machines(tmp_path):
    """Two machines, or two containers, may have the same process number."""
    code = "import os; os.getpid = lambda: 7\nfrom oneshot_tf.system.files import beside_of\n"
    code = PROGRAM.partition("from oneshot_tf.system")[0] + code
    code += "print(beside_of(pathlib.Path('file')))"
    package = os.path.dirname(ost.__file__)
    command = [sys.executable, "-c", code, package]
    names = {subprocess.check_output(command, text=True).strip() for _ in range(2)}
    assert len(names) == 2 and all(name.startswith(".file.7") for name in names)


def test_the_example_of_the_module_runs(tmp_path):
    with Claims(tmp_path) as claims, claims.take(["block_0", "block_1"]) as claim:
        assert claim.name == "block_0"
    assert module.__doc__
