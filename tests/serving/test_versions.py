"""Every export is a version of its own; nothing half-written and no old layout confuses that."""

import multiprocessing
import shutil

import pytest

import oneshot_tf as ost
from oneshot_tf import export
from oneshot_tf.serving.folder import target_folder, versions_beside, write_folder
from oneshot_tf.system.versions import newest, numbers


def chosen(root, version=-1):
    with target_folder(root, version) as target:
        return target


def write(root, version=-1):
    def fill(beside):
        beside.mkdir()
        (beside / "architecture.json").write_text("{}")

    with target_folder(root, version) as target:
        return write_folder(target, fill)


def test_the_next_version_is_the_default(tmp_path):
    assert export.ExportSettings().version == -1
    root = tmp_path / "served"
    assert chosen(root) == root / "1" and chosen(root, 7) == root / "7"
    assert not root.exists()  # nothing is left of a choice alone
    for name in ("2", "10", "x12", "٣٤", "11.bak"):
        (root / name).mkdir(parents=True)
    assert chosen(root) == root / "11" and numbers(root) == {2: "2", 10: "10"}
    assert newest(root) == root / "10" and newest(tmp_path / "none") is None
    with pytest.raises(ost.InputError, match="--version must be at least -1; got -2"):
        export.ExportSettings(version=-2)


def test_versions_stay_and_are_told(tmp_path):
    assert [write(tmp_path / "e").name for _ in range(3)] == ["1", "2", "3"]
    said = versions_beside(tmp_path / "e" / "3")
    assert "holds versions 1, 2, 3, 0.0 MB in all. TensorFlow Serving and predict take 3." in said
    shutil.rmtree(tmp_path / "e" / "2")
    assert write(tmp_path / "e").name == "4"  # a number is not used twice while larger ones exist
    for _ in range(8):
        write(tmp_path / "e")
    assert "holds versions 1 to 12, " in versions_beside(tmp_path / "e" / "12")
    assert (
        sorted(path.name for path in (tmp_path / "e").iterdir() if path.name.startswith(".")) == []
    )


def test_a_killed_export_leaves_no_half_version(tmp_path):
    root = tmp_path / "e"
    write(root)
    for left in (".2.77.writing", ".9.78.writing", ".1.old.writing"):
        (root / left).mkdir()
        (root / left / "saved_model.pb").write_text("half")
    (root / ".export.lock").write_text("")
    (root / ".mine").write_text("kept")
    assert newest(root) == root / "1"  # as TensorFlow Serving sees it, too
    assert write(root) == root / "2"
    assert {path.name for path in root.iterdir()} == {"1", "2", ".mine"}


def test_a_failed_export_leaves_the_versions_as_they_were(tmp_path):
    write(tmp_path / "e")

    def fail(beside):
        beside.mkdir()
        raise ost.InputError("no")

    with pytest.raises(ost.InputError, match="^no$"), target_folder(tmp_path / "e", -1) as target:
        write_folder(target, fail)
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["1"]


def hold(root, started, end):
    with target_folder(root, -1):
        started.set()
        end.wait(60)


def test_two_exports_do_not_choose_the_same_version(tmp_path):
    context = multiprocessing.get_context("fork")
    started, end = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "e", started, end))
    other.start()
    try:
        assert started.wait(60)
        with pytest.raises(ost.InputError, match="is in use by process"):
            chosen(tmp_path / "e")
    finally:
        end.set()
        other.join()
    assert chosen(tmp_path / "e").name == "1"


def test_both_layouts_never_mix(tmp_path):
    flat = tmp_path / "flat"
    assert write(flat, 0) == flat and write(flat, 0) == flat
    with pytest.raises(ost.InputError, match="is an export itself, .*Give --version=0 to replace"):
        chosen(flat)
    write(tmp_path / "e")
    with pytest.raises(ost.InputError, match="holds numbered versions .1., so --version=0 cannot"):
        chosen(tmp_path / "e", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ost.InputError, match="is a file"):
        chosen(tmp_path / "file")
    (tmp_path / "e" / "1" / "mine").write_text("")
    with pytest.raises(ost.InputError, match="holds 'mine', which no export writes"):
        chosen(tmp_path / "e", 1)
