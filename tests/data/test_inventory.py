"""Tests the counts of a data set before training, and how a run detects changed images."""

import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import edit_json
from conftest import load_folder as load
from conftest import put_images as put

import oneshot_tf as ost
from oneshot_tf.data import checksums, folders
from oneshot_tf.data.inventory import (
    Inventory,
    Part,
    count_up,
    find_doubles,
    format_short,
    format_table,
    standard_error,
    warnings,
)
from oneshot_tf.data.listing import PassedOver
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import DataSettings, LocationSettings

# ---------------------------------------------------------------------------- counts


def test_doubles_within_and_across_splits_and_classes():
    parts = {
        "train": Part(4, np.array([0, 0, 1, 1]), np.array([5, 5, 6, 7], np.uint64), "t{}".format),
        "test": Part(3, np.array([0, 1, 0]), np.array([8, 6, 7], np.uint64), "e{}".format),
    }
    found = find_doubles(parts)
    assert found.within == {"train": 1, "test": 0}
    assert found.across == {("train", "test"): 2}
    assert found.examples["train", "test"] == ("t2", "e1")
    assert found.contradicting == 2 and found.examples["classes"] == ("t3", "e2")


def test_doubles_in_a_folder_are_found_by_content(tmp_path):
    for part in ("train", "test"):
        put(tmp_path / part / "a", 6, 0 if part == "train" else 50)
        put(tmp_path / part / "b", 6, 100)
    shutil.copy(tmp_path / "train" / "a" / "003.png", tmp_path / "test" / "a" / "other.png")
    shutil.copy(tmp_path / "test" / "a" / "004.png", tmp_path / "test" / "b" / "wrong.png")
    for storage in ("memory", "files"):
        inventory = load(tmp_path, storage=storage).inventory()
        doubles = inventory.doubles
        assert doubles.within["test"] == 1 and doubles.contradicting == 2
        leaks = doubles.across["train", "test"] + doubles.across["validation", "test"]
        assert leaks == 1
        text = "\n".join(warnings(inventory))
        assert "a/003.png" in text and "other.png" in text and "Remove the wrong ones" in text
        assert "test/a/004.png" in text and "test/b/wrong.png" in text


def test_conversions_are_counted_where_images_are_decoded(tmp_path):
    for value, name in enumerate(("a", "b")):
        put(tmp_path / name, 4, 100 * value)
    grey = tf.io.encode_png(np.full((4, 4, 1), 7, np.uint8)).numpy()
    (tmp_path / "a" / "000.png").write_bytes(grey)
    (tmp_path / "b" / "001.png").write_bytes(grey + b" ")  # not a duplicate of 000.png
    counts = load(tmp_path).inventory().conversions  # of all splits
    assert sum(counts.values()) == 2 and len(counts) == 1
    found = load(tmp_path, storage="files").inventory()
    assert found.conversions is None and found.totals == {"train": 4, "validation": 2, "test": 2}


def inventory(num_classes=2, per_class=(6, 2, 2), **changes):
    counts = dict(zip(("train", "validation", "test"), per_class))
    values = {
        "name": "mine",
        "class_names": tuple(f"c{i}" for i in range(num_classes)),
        "image_size": 8,
        "totals": {split: count * num_classes for split, count in counts.items()},
        "per_class": {split: np.full(num_classes, count) for split, count in counts.items()},
    }
    return Inventory(**{**values, **changes})


def test_the_table_as_text():
    passed = PassedOver(nested=3, hidden=2)
    passed.add_file("x.TIF", "mine/a")
    passed.add_file("README", "mine")
    text = format_table(inventory(passed=passed, conversions={"palette": 2}, notes=("So.",)))
    assert text == "\n".join(
        [
            "mine: 2 classes; 12 train, 4 validation, 4 test images of 8x8.",
            "  class  train  validation  test",
            "  c0         6           2     2",
            "  c1         6           2     2",
            "  all 2     12           4     4",
            "So.",
            "Ignored files by suffix: .tif 1, no suffix 1.",
            "Ignored files by folder: mine/a 1, mine 1.",
            "Ignored hidden files and folders: 2.",
            "Images in folders inside class folders, which are used: 3.",
            "Converted: 2 palette.",
        ]
    )
    assert "Conversions are unknown" in format_table(inventory(passed=passed))


def test_of_many_classes_the_smallest_and_largest_are_shown():
    many = inventory(100)
    many.per_class["train"][[7, 50]] = 1, 90
    lines = format_table(many).splitlines()
    assert len(lines) == 1 + 1 + 6 + 1 + 1
    assert lines[2].split() == ["c7", "1", "2", "2"] and lines[8].split()[0] == "c50"
    assert "(94 more classes)" in lines[5] and lines[-1].split()[2] == str(98 * 6 + 91)
    assert format_short(many) in format_table(many)


