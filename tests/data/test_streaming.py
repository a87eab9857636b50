"""Tests images on disk: the step and the seed determine each batch."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.data import images as data
from oneshot_tf.data import streaming
from oneshot_tf.data.streaming import FileReader, RecordReader, StreamedSplit
from oneshot_tf.learning.loop import check_batch_size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Creates two classes of 20 images, JPEG and PNG, of many shapes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for i in range(20):
            height, width = rng.integers(20, 60, 2)
            pixels = tf.image.resize(rng.integers(0, 255, (5, 5, 3)), (height, width))
            pixels = tf.cast(pixels, tf.uint8)
            jpeg = i % 3 > 0
            content = tf.io.encode_jpeg(pixels) if jpeg else tf.io.encode_png(pixels)
            (root / name / f"{i:02d}.{'jpg' if jpeg else 'png'}").write_bytes(content.numpy())
    return root


def load(folder, **options):
    options = {"image_size": 16, "num_validation": 6, **options}
    return ost.load_data(f"folder:{folder}", **options)


@pytest.mark.parametrize("fit", ["stretch", "center"])
def test_undistorted_they_are_those_in_memory(folder, fit):
    streamed, memory = (load(folder, storage=s, fit=fit) for s in ("files", "memory"))
    for split in ("train", "validation"):
        one, other = getattr(streamed, split), getattr(memory, split)
        np.testing.assert_array_equal(one.in_memory().images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(
        streamed.load_test().in_memory().images, memory.load_test().images
    )
    for step in (0, 3, 7):
        for one, other in zip(streamed.train.batch(step, 8, 5), memory.train.batch(step, 8, 5)):
            np.testing.assert_array_equal(one, other)


def test_crops_depend_on_step_and_seed_alone(folder):
    train = load(folder, storage="files").train
    every = [train.batch(step, 8, 3, distort=True) for step in range(3)]
    parts = [train.batches(0, 8, 3, rows, distort=True) for rows in (range(4), range(4, 8))]
    for images, labels in every:
        some = [next(part) for part in parts]
        np.testing.assert_array_equal(np.concatenate([s[0] for s in some]), images)
        np.testing.assert_array_equal(np.concatenate([s[1] for s in some]), labels)
    assert (train.batch(0, 8, 4, distort=True)[0] != every[0][0]).any()
    whole = train.in_memory()
    np.testing.assert_array_equal(np.sort(whole.labels), np.sort(train.labels))


def test_the_middle_of_an_image():
    image = np.zeros((40, 80, 3), np.uint8)
    image[2:38, 22:58] = 200  # the square of 35x35 in the middle is inside this region
    np.testing.assert_array_equal(data.resize(image, 7, "center"), np.full((7, 7, 3), 200))
    many = data.resize(np.stack([image] * 2), 7, "center")
    np.testing.assert_array_equal(many, np.full((2, 7, 7, 3), 200))


def test_stretched_images_of_that_size_are_left_as_they_are():
    images = np.random.default_rng(0).integers(0, 255, (2, 9, 9, 3), np.uint8)
    np.testing.assert_array_equal(data.resize(images, 9), images)
    np.testing.assert_array_equal(data.resize(images[0], 9), images[0])
    graph = tf.function(lambda x: data.resize(x, 9))
    unknown = graph.get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    np.testing.assert_array_equal(unknown(tf.constant(images)), images)
    assert unknown(tf.zeros([3, 12, 20, 3], tf.uint8)).shape == (3, 9, 9, 3)


@pytest.mark.parametrize("size", [32, 224])
def test_the_middle_of_an_image_of_that_size_is_that_of_its_neighbours(size):
    """Another pixel at the right and the bottom does not change where the middle begins."""
    larger = np.random.default_rng(0).integers(0, 255, (size + 1, size + 1, 3), np.uint8)
    exact = data.resize(larger[:size, :size], size, "center").numpy()
    np.testing.assert_array_equal(exact, data.resize(larger, size, "center"))
    side, first = size * 7 // 8, size // 16
    middle = larger[first : first + side, first : first + side]
    np.testing.assert_array_equal(exact, data.resize(middle, size))
    assert (exact != larger[:size, :size]).any()


def test_arrays_and_digits_are_cut_as_a_model_that_serves_them_cuts(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), np.uint8)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels,
             test_images=images, test_labels=labels)  # fmt: skip
    for size in (0, 16):
        test = ost.load_data(f"npz:{tmp_path / 'a.npz'}", image_size=size, fit="center").load_test()
        np.testing.assert_array_equal(test.images, data.resize(images, 16, "center"))
    digits = {fit: ost.load_data("digits", fit=fit).load_test() for fit in ("stretch", "center")}
    cut = data.resize(digits["stretch"].images, 8, "center")
    np.testing.assert_array_equal(digits["center"].images, cut)


def test_crops_are_as_small_as_inceptions():
    """Crops cover 8 to 100 % of an image. Each pixel of the image stores its own position."""
    rows, columns = np.meshgrid(np.arange(200), np.arange(200), indexing="ij")
    pixels = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    encoded, shares = tf.io.encode_png(pixels), []
    for i in range(400):
        crop = streaming._random_crop(encoded, 40, tf.constant([3, i], tf.int64)).numpy()
        sides = crop[..., :2].reshape(-1, 2)
        shares.append(np.prod(1.02 * (sides.max(axis=0) - sides.min(axis=0).astype(float)) / 200))
    assert 0.06 < min(shares) < 0.1 and max(shares) > 0.85


def test_a_class_of_bad_images_alone(folder, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(folder, root)
    (root / "c").mkdir()
    for i in range(3):
        (root / "c" / f"{i}.jpg").write_bytes(b"not an image")
    for storage in ("memory", "files"):
        with pytest.raises(ost.InputError, match="class c has none"):
            load(root, storage=storage, skip_bad_images=True)


def test_a_file_name_that_is_no_text(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "images")
    name = os.fsencode(tmp_path / "images" / "a" / "00")
    os.rename(name + b".png", name + b"\xff.png")
    streamed, memory = (load(tmp_path / "images", storage=s) for s in ("files", "memory"))
    for one, other in zip(streamed.train.batch(0, 32, 0), memory.train.batch(0, 32, 0)):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_example(tmp_path):
    """The record has a correct checksum and invalid content, which TensorFlow's error quotes."""
    with tf.io.TFRecordWriter(str(tmp_path / "bad.tfrecord")) as writer:
        writer.write(b"\xff\xfe\x80 nonsense")
    split = StreamedSplit(RecordReader([tmp_path / "bad.tfrecord"], 3), [0], 6, "stretch")
    for read in (split.in_memory, lambda: split.batch(0, 1, 0)):
        with pytest.raises(ost.InputError, match=r"bad.tfrecord, example 0 cannot be decoded"):
            read()


