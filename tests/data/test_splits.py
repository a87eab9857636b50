"""Tests splits of user data: every class in every split, and common folder layouts."""

import os
import shutil

import numpy as np
import pytest
from conftest import load_folder as load
from conftest import put_images as put

import oneshot_tf as ost
from oneshot_tf.data import checksums, folders, splits
from oneshot_tf.data.inventory import format_table, warnings
from oneshot_tf.data.listing import PassedOver, list_classes


def per_class(dataset):
    found = (dataset.train, dataset.validation, dataset.load_test())
    return [np.bincount(s.labels, minlength=dataset.num_classes).tolist() for s in found]


# ---------------------------------------------------------------------------- shares


def test_shares_are_those_of_the_largest_remainder():
    # 10 of 50, 30, 20 divide exactly. The quotas of 7 are 3.5, 2.1 and 1.4, so the first class
    # has the largest remainder.
    assert splits.shares(np.array([50, 30, 20]), 10).tolist() == [5, 3, 2]
    assert splits.shares(np.array([50, 30, 20]), 7).tolist() == [4, 2, 1]
    # A class with a quota below one gives one image, and the others share the rest.
    assert splits.shares(np.array([97, 97, 2]), 11).tolist() == [5, 5, 1]
    rng = np.random.default_rng(0)
    for _ in range(50):
        available = rng.integers(2, 40, 6)
        total = int(rng.integers(6, available.sum() - 6 + 1))
        given = splits.shares(available, total)
        assert given.sum() == total and (given >= 1).all() and (given < available).all()


def test_images_are_held_out_by_class_and_not_in_order():
    labels = np.repeat([0, 1, 2], [40, 30, 3])
    held = splits.hold_out(labels, np.array([10, 5, 1]), seed=0)
    assert np.bincount(labels[held]).tolist() == [10, 5, 1]
    assert not held[:10].all()  # the images are drawn at random, not taken from the front
    np.testing.assert_array_equal(held, splits.hold_out(labels, np.array([10, 5, 1]), seed=0))
    assert (held != splits.hold_out(labels, np.array([10, 5, 1]), seed=1)).any()


@pytest.mark.parametrize("storage", ["memory", "files"])
def test_each_class_is_in_each_split_of_a_folder(tmp_path, storage):
    put(tmp_path / "cat", 30)
    put(tmp_path / "dog", 12, 100)
    put(tmp_path / "rare bird", 3, 200)
    d = load(tmp_path, storage=storage)
    assert per_class(d) == [[23, 9, 1], [2, 1, 1], [5, 2, 1]]
    assert per_class(load(tmp_path, storage=storage, num_validation=6))[1] == [4, 1, 1]
    whole = [split.in_memory() for split in (d.train, d.validation, d.load_test())]
    for split in whole:
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], 100 * split.labels)
    images = np.concatenate([split.images for split in whole])
    assert len(np.unique(checksums.of_images(images))) == 45  # each image appears once
    # The classes must be mixed, because consecutive images share batch statistics.
    assert (np.diff(d.train.labels) != 0).sum() > 5


@pytest.mark.parametrize(
    "counts, options, part",
    [
        ((9, 2), {}, r"at least 3 images, .*; b has 2. Add images"),
        ((9, 1), {}, "b has 1"),
        ((9, 9), {"num_validation": 1}, "must be 2 to 14"),
        ((9, 9), {"num_validation": 15}, "got 15"),
    ],
)
def test_a_class_that_is_too_small_is_named(tmp_path, counts, options, part):
    put(tmp_path / "a", counts[0])
    put(tmp_path / "b", counts[1])
    with pytest.raises(ost.InputError, match=part):
        load(tmp_path, **options)


# ---------------------------------------------------------------------------- folders


