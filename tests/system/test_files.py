"""Files and folders that are whole or not there."""

import errno
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.system import array_files, files, json_files, opening
from oneshot_tf.system.locks import locked


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make(folder, text):
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text(text)
    return folder


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path, monkeypatch, exchange, there):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target, source = tmp_path / "target", make(tmp_path / "source", "new")
    if there:
        make(target, "old")
    files.replace_folder(source, target)
    assert tree(target) == {"sub/file": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_there_is_never_no_folder(tmp_path, monkeypatch):
    """Killed at any system call that changes names, the old or the new one is there."""
    calls = []

    class Killed(BaseException):
        pass

    def dying(name, real):
        def call(*arguments):
            if len(calls) == at:
                raise Killed
            calls.append(name)
            return real(*arguments)

        return call

    target = make(tmp_path / "target", "old")
    for at in range(20):
        source = make(tmp_path / f"source{at}", "new")
        calls.clear()
        with monkeypatch.context() as patch:
            for module, name in ((os, "replace"), (files, "_exchange"), (os, "fsync")):
                patch.setattr(module, name, dying(name, getattr(module, name)))
            try:
                files.replace_folder(source, target)
                break
            except Killed:
                assert tree(target) in ({"sub/file": b"old"}, {"sub/file": b"new"})
    assert "_exchange" in calls and tree(target) == {"sub/file": b"new"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, error):
    path = tmp_path / "file.json"
    json_files.write_json(path, {"a": 1})

    def failing(*_):
        raise OSError(error, os.strerror(error))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            with pytest.raises(ost.InputError, match=os.strerror(error)) as raised:
                json_files.write_json(path, {"a": 2})
        assert "\n" not in str(raised.value) and "file.json" in str(raised.value)
        assert json_files.read_json(path) == {"a": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_arrays_survive_every_cut_and_no_flipped_bit_is_taken_for_a_number(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {"a/b": np.arange(12.0).reshape(3, 4), "names": np.array(["x", "yz"])}
    array_files.write_arrays(path, arrays)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ost.InputError, match=r"arrays\.npz cannot be read"):
            array_files.read_arrays(path)
    refused = 0
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        try:
            found = array_files.read_arrays(path)
        except ost.InputError:
            refused += 1
            continue
        for name in found.keys() & arrays.keys():  # dates and the like changed, or a name
            np.testing.assert_array_equal(found[name], arrays[name])
    assert refused > len(whole) // 2


def test_forms():
    form = {"a": int, "b": [(float, None)], "c": {"d": str}}
    good = {"a": 1, "b": [1, 0.5, None], "c": {"d": "x", "more": 1}, "more": []}
    json_files.check_form("f", good, form)
    for bad, part in [
        ({**good, "a": True}, "a bool at /a"),
        ({**good, "a": 1.0}, "a float at /a"),
        ({**good, "b": ["1"]}, "a str at /b/0"),
        ({**good, "b": {}}, "a dict at /b"),
        ({**good, "c": {}}, "no /c/d"),
        ([], "a list at /"),
        ({**good, "a": 2**63}, "a number that does not fit into 64 bits at /a"),
        ({**good, "b": [-(10**400)]}, "a number that does not fit into 64 bits at /b/0"),
    ]:
        with pytest.raises(ost.InputError, match=part):
            json_files.check_form("f", bad, form)


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    make(tmp_path / "keep", "x")
    (tmp_path / "keep" / f".file.{os.getpid()}.writing").write_text("half")
    make(tmp_path / ".export.9.writing", "half")
    (tmp_path / ".mine.writing").write_text("a user's")
    outside = make(tmp_path.parent / f"{tmp_path.name}_outside", "y")
    (outside / ".file.1.writing").write_text("half")
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / ".link.2.writing").symlink_to(outside)
    files.remove_leftovers(tmp_path)
    assert tree(tmp_path) == {"keep/sub/file": b"x", ".mine.writing": b"a user's"}
    assert [p.name for p in tmp_path.glob(".*")] == [".mine.writing"]
    assert tree(outside) == {"sub/file": b"y", ".file.1.writing": b"half"}


def test_leftovers_of_one_name(tmp_path):
    for name in (".export.1.writing", ".exported.1.writing", ".other.1.writing"):
        (tmp_path / name).write_text("")
    files.remove_leftovers(tmp_path, "export")
    assert {p.name for p in tmp_path.iterdir()} == {".exported.1.writing", ".other.1.writing"}


# ---------------------------------------------------------------------------- what is no file

OPEN = {
    "read_text": files.read_text,
    "read_json": json_files.read_json,
    "read_arrays": array_files.read_arrays,
    "read_json_lines": lambda path: json_files.read_json_lines(path, {}),
    "checksum": files.checksum,
    "append_line": lambda path: files.append_line(path, "line"),
}


@pytest.mark.parametrize("name", OPEN)
def test_nothing_but_a_file_is_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    os.mkfifo("pipe")
    os.mkdir("folder")
    pathlib.Path("file").write_text("{}")
    os.symlink("file", "link")
    with socket.socket(socket.AF_UNIX) as own:
        own.bind("socket")
        for kind in ("pipe", "folder", "link", "socket"):
            with pytest.raises(ost.InputError, match=f"{kind} must be a file; it is a {kind}"):
                OPEN[name](pathlib.Path(kind))
    with pytest.raises(ost.InputError, match="/dev/null must be a file; it is a device"):
        OPEN[name]("/dev/null")
    assert pathlib.Path("file").read_text() == "{}"


def test_what_turns_into_a_pipe_meanwhile_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    before = os.lstat(tmp_path / "file")
    monkeypatch.setattr(os, "lstat", lambda _: before)
    with pytest.raises(ost.InputError, match="it is a pipe"):
        opening.open_file(tmp_path / "pipe")


@pytest.mark.parametrize(
    "read, most",
    [(files.read_text, files.MOST_TEXT), (json_files.read_json, json_files.MOST_JSON),
     (OPEN["read_json_lines"], json_files.MOST_JSON_LINES),
     (array_files.read_arrays, array_files.MOST_ARRAYS)],
)  # fmt: skip
def test_files_are_bounded(tmp_path, read, most):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(most + 1)
    with pytest.raises(ost.InputError, match=f"must be at most {most:,} bytes long; it is longer"):
        read(path)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")
def test_what_is_read_counts_not_what_the_file_system_says():
    assert os.stat("/proc/self/maps").st_size == 0
    assert len(opening.read_bytes("/proc/self/maps", 10**7)) > 100
    with pytest.raises(ost.InputError, match="must be at most 100 bytes long"):
        opening.read_bytes("/proc/self/maps", 100)


def test_numbers_that_nothing_can_hold(tmp_path):
    path = tmp_path / "file"
    path.write_text('{"a": 9223372036854775807}\n{"a": 1' + "0" * 400 + "}\n")
    assert json_files.read_json_lines(path, {}) == [{"a": 2**63 - 1}]
    path.write_text('{"deep": [{"a": -1' + "0" * 400 + "}]}")
    with pytest.raises(ost.InputError, match="the number -100.* does not fit into 64 bits"):
        json_files.read_json(path)


def test_a_copy_made_of_hard_links_is_another_file_once_it_is_written(tmp_path):
    (tmp_path / "thesis.txt").write_text("a\n")
    (tmp_path / "run").mkdir()
    for name in ("provenance.jsonl", ".lock"):
        os.link(tmp_path / "thesis.txt", tmp_path / "run" / name)
    files.append_line(tmp_path / "run" / "provenance.jsonl", "b")
    assert (tmp_path / "run" / "provenance.jsonl").read_text() == "a\nb\n"
    with locked(tmp_path / "run"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "a\n"
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["provenance.jsonl"]


# ---------------------------------------------------------------------------- locks


# Without what the package's own file imports, which takes seconds.
HOLD = f"""
import sys, types
package = types.ModuleType("oneshot_tf")
package.__path__ = [{str(pathlib.Path(ost.__file__).parent)!r}]
sys.modules["oneshot_tf"] = package
from oneshot_tf.system.locks import locked
with locked(sys.argv[1]): input()
"""


def test_a_lock_that_was_removed_takes_no_other_with_it(tmp_path):
    lock = tmp_path / ".lock"
    with locked(tmp_path):
        lock.unlink()
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, text=True
        )
        while not (lock.exists() and lock.stat().st_size):
            assert other.poll() is None
    with pytest.raises(ost.InputError, match=f"process {other.pid}"), locked(tmp_path):
        pass
    other.communicate("\n")
    assert other.returncode == 0 and not lock.exists()


def test_sharing_a_lock_leaves_what_is_written_there(tmp_path):
    lock = tmp_path / ".lock"
    dead = subprocess.Popen(["true"])
    dead.wait()
    text = f'{{"pid": {dead.pid}, "host": "{socket.gethostname()}", "command": ["x"]}}'
    lock.write_text(text)
    with locked(tmp_path, shared=True):
        assert lock.read_text() == text
        with pytest.raises(ost.InputError, match="in use by another process"), locked(tmp_path):
            pass
    lock.write_text(text.replace(f"{dead.pid}", f"{os.getpid()}").replace('"x"', '"\\u001b[2J"'))
    with locked(tmp_path, shared=True):
        with pytest.raises(ost.InputError) as error, locked(tmp_path):
            pass
        assert "\x1b" not in str(error.value) and r"\x1b[2J" in str(error.value)
