"""Tests data sets: fixed splits, batches determined by (step, seed), real files, clear errors."""

import json
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import oneshot_tf as ost
from oneshot_tf.data import dataset as data
from oneshot_tf.data.augmentation import AUGMENTATIONS, augment
from oneshot_tf.data.inventory import warnings


def test_digits_are_scikit_learns_and_the_splits_are_apart(digits):
    splits = [digits.train, digits.validation, digits.load_test()]
    assert [len(s) for s in splits] == [1397, 100, 300]
    images = np.concatenate([s.images for s in splits])
    source = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    key = lambda x: sorted(i.tobytes() for i in x)  # noqa: E731
    assert key(images[..., 0]) == key(source)
    again = ost.load_data("digits", num_validation=100)
    np.testing.assert_array_equal(again.validation.images, digits.validation.images)


def test_normalized_training_images_have_mean_0_and_deviation_1(digits):
    x = digits.normalize(digits.train.images).numpy()
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-3)


def test_an_epoch_holds_every_image_once():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    split = data.Split(images, np.arange(10, dtype=np.int32))
    batches = [split.batch(step, 4, seed=1)[1] for step in range(10)]  # 4 epochs; 4 ∤ 10
    for epoch in np.concatenate(batches).reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    first, second = np.concatenate(batches)[:10], np.concatenate(batches)[10:20]
    assert (first != second).any()
    assert (split.batch(0, 10, seed=1)[1] != split.batch(0, 10, seed=2)[1]).any()
    np.testing.assert_array_equal(split.batch(7, 4, 1)[0][:, 0, 0, 0], split.batch(7, 4, 1)[1])


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_shifts_and_mirrors(flip):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 255, (200, 16, 16, 3), dtype=np.uint8)
    out = augment(images, 0, 200, flip=flip, seed=0, step=3).numpy()
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    seen = set()
    for i in range(200):
        found = [
            (dy, dx, mirror)
            for dy in range(5)
            for dx in range(5)
            for mirror in (False, True)
            if (_window(padded[i], dy, dx, mirror) == out[i]).all()
        ]
        assert len(found) == 1, i
        seen.add(found[0])
    assert {s[2] for s in seen} == ({False, True} if flip else {False})
    assert {s[0] for s in seen} == {s[1] for s in seen} == set(range(5))


def _window(padded, dy, dx, mirror):
    """Returns the 16x16 window at (dy, dx) of a padded image, optionally mirrored."""
    window = padded[dy : dy + 16]
    if not mirror:
        return window[:, dx : dx + 16]
    columns = dx + np.arange(15, -1, -1)
    return window[:, columns]


def test_noisy_digits_are_the_same_at_every_call_and_made_of_other_digits_for_the_test():
    data, again = (ost.load_data("noisy_digits", num_validation=600) for _ in range(2))
    test = data.load_test()
    assert (len(data.train), len(data.validation), len(test), data.image_size) == (
        2_991, 600, 600, 12,
    )  # fmt: skip
    assert data.fingerprint() == again.fingerprint()
    labels, order = load_digits().target, np.random.default_rng(1).permutation(1_797)
    np.testing.assert_array_equal(test.labels, labels[order[:600]])
    found = np.bincount(data.train.labels) + np.bincount(data.validation.labels)
    np.testing.assert_array_equal(found, 3 * np.bincount(labels[order[600:]]))