def test_train_val_and_test_are_understood(tmp_path):
    for part, count in (("Train", 12), ("VALID", 5), ("test", 3)):
        put(tmp_path / part / "a", count)
        put(tmp_path / part / "b", count, 100)
    d = load(tmp_path)
    assert per_class(d) == [[12, 12], [5, 5], [3, 3]] and d.inventory().notes == ()
    with pytest.raises(ost.InputError, match="--num_validation .* got 4, and 10 validation images"):
        load(tmp_path, num_validation=4)
    shutil.rmtree(tmp_path / "test")
    d = load(tmp_path)
    assert per_class(d) == [[10, 10], [5, 5], [2, 2]]
    assert "a sixth of each class as test images" in format_table(d.inventory())
    shutil.rmtree(tmp_path / "VALID")
    assert per_class(load(tmp_path)) == [[9, 9], [1, 1], [2, 2]]


def test_splits_must_have_the_same_classes(tmp_path):
    for part, names in (("train", "abc"), ("test", "ab")):
        for name in names:
            put(tmp_path / part / name, 3)
    with pytest.raises(ost.InputError, match=r"/test has no folder for the class c"):
        load(tmp_path)
    put(tmp_path / "test" / "d", 3)
    put(tmp_path / "test" / "c", 3)
    with pytest.raises(ost.InputError, match=r"/train has no folder for the class d"):
        load(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for value, name in enumerate(("car", "test", "train")):
        put(tmp_path / name, 6, 100 * value)
    d = load(tmp_path)
    assert d.class_names == ("car", "test", "train") and per_class(d)[0] == [4, 4, 4]


@pytest.mark.parametrize(
    "places, part",
    [
        (["test/a", "test/b"], "folder.s. test, but no folder train"),
        (["train", "test"], "/train must have one folder of images per class"),
        (
            ["train/a", "train/b", "val/a", "validation/b"],
            "at most one folder of validation",
        ),
        (["train/a", "train/b", "cat"], "the folder cat with 3 image"),
        (["train/a", "train/b", "test"], "/test must have a folder of images .* 3 image"),
        (["train/a"], "only the class folder a"),
    ],
)
def test_folders_that_mean_more_than_one_thing_or_nothing(tmp_path, places, part):
    for place in places:
        put(tmp_path / place, 3)
    with pytest.raises(ost.InputError, match=part):
        load(tmp_path)


def test_what_is_passed_over_and_what_is_read_deeper(tmp_path):
    put(tmp_path / "a", 6)
    put(tmp_path / "a" / "2019" / "may", 4, first=50)
    put(tmp_path / "b", 6, 100)
    for name in ("a/._000.png", "a/.DS_Store", "a/Thumbs.db", "b/notes.txt", "b/x.raw", "y.raw"):
        (tmp_path / name).write_bytes(b"")
    for name in ("__MACOSX", "@eaDir", "b/.ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "2019" / "again").symlink_to("../2019")
    listing = list_classes(tmp_path, passed := PassedOver())
    assert listing.class_names == ("a", "b") and np.bincount(listing.labels).tolist() == [10, 6]
    assert (passed.nested, passed.hidden, passed.loops) == (4, 6, 2)
    assert passed.suffixes == {".raw": 2, ".txt": 1}
    assert passed.folders == {"b": 2, tmp_path.name: 1}


def test_names_that_are_no_text_and_names_that_look_alike(tmp_path):
    put(tmp_path / "b", 3)
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    put(odd, 3)
    with pytest.raises(ost.InputError, match=r"must be UTF-8; .*caf\\xe9 is not. Rename"):
        load(tmp_path)
    shutil.rmtree(odd)
    put(tmp_path / "caf\u00e9", 3)
    put(tmp_path / "cafe\u0301", 3, first=9)
    assert any("look the same" in line for line in warnings(load(tmp_path).inventory()))


def test_many_files_are_planned_without_reading_any(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(500):
            (tmp_path / name / f"{i}.png").touch()
    plan = folders._plan(tmp_path, 0)  # decoding would fail, because the files are empty
    assert {s: len(p) for s, p in plan.places.items()} == {
        "train": 752, "validation": 82, "test": 166,
    }  # fmt: skip
