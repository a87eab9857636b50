"""Files and folders that are whole or not there."""

import errno
import os
import pathlib

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf import files


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
    files.write_json(path, {"a": 1})

    def failing(*_):
        raise OSError(error, os.strerror(error))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            with pytest.raises(ost.InputError, match=os.strerror(error)) as raised:
                files.write_json(path, {"a": 2})
        assert "\n" not in str(raised.value) and "file.json" in str(raised.value)
        assert files.read_json(path) == {"a": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_arrays_survive_every_cut_and_no_flipped_bit_is_taken_for_a_number(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {"a/b": np.arange(12.0).reshape(3, 4), "names": np.array(["x", "yz"])}
    files.write_arrays(path, arrays)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ost.InputError, match=r"arrays\.npz can't be read"):
            files.read_arrays(path)
    refused = 0
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        try:
            found = files.read_arrays(path)
        except ost.InputError:
            refused += 1
            continue
        for name in found.keys() & arrays.keys():  # dates and the like changed, or a name
            np.testing.assert_array_equal(found[name], arrays[name])
    assert refused > len(whole) // 2


def test_forms():
    form = {"a": int, "b": [(float, None)], "c": {"d": str}}
    good = {"a": 1, "b": [1, 0.5, None], "c": {"d": "x", "more": 1}, "more": []}
    files.check_form("f", good, form)
    for bad, part in [
        ({**good, "a": True}, "a bool at /a"),
        ({**good, "a": 1.0}, "a float at /a"),
        ({**good, "b": ["1"]}, "a str at /b/0"),
        ({**good, "b": {}}, "a dict at /b"),
        ({**good, "c": {}}, "no /c/d"),
        ([], "a list at /"),
    ]:
        with pytest.raises(ost.InputError, match=part):
            files.check_form("f", bad, form)


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    make(tmp_path / "keep", "x")
    (tmp_path / "keep" / f".file.{os.getpid()}.writing").write_text("half")
    make(tmp_path / ".export.9.writing", "half")
    files.remove_leftovers(tmp_path)
    assert tree(tmp_path) == {"keep/sub/file": b"x"}
    assert not list(pathlib.Path(tmp_path).glob(".*"))
