"""Data: fixed splits, batches that follow from (step, seed), real files, clear errors."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import oneshot_tf as ost
from oneshot_tf import data


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
    out = data.augment(images, 0, 200, flip=flip, seed=0, step=3).numpy()
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
    """The 16x16 window at (dy, dx) of the padded image; mirrored, the same window of the mirror."""
    window = padded[dy : dy + 16]
    if not mirror:
        return window[:, dx : dx + 16]
    columns = dx + np.arange(15, -1, -1)
    return window[:, columns]


def test_augmentation_does_not_depend_on_how_the_batch_is_spread():
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    draw = lambda part, first: data.augment(part, first, 8, flip=True, seed=1, step=2)  # noqa: E731
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
        ost.load_data(f"folder:{folder}")  # whichever split it is in


def test_an_empty_class_folder_is_named(folder):
    (folder / "fish").mkdir()
    with pytest.raises(ost.InputError, match="fish holds no image"):
        ost.load_data(f"folder:{folder}")


@pytest.mark.parametrize("make", [lambda p: p / "nothing", lambda p: p / "cat"])
def test_not_a_folder_of_classes(folder, make):
    with pytest.raises(ost.InputError, match="no folder|sub-folder"):
        ost.load_data(f"folder:{make(folder)}")


def test_more_validation_images_than_there_are():
    with pytest.raises(ost.InputError, match="--num_validation=2000"):
        ost.load_data("digits", num_validation=2000)


# ---------------------------------------------------------------------------- tensorflow-datasets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """CIFAR-10 as tensorflow-datasets prepares it, of 120 made images."""
    import tensorflow_datasets as tfds
    from etils import epath

    root = tmp_path_factory.mktemp("tfds")
    fake = root / "archive" / "cifar-10-batches-bin"
    fake.mkdir(parents=True)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    rng = np.random.default_rng(0)
    for name in names:
        labels = rng.integers(0, 10, (20, 1), dtype=np.uint8)
        pixels = np.repeat(labels * 20, 3072, axis=1).astype(np.uint8)
        (fake / name).write_bytes(np.concatenate([labels, pixels], axis=1).tobytes())
    (fake / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n")
    manager = tfds.download.DownloadManager
    with mock.patch.object(
        manager, "download_and_extract", lambda self, url: epath.Path(root / "archive")
    ):
        tfds.builder("cifar10", data_dir=root / "data").download_and_prepare()
    return root / "data"


@pytest.mark.filterwarnings("default")
def test_a_prepared_set_is_read_without_a_network(prepared):
    d = ost.load_data("cifar10", str(prepared), num_validation=20, download=False)
    assert [len(d.train), len(d.validation), len(d.load_test())] == [80, 20, 20]
    assert d.image_size == 32 and d.num_classes == 10
    np.testing.assert_array_equal(d.train.labels * 20, d.train.images[:, 5, 5, 1])
    small = ost.load_data("cifar10", str(prepared), 16, 20, download=False)
    np.testing.assert_array_equal(small.train.labels, d.train.labels)
    assert small.image_size == 16


@pytest.mark.filterwarnings("default")
def test_a_missing_set_is_named_at_once(tmp_path):
    with pytest.raises(ost.InputError, match="cifar100 is not prepared"):
        ost.load_data("cifar100", str(tmp_path), download=False)


@pytest.mark.filterwarnings("default")
def test_an_unreachable_host_is_named_at_once(tmp_path):
    import requests

    with (
        mock.patch.object(requests, "head", side_effect=requests.ConnectionError("no route")),
        pytest.raises(ost.InputError, match="host can't be reached"),
    ):
        ost.load_data("cifar10", str(tmp_path))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["no_such_set", "glue", "../etc", ""])
def test_an_unknown_set_is_named(tmp_path, name):
    with pytest.raises(ost.InputError, match=f"--dataset={name}"):
        ost.load_data(name, str(tmp_path), download=False)