@pytest.mark.parametrize("each, count", [(16, 32), (312, 624), (313, 626)])
def test_few_validation_images_are_warned_of(each, count):
    text = "\n".join(warnings(inventory(per_class=(600, each, 5)), ghost_batch_size=33))
    assert standard_error(count) == pytest.approx(math.sqrt(0.25 / count))
    assert ("fewer than a ghost batch of 33" in text) == (count < 33)
    assert (f"with {count:,} images" in text) == (standard_error(count) > 0.02)


def test_an_inventory_of_images_in_memory(digits):
    found = digits.inventory()
    assert found.totals == {"train": 1397, "validation": 100, "test": 300}
    assert found.per_class["test"].sum() == 300 and found.doubles.contradicting == 0
    unknown = count_up("x", ["a", "b"], 8, {"train": Part(9), "validation": Part(3)})
    assert "Images per class are not known" in format_table(unknown)


def test_the_splits_of_published_results_stay_as_they_were(digits):
    """Existing runs refuse other splits, and published results use these splits."""
    found = digits.fingerprint()
    assert found["train"] == [1397, 1723647372, 852816484]
    assert found["validation"] == [100, 4200689906, 697221343]


# ---------------------------------------------------------------------------- changed images


@pytest.fixture
def run(tmp_path, space):
    """Returns a function that begins a run directory with a folder of images."""
    for part in ("train", "test"):
        put(tmp_path / "images" / part / "a", 6, 0)
        put(tmp_path / "images" / part / "b", 6, 100)
    data = DataSettings(dataset=f"folder:{tmp_path / 'images'}", image_size=4)

    def begin(**changes):
        settings = DataSettings(**{**data.to_dict(), **changes})
        dataset = ost.load_data(**settings.to_dict())
        directory = RunDirectory(tmp_path / "run")
        directory.begin({"data": settings}, space, [], facts_of(dataset))
        return directory, tmp_path / "images"

    return begin


@pytest.mark.parametrize("storage", ["memory", "files"])
def test_changed_pixels_are_noticed_and_of_test_images_where_they_are_used(run, storage):
    directory, images = run(storage=storage)
    assert len(directory.load_data(LocationSettings(), test=True).train) == 10
    put(images / "test" / "a", 1, value=1)  # same name, and usually same size
    directory.load_data(LocationSettings())
    with pytest.raises(ost.InputError, match=r"The test images .* changed .*\(12 then, 12 now\)"):
        directory.load_data(LocationSettings(), test=True)
    put(images / "train" / "b", 6, value=101)
    with pytest.raises(ost.InputError, match="images .* have changed .* might be ranked on images"):
        directory.load_data(LocationSettings())


def test_test_images_are_decoded_to_be_counted_or_scored_only(run, monkeypatch):
    directory, images = run()
    seen = []
    read = folders._InMemory.read
    monkeypatch.setattr(folders._InMemory, "read", lambda s, *n: seen.append(n) or read(s, *n))
    dataset = directory.load_data(LocationSettings(), test=True)
    dataset.inventory(decode_test=False)
    assert seen == [("train", "validation")]
    dataset.inventory()
    dataset.load_test()
    assert seen[1:] == [("test",), ("test",)]


def test_a_run_of_an_earlier_version_opens_and_says_what_is_not_covered(run, capsys):
    directory, images = run()
    path = directory.path / "config.json"
    facts = json.loads(path.read_text())["facts"]
    del facts["fingerprint"]["test"]
    edit_json(path, facts=facts, version=1)
    directory.load_data(LocationSettings())
    assert capsys.readouterr().out == ""
    directory.load_data(LocationSettings(), test=True)
    assert "no checksum of the test images" in capsys.readouterr().out
    put(images / "train" / "b", 6, value=101)
    with pytest.raises(
        ost.InputError, match="split folder: and npz: data without regard to classes"
    ):
        directory.load_data(LocationSettings())


def test_images_that_moved(run, tmp_path):
    directory, images = run()
    images.rename(tmp_path / "elsewhere")
    with pytest.raises(ost.InputError, match="no longer exists.* give --data_dir"):
        directory.load_data(LocationSettings())
    moved = LocationSettings(data_dir=str(tmp_path / "elsewhere"))
    assert len(directory.load_data(moved, test=True).train) == 10


def test_record_checksums_are_those_of_the_contents(tmp_path):
    def write(*contents):
        with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
            for content in contents:
                writer.write(content)
        return checksums.of_records(tmp_path / "x.tfrecord")

    one, other = write(b"abc", b"", b"def"), write(b"abc", b"", b"deg")
    assert one[:, 0].tolist() == [3, 0, 3]
    np.testing.assert_array_equal(one[:2], other[:2])
    assert one[2, 1] != other[2, 1]
    whole = (tmp_path / "x.tfrecord").read_bytes()
    (tmp_path / "x.tfrecord").write_bytes(whole[:-2])
    assert len(checksums.of_records(tmp_path / "x.tfrecord")) == 2