def test_a_bad_image_is_named(folder, tmp_path, capsys):
    root = tmp_path / "images"
    shutil.copytree(folder, root)
    (root / "b" / "05.jpg").write_bytes(b"not an image")
    with pytest.raises(ost.InputError, match=r"b/05.jpg"):
        split = load(root, storage="files")
        split.train.in_memory(), split.validation.in_memory(), split.load_test().in_memory()
    dataset = load(root, storage="files", skip_bad_images=True)
    sizes = len(dataset.train), len(dataset.validation), len(dataset.load_test())
    assert sum(sizes) == 39
    assert "1 of" in capsys.readouterr().out


def test_examples_in_tfrecords(tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (7, 6, 5, 3), np.uint8)
    paths = [tmp_path / "one.tfrecord", tmp_path / "two.tfrecord"]
    for path, rows in zip(paths, (range(4), range(4, 7))):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in rows:
                image = tf.io.encode_png(pixels[row]).numpy()
                features = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[row % 3])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    reader = RecordReader(paths, 3)
    split = StreamedSplit(reader, [6, 0, 3], 6, "stretch")
    assert len(reader) == 7 and reader.name(5) == f"{paths[1]}, example 1"
    whole = split.in_memory()
    np.testing.assert_array_equal(whole.labels, [0, 0, 0])
    np.testing.assert_array_equal(whole.images[1], data.resize(pixels[0], 6).numpy())
    with pytest.raises(ost.InputError, match="label out of range|cannot be decoded"):
        StreamedSplit(RecordReader(paths, 2), [1, 2], 6, "stretch").in_memory()
    paths[1].write_bytes(paths[1].read_bytes()[:-5])
    assert len(RecordReader(paths, 3, skip=True)) == 6
    with pytest.raises(ost.InputError, match=r"two.tfrecord is cut off after 2 examples"):
        RecordReader(paths, 3)