def test_half_of_the_images_are_mirrored():
    images = np.random.default_rng(0).integers(0, 256, (400, 5, 6, 3), dtype=np.uint8)
    out = AUGMENTATIONS["flip"](images, 0, 400, seed=0, step=3).numpy()
    mirrored = (out == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((out == images).all(axis=(1, 2, 3)) != mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_augmentation_does_not_depend_on_how_the_batch_is_spread():
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    draw = lambda part, first: augment(part, first, 8, flip=True, seed=1, step=2)  # noqa: E731
    whole = draw(images, 0)
    np.testing.assert_array_equal(whole[:4], draw(images[:4], 0))
    np.testing.assert_array_equal(whole[4:], draw(images[4:], 4))


# ---------------------------------------------------------------------------- folders


def write_image(path, value, size=(10, 12), channels=3):
    image = np.full((*size, channels), value, np.uint8)
    path.write_bytes(tf.io.encode_png(image).numpy())


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(30):
            write_image(tmp_path / name / f"{i}.png", 100 * label + i, channels=1 + 2 * (i % 2))
    return tmp_path


def test_a_folder_of_classes(folder):
    d = ost.load_data(f"folder:{folder}", image_size=8, num_validation=10)
    test = d.load_test()
    assert d.class_names == ("cat", "dog")
    assert [len(d.train), len(d.validation), len(test)] == [40, 10, 10]
    for split in (d.train, d.validation, test):
        assert split.images.shape[1:] == (8, 8, 3)
        np.testing.assert_array_equal(split.labels, split.images[:, 0, 0, 0] >= 100)
    values = np.concatenate([s.images[:, 0, 0, 0] for s in (d.train, d.validation, test)])
    assert sorted(values) == [*range(30), *range(100, 130)]


def test_a_folder_with_train_and_test(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("both")
    (root / "train").symlink_to(folder)
    (root / "test").symlink_to(folder)
    d = ost.load_data(f"folder:{root}", image_size=8)
    assert len(d.train) + len(d.validation) == 60 and len(d.load_test()) == 60


def test_a_corrupt_image_is_named(folder):
    (folder / "dog" / "3.png").write_bytes(b"\x89PNG not one")
    with pytest.raises(ost.InputError, match=r"1 of \d+ images .*dog/3.png"):
        ost.load_data(f"folder:{folder}").inventory()  # the file may be in any split


def test_bad_images_are_left_out_when_asked(folder, capsys):
    for number, content in enumerate((b"", b"GIF89a", b"\xff\xd8\xff\xe0 cut off", b"text")):
        (folder / "dog" / f"{number}.png").write_bytes(content)
    with pytest.raises(ost.InputError, match=r"--skip_bad_images"):
        ost.load_data(f"folder:{folder}", image_size=8)
    capsys.readouterr()
    d = ost.load_data(f"folder:{folder}", image_size=8, skip_bad_images=True)
    assert len(d.train) + len(d.validation) + len(d.load_test()) == 60 - 4
    printed = capsys.readouterr().out
    assert "left out" in printed and "dog/" in printed


def test_a_class_without_a_usable_image_is_named(folder):
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ost.InputError, match="class dog has none"):
        ost.load_data(f"folder:{folder}", skip_bad_images=True)


def test_images_of_any_shape_and_number_of_channels(folder):
    rng = np.random.default_rng(0)
    for i, (size, channels) in enumerate([((1, 1), 3), ((1, 40), 1), ((7, 5), 4), ((9, 9), 2)]):
        image = rng.integers(0, 256, (*size, channels), np.uint8)
        (folder / "cat" / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    deep = rng.integers(0, 2**16, (6, 6, 3), np.uint16)
    (folder / "cat" / "deep.png").write_bytes(tf.io.encode_png(deep).numpy())
    gray = rng.integers(0, 256, (6, 6, 1), np.uint8)
    (folder / "cat" / "gray.jpg").write_bytes(tf.io.encode_jpeg(gray).numpy())
    d = ost.load_data(f"folder:{folder}", image_size=8)
    assert len(d.train) + len(d.validation) + len(d.load_test()) == 62
    assert d.train.images.shape[1:] == (8, 8, 3)


def test_labels_out_of_range_are_named():
    images = np.zeros((20, 4, 4, 3), np.uint8)
    with pytest.raises(ost.InputError, match=r"2 label\(s\) out of range; the first is 7"):
        ost.make_dataset(
            "mine", ost.Split(images, np.array([0, 1] * 9 + [7, -1], np.int32)), None, ["a", "b"]
        )


def test_an_empty_class_folder_is_named(folder):
    (folder / "fish").mkdir()
    with pytest.raises(ost.InputError, match="fish has no images"):
        ost.load_data(f"folder:{folder}")


@pytest.mark.parametrize("make", [lambda p: p / "nothing", lambda p: p / "cat"])
def test_not_a_folder_of_classes(folder, make):
    with pytest.raises(ost.InputError, match="no folder|must have a folder of images"):
        ost.load_data(f"folder:{make(folder)}")


def test_more_validation_images_than_there_are():
    with pytest.raises(ost.InputError, match="--num_validation must be less .*; got 2000"):
        ost.load_data("digits", num_validation=2000)


def arrays(**changes):
    rng = np.random.default_rng(0)
    return {"train_images": rng.integers(0, 256, (40, 8, 8, 3), np.uint8),
            "train_labels": np.arange(40) % 3, "test_labels": np.arange(10) % 3,
            "test_images": rng.integers(0, 256, (10, 8, 8, 3), np.uint8), **changes}  # fmt: skip


def test_arrays_in_a_file(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    d = ost.load_data(f"npz:{tmp_path / 'a.npz'}", num_validation=5)
    assert [len(d.train), len(d.validation), len(d.load_test())] == [35, 5, 10]
    assert d.class_names == ("0", "1", "2") and d.image_size == 8
    np.savez(tmp_path / "b.npz", **arrays(class_names=["cat", "dog", "eel"]))
    d = ost.load_data(f"npz:{tmp_path / 'b.npz'}", image_size=6)
    assert d.class_names == ("cat", "dog", "eel") and d.load_test().images.shape == (10, 6, 6, 3)


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"train_images": np.zeros((40, 8, 8, 3))}, "float64"),
        ({"train_labels": np.zeros(39, int)}, r"\[39\]"),
        ({"test_images": np.zeros((10, 8, 9, 3), np.uint8)}, "8x9 pixels. Set --image_size"),
        ({"train_labels": np.arange(40) - 1}, "out of range"),
        ({"class_names": ["one"]}, "at least two classes; got 1"),
        ({"class_names": np.zeros(3)}, "must be a list of strings"),
        ({"train_images": np.array([{}])}, "cannot be read"),
        ({"test_labels": np.arange(10) % 5}, r"test_labels has 4 label\(s\) out of range.* 3"),
        ({"train_labels": np.arange(40) % 3 * 2}, "at least 2 images, .*; 1 has 0, 3 has 0"),
        ({"train_images": np.zeros((40, 8, 8, 2), np.uint8)}, "1 for grey"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, changes, part):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(ost.InputError, match=part):
        ost.load_data(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
def test_grey_arrays(tmp_path, shape):
    grey = np.random.default_rng(1).integers(0, 256, (40, *shape), np.uint8)
    np.savez(tmp_path / "a.npz", **arrays(train_images=grey, test_images=grey[:10]))
    test = ost.load_data(f"npz:{tmp_path / 'a.npz'}").load_test().images
    for channel in range(3):
        np.testing.assert_array_equal(test[..., channel], grey[:10].reshape(10, 8, 8))


def test_arrays_with_opacity_are_put_on_white(tmp_path):
    pixels = np.zeros((40, 8, 8, 4), np.uint8)
    pixels[:, :4, :, :3], pixels[:, 4:, :, 3] = 9, 255  # invisible above, black below
    np.savez(tmp_path / "a.npz", **arrays(train_images=pixels))
    images = ost.load_data(f"npz:{tmp_path / 'a.npz'}").train.images
    assert (images[:, :4] == 255).all() and (images[:, 4:] == 0).all()


def test_arrays_are_split_by_class(tmp_path):
    labels = np.repeat([0, 1, 2], [31, 7, 2])
    np.savez(tmp_path / "a.npz", **arrays(train_labels=labels, test_labels=np.zeros(10, int)))
    d = ost.load_data(f"npz:{tmp_path / 'a.npz'}")
    assert np.bincount(d.validation.labels).tolist() == [3, 1, 1]
    assert np.bincount(d.train.labels).tolist() == [28, 6, 1]
    assert any("test images have none of 2 class" in line for line in warnings(d.inventory()))


# ---------------------------------------------------------------------------- tensorflow-datasets


@pytest.mark.filterwarnings("default")
def test_a_prepared_set_is_read_without_a_network(prepared):
    d = ost.load_data("cifar10", str(prepared), num_validation=20, download=False)
    assert [len(d.train), len(d.validation), len(d.load_test())] == [80, 20, 20]
    assert d.image_size == 32 and d.num_classes == 10
    np.testing.assert_array_equal(d.train.labels * 20, d.train.images[:, 5, 5, 1])
    small = ost.load_data("cifar10", str(prepared), 16, 20, download=False)
    np.testing.assert_array_equal(small.train.labels, d.train.labels)
    assert small.image_size == 16


def damaged(prepared, tmp_path, split, change):
    """Copies the prepared data set and changes one file. Returns the path of the copy."""
    root = tmp_path / "data"
    shutil.copytree(prepared, root)
    (file,) = root.rglob(f"cifar10-{split}.tfrecord*")
    file.write_bytes(change(file.read_bytes()))
    return str(root)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_truncated_file_is_found_before_training(prepared, tmp_path, split, capsys):
    data = damaged(prepared, tmp_path, split, lambda content: content[: len(content) // 2])
    with pytest.raises(ost.InputError, match=f"{split} split must have .* bytes"):
        ost.load_data("cifar10", data, num_validation=10, download=False)
    d = ost.load_data("cifar10", data, num_validation=10, download=False, skip_bad_images=True)
    left = {"train": len(d.train) + len(d.validation), "test": len(d.load_test())}
    whole = {"train": 100, "test": 20}
    assert 0.4 * whole[split] <= left[split] < 0.6 * whole[split]
    assert "left out" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("storage", ["memory", "files"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_changed_records_are_noticed_without_reading_test_images(
    prepared, tmp_path, split, storage
):
    def fingerprint(place):
        return ost.load_data(
            "cifar10", place, num_validation=20, download=False, storage=storage
        ).fingerprint()

    def exchange(content):  # moves the first record to the end
        records = list(tf.data.TFRecordDataset(str(source)).as_numpy_iterator())
        swapped = [*records[1:], records[0]]
        with tf.io.TFRecordWriter(str(tmp_path / "new")) as writer:
            for record in swapped:
                writer.write(record)
        return (tmp_path / "new").read_bytes()

    (source,) = prepared.rglob(f"cifar10-{split}.tfrecord*")
    before = fingerprint(str(prepared))
    assert before == fingerprint(str(prepared))
    after = fingerprint(damaged(prepared, tmp_path, split, exchange))
    assert (before["test"] != after["test"]) == (split == "test")
    assert (before["train"] != after["train"]) == (split == "train")


@pytest.mark.parametrize("name", ["folder:", "folder", "npz:", "npz"])
def test_own_data_must_have_a_path(name):
    """An empty path must not mean the current folder."""
    with pytest.raises(ost.InputError, match=f"--dataset={name} must name a path"):
        ost.load_data(name)


# Ways to name a class, "payload.X", in features.json.
SPELLINGS = [
    '{"pythonClassName": "payload.X", "tensor": {}}',
    '{"python_class_name": "payload.X"}',
    r'{"pythonClassNam\u0065": "payload.X"}',
    r'{"pythonClassName": "payload\u002eX"}',
    '{"type": "payload.X", "content": {}}',
    r'{"t\u0079pe": "payload.X", "content": {}}',
    r'{"type": "p\u0061yload\u002eX", "content": {}}',
    '{"type": "x.y", "type": "payload.X", "content": {}}',
    '\n\n{ "content" : {} , "type" :\n "payload.X" }',
    '{"featuresDict": {"features": {"image": {"pythonClassName": "payload.X", "image": {}}}}, '
    '"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}',
    '{"type": "tensorflow_datasets.core.features.features_dict.FeaturesDict", '
    '"content": {"image": {"type": "payload.X", "content": {}}}}',
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("text", SPELLINGS)
@pytest.mark.parametrize("name, folder", [("evil", "evil"), ("Evil", "evil"), ("cifar10",) * 2])
def test_a_prepared_set_runs_no_code(tmp_path, monkeypatch, text, name, folder):
    """No code runs, even if the name of the folder contains characters of a glob pattern."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "payload.py").write_text("open('ran', 'w').close()\nclass X: pass")
    place = tmp_path / "data[1]" / folder / "3.0.2"
    place.mkdir(parents=True)
    info = {"name": folder, "version": "3.0.2", "fileFormat": "tfrecord", "splits": []}
    (place / "dataset_info.json").write_text(json.dumps(info | {"moduleName": "payload"}))
    (place / "features.json").write_text(text)
    with pytest.raises(ost.InputError):
        ost.load_data(name, str(tmp_path / "data[1]"), download=False)
    assert not (tmp_path / "ran").exists() and "payload" not in sys.modules


@pytest.mark.filterwarnings("default")
def test_a_prepared_set_that_names_other_classes_is_refused(prepared, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(prepared, root)
    (file,) = root.rglob("features.json")
    file.write_text(file.read_text().replace("tensorflow_datasets.core.features.image", "mine"))
    with pytest.raises(ost.InputError, match="the class 'mine_feature.Image' instead of"):
        ost.load_data("cifar10:3.*.*", str(root), num_validation=10, download=False)


@pytest.mark.filterwarnings("default")
def test_an_image_that_cannot_be_decoded_in_a_prepared_set(prepared, tmp_path, capsys):
    with tf.device("/cpu:0"):
        (source,) = prepared.rglob("cifar10-train.tfrecord*")
        records = list(tf.data.TFRecordDataset(str(source)).as_numpy_iterator())
    example = tf.train.Example.FromString(records[3])
    example.features.feature["image"].bytes_list.value[0] = b"not a PNG" * 300
    records[3] = example.SerializeToString()
    example = tf.train.Example.FromString(records[5])
    example.features.feature["label"].int64_list.value[0] = 17
    records[5] = example.SerializeToString()
    data = damaged(prepared, tmp_path, "train", lambda _: b"")
    (file,) = (tmp_path / "data").rglob("cifar10-train.tfrecord*")
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    with pytest.raises(ost.InputError, match=r"2 of 100 .*example 3 .*example 5 \(label 17\)"):
        ost.load_data("cifar10", data, num_validation=10, download=False)
    d = ost.load_data("cifar10", data, num_validation=10, download=False, skip_bad_images=True)
    assert len(d.train) == 88
    np.testing.assert_array_equal(d.train.labels * 20, d.train.images[:, 5, 5, 1])


@pytest.mark.filterwarnings("default")
def test_a_missing_set_is_named_at_once(tmp_path):
    with pytest.raises(ost.InputError, match="cifar100 is not prepared"):
        ost.load_data("cifar100", str(tmp_path), download=False)


@pytest.mark.filterwarnings("default")
def test_files_to_be_fetched_by_hand_are_named(tmp_path):
    with pytest.raises(ost.InputError, match=r"downloads/manual .*ILSVRC2012_img_train.tar"):
        ost.load_data("imagenet2012", str(tmp_path), storage="files")


def test_an_unreachable_host_is_named_at_once(tmp_path):
    import requests

    with (
        mock.patch.object(requests, "head", side_effect=requests.ConnectionError("no route")),
        pytest.raises(ost.InputError, match="host cannot be reached"),
    ):
        ost.load_data("cifar10", str(tmp_path))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["no_such_set", "glue", "../etc", ""])
def test_an_unknown_set_is_named(tmp_path, name):
    with pytest.raises(ost.InputError, match=f"--dataset={name}"):
        ost.load_data(name, str(tmp_path), download=False)
