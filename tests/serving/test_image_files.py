"""Folders are searched in order, with little memory, and what is left out is counted."""

import os
import pathlib
import subprocess

import numpy as np
import pytest

from oneshot_tf.serving.image_files import ImageFiles

NAMES = ["b.png", "a/z.JPG", "a/b/c.jpeg", "a.png", "c/1.webp", "c/10.tif", "c/2.gif", "-x.bmp"]


@pytest.fixture
def root(tmp_path):
    for name in (*NAMES, "a/notes.txt", "Makefile", ".hidden.png", ".git/x.png", "c/Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_folder_is_searched_in_the_order_of_the_names(root, capsys):
    files = ImageFiles([str(root)])
    right = sorted(root / name for name in NAMES)
    assert list(map(pathlib.Path, files)) == right == list(map(pathlib.Path, files))  # twice
    assert (files.count, files.problems) == (len(NAMES), 0)
    out, said = capsys.readouterr()
    assert out == "" and said == (
        f"{root}: 8 images; 2 other files and 3 hidden ones are left out.\n"
    )


def test_files_and_folders_in_the_order_that_is_given(root, capsys):
    (root / "empty").mkdir()
    given = [str(root / name) for name in ("b.png", "c", "a/notes.txt", "none", "empty", "b.png")]
    files = ImageFiles(given)
    found = [os.path.relpath(path, root) for path in files]
    assert found == ["b.png", "c/1.webp", "c/10.tif", "c/2.gif", "a/notes.txt", "b.png"]
    assert (files.count, files.problems) == (6, 2)
    said = capsys.readouterr().err
    assert "none does not exist." in said and "empty has no images; 0 other files" in said


def test_links_are_followed_and_loops_end(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "far.png").write_text("")
    (root / "a" / "loop").symlink_to(root)
    (root / "d").symlink_to(outside)
    (root / "e.png").symlink_to(root / "gone")  # reading it gives a message
    found = [os.path.relpath(path, root) for path in ImageFiles([str(root)])]
    assert found == sorted([*NAMES, "d/far.png", "e.png"], key=lambda name: name.split("/"))


def test_deep_folders_and_other_kinds_of_files(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1200):  # deeper than Python's recursion
            os.mkdir("x")
            os.chdir("x")
        pathlib.Path("a.png").write_text("")
        os.mkfifo("pipe.png")
        os.chdir(here)
        files = ImageFiles([str(tmp_path)])
        (path,) = files
        assert files.count == 1 and path.count("/x") >= 1200
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", str(tmp_path / "x")], check=True)  # rmtree is recursive


def test_a_name_of_any_bytes(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe\n.png"
    with open(name, "wb"):
        pass
    (path,) = ImageFiles([str(tmp_path)])
    assert os.fsencode(path) == name


def test_a_folder_that_cannot_be_read(root, capsys, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "c":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files = ImageFiles([str(root)])
    assert (files.count, files.problems) == (5, 1)
    assert f"{root / 'c'} cannot be read: Permission denied" in capsys.readouterr().err


def test_memory_holds_the_names_of_one_folder_at_a_time(tmp_path):
    import tracemalloc

    for i in range(40):
        (tmp_path / f"{i:02d}").mkdir()
        for j in range(100):
            os.symlink("x", tmp_path / f"{i:02d}" / f"{j:03d}{'n' * 200}.png")
    files = ImageFiles([str(tmp_path)])
    tracemalloc.start()
    assert sum(1 for _ in files) == files.count == 4000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000 < np.sum([200] * 4000)  # all names take at least 800,000 bytes