def test_a_prepared_set_is_streamed(prepared):
    d = ost.load_data("cifar10", str(prepared), num_validation=20, download=False, storage="files")
    images, labels = d.train.batch(0, 16, 0)
    np.testing.assert_array_equal(labels * 20, images[:, 5, 5, 1])
    assert [len(d.train), len(d.validation), len(d.load_test())] == [80, 20, 20]


def photographs_of_tfds(root, files):
    """Prepares a data set of tensorflow-datasets from image files, without changing the files."""
    import tensorflow_datasets as tfds

    class MadePhotographs(tfds.core.GeneratorBasedBuilder):
        """Made photographs."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(num_classes=2),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for i, file in enumerate(files):
                yield i, {"image": file, "label": i % 2}

    MadePhotographs(data_dir=root).download_and_prepare()


@pytest.mark.filterwarnings("default")
def test_photographs_of_a_prepared_set_are_decoded_as_files_are(tmp_path):
    """Turned, 16-bit and transparent images in memory and streamed equal those of `decode`."""
    from PIL import Image

    rng, files = np.random.default_rng(0), []
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(12):
        pixels = rng.integers(0, 256, (20 + i, 30, 4), np.uint8)
        path = tmp_path / f"{i:02d}.{'jpg' if i % 3 == 0 else 'png'}"
        if i % 3 == 0:
            Image.fromarray(pixels[..., :3]).save(path, exif=exif)
        elif i % 3 == 1:
            Image.fromarray(pixels).save(path)
        else:
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
        files.append(path)
    photographs_of_tfds(tmp_path / "data", files)
    right = {data.resize(data.decode(f.read_bytes()).pixels, 16).numpy().tobytes() for f in files}
    for storage in ("memory", "files"):
        d = ost.load_data(
            "made_photographs", str(tmp_path / "data"), 16, 2, download=False, storage=storage
        )
        found = d.load_test().in_memory().images
        assert {image.tobytes() for image in found} == right and len(right) == 12


def test_training_from_files_goes_on_as_if_it_had_not_stopped(folder, tmp_path):
    from oneshot_tf.settings import DeviceSettings

    dataset, space = load(folder, storage="files", fit="center"), ost.bender2018(num_blocks=1)
    settings = ost.TrainSettings(batch_size=8, ghost_batch_size=4, augmentation="inception")

    def train(place):
        net = ost.Supernet(space, ost.Stack(1, 2, stem_stride=4), num_classes=2)
        ost.fit_supernet(
            net, dataset, ost.PathDropout(space, 0.2, num_steps=4), 4, settings, 0, place,
            device=DeviceSettings(checkpoint_steps=2),
        )  # fmt: skip
        return [np.array(v) for v in net.variables]

    whole = train(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step_000000004.npz").unlink()
    for one, other in zip(whole, train(tmp_path / "run")):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_go_together(digits, folder):
    settings = ost.TrainSettings(augmentation="inception")
    with pytest.raises(ost.InputError, match="--storage=files"):
        check_batch_size(settings, digits)
    with pytest.raises(ost.InputError, match="--storage=memory"):
        ost.load_data("digits", storage="files")
    assert FileReader([folder / "a" / "00.png"], [0]).name(0).endswith("a/00.png")
