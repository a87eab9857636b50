"""Images that stay on disk and are decoded when a step needs them: for sets larger than memory.

What a batch holds follows from (step, seed), as for images in memory, whichever process
decodes which part of it.
"""

import collections
import itertools
import os
import struct
import zlib

import numpy as np
import tensorflow as tf

from oneshot_tf.data import dataset
from oneshot_tf.data.checksums import of_files
from oneshot_tf.data.images import (
    BadImages,
    case_of,
    decode,
    decode_tensor,
    is_upright_jpeg,
    resize,
)
from oneshot_tf.system.errors import InputError, plain

_AHEAD = 2  # batches decoded before they are asked for
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of Inception's crops (Szegedy et al. 2015)
_MIRROR_SEED = 1000003
# TensorFlow quotes the bytes of a record that it can't parse.
_UNREADABLE = (tf.errors.OpError, UnicodeDecodeError)


class FileReader:
    """Image files.

    Args:
        paths: of the files.
        labels: int32 `[N]`.
        checksums: function of indices `[n]` that returns uint64 `[n]`, of the contents of their
            files; by default it reads them at each call.
    """

    def __init__(self, paths, labels, checksums=None):
        self._paths = [str(path) for path in paths]
        self._checksums = checksums or (lambda i: of_files([self._paths[k] for k in i]))
        self.labels = np.asarray(labels, np.int32)
        self._tensors = tf.constant([os.fsencode(path) for path in paths]), tf.constant(self.labels)

    def __len__(self):
        return len(self._paths)

    def read(self, index):
        """Encoded image and label, as tensors."""
        paths, labels = self._tensors
        return tf.io.read_file(paths[index]), labels[index]

    def name(self, index) -> str:
        """For messages."""
        return self._paths[index]

    def facts(self, indices) -> bytes:
        """By which changes are noticed: checksums of the contents of files."""
        return self._checksums(indices).tobytes()


class RecordReader:
    """Examples with `image` and `label` in TFRecord files, found by their offsets.

    Args:
        paths: of the files.
        num_classes: labels are less than it.
        skip: whether what is left of a file that is cut off is taken.

    Raises:
        InputError: a file is missing, or cut off.
    """

    labels = None  # each is read with its image

    def __init__(self, paths, num_classes: int, skip: bool = False):
        self._paths, self._num_classes = [str(path) for path in paths], num_classes
        found = [_offsets(path, skip) for path in self._paths]
        self._file = np.repeat(np.arange(len(found)), [len(each) for each in found])
        self._place = np.concatenate(found)  # [N, 3]: offset, length, checksum of the content

    def __len__(self):
        return len(self._file)

    def _content(self, index):
        offset, length, _ = self._place[index]
        with open(self._paths[self._file[index]], "rb") as file:
            file.seek(offset)
            return file.read(length)

    def read(self, index):
        """Encoded image and label, as tensors."""
        content = tf.numpy_function(self._content, [index], tf.string, stateful=False)
        parsed = tf.io.parse_single_example(
            tf.ensure_shape(content, []),
            {"image": tf.io.FixedLenFeature([], tf.string),
             "label": tf.io.FixedLenFeature([], tf.int64)},
        )  # fmt: skip
        label = parsed["label"]
        known = tf.logical_and(label >= 0, label < self._num_classes)
        with tf.control_dependencies([tf.debugging.Assert(known, ["label out of range", label])]):
            return parsed["image"], tf.cast(label, tf.int32)

    def name(self, index) -> str:
        """For messages."""
        file = self._file[index]
        return f"{self._paths[file]}, example {index - np.searchsorted(self._file, file)}"

    def facts(self, indices) -> bytes:
        """By which changes are noticed: offsets and lengths."""
        return self._place[indices, :2].tobytes()

    def contents(self, indices) -> bytes:
        """Of each example the checksum of its image and label, which the file stores."""
        return self._place[indices, 2].tobytes()


def _offsets(path, skip) -> np.ndarray:
    """Where the contents of a TFRecord file are: int64 `[N, 3]`, offset, length and CRC-32C."""
    found, place = [], 0
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            header = file.read(12)  # length, and its checksum
            while place < size:
                length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else size
                if place + length + 16 > size:
                    break
                file.seek(place + 12 + length)
                tail = file.read(16)  # the checksum of the content, and the next header
                found.append((place + 12, length, *struct.unpack("<I", tail[:4])))
                header, place = tail[4:], place + length + 16
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror or error}); --storage=files needs the files "
            "on a disk of this machine."
        ) from None
    if place < size:
        what = f"{path} is cut off after {len(found):,} examples"
        if not skip:
            raise InputError(f"{what}. Prepare it anew, or use what is there: --skip_bad_images.")
        print(f"{what}. What follows is left out.", flush=True)
    return np.array(found, np.int64).reshape(-1, 3)


class StreamedSplit:
    """As a `dataset.Split`, of images that stay on disk.

    Args:
        reader: a `FileReader` or `RecordReader`.
        indices: which of its images, in order.
        image_size: height and width that they are brought to.
        fit: how, see `images.resize`.
    """

    on_disk = True

    def __init__(self, reader, indices, image_size: int, fit: str):
        self._reader, self._indices = reader, np.asarray(indices, np.int64)
        self.image_size, self.fit = image_size, fit
        self._whole = None

    def __len__(self):
        return len(self._indices)

    @property
    def indices(self) -> np.ndarray:
        """Which images of the reader these are: int64 `[N]`."""
        return self._indices

    @property
    def labels(self):
        """int32 `[N]`; None where they are read with the images."""
        labels = self._reader.labels
        return None if labels is None else labels[self._indices]

    def take(self, indices) -> "StreamedSplit":
        """The images at `indices`."""
        return StreamedSplit(self._reader, self._indices[indices], self.image_size, self.fit)

    def join(self, other) -> "StreamedSplit":
        """These and those of another split of the same files."""
        both = np.concatenate([self._indices, other._indices])
        return StreamedSplit(self._reader, both, self.image_size, self.fit)

    def fingerprint(self) -> list[int]:
        """Count and checksums."""
        labels = self._reader.contents(self._indices) if self.labels is None else self.labels
        return [len(self), zlib.crc32(self._reader.facts(self._indices)), zlib.crc32(labels)]

    def in_memory(self) -> dataset.Split:
        """All images at their one size; decoded once.

        Raises:
            InputError: one can't be decoded, or they don't fit.
        """
        if self._whole is None:
            self._whole = self._read_whole()
        return self._whole

    def _read_whole(self):
        dataset.check_memory(len(self), self.image_size, f"{len(self):,} images")
        images = np.zeros((len(self), self.image_size, self.image_size, 3), np.uint8)
        labels, done = np.zeros(len(self), np.int32), 0
        whole = tf.data.Dataset.from_tensor_slices((self._indices, np.zeros(len(self), np.int64)))
        try:
            for part, names in self._decoded(whole, None, 64):
                images[done : done + len(part)], labels[done : done + len(part)] = part, names
                done += len(part)
        except _UNREADABLE as error:
            self._name_bad(self._indices[done:], error)
        return dataset.Split(images, labels)

    def batch(self, step, batch_size, seed, distort=False):
        """The global batch of a step; see `batches`."""
        rows = range(batch_size)
        return next(self.batches(step, batch_size, seed, rows, distort))

    def batches(self, first_step, batch_size, seed, rows, distort=False):
        """Yields images and labels of a step after another, decoded ahead.

        Args:
            first_step: to begin with.
            batch_size: of the global batch.
            seed: of the order and of the crops.
            rows: range of the rows of the global batch that are wanted.
            distort: whether to take random crops, mirrored or not, as Inception's.

        Raises:
            InputError: an image can't be decoded; names it.
        """

        asked = collections.deque(maxlen=4 * _AHEAD)  # for, but perhaps not decoded yet

        def positions():
            for step in itertools.count(first_step):
                own = step * batch_size + np.arange(rows.start, rows.stop)
                asked.append(self._indices[dataset.places(own, len(self), seed)])
                yield asked[-1], own

        spec = tf.TensorSpec([len(rows)], tf.int64)
        steps = tf.data.Dataset.from_generator(positions, output_signature=(spec, spec))
        images = steps.flat_map(lambda *x: tf.data.Dataset.from_tensor_slices(x))
        try:
            yield from self._decoded(images, seed if distort else None, len(rows))
        except _UNREADABLE as error:
            self._name_bad(np.concatenate(asked), error)

    def _decoded(self, positions, seed, count):
        """Batches of `count` images and labels, of (index, position)s."""

        def read(index, position):
            encoded, label = self._reader.read(index)
            if seed is None:
                image = resize(decode_tensor(encoded), self.image_size, self.fit)
            else:
                key = tf.stack([tf.constant(seed % 2**31, tf.int64), position])
                image = _random_crop(encoded, self.image_size, key)
            return tf.ensure_shape(image, [self.image_size, self.image_size, 3]), label

        images = positions.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        yield from images.batch(count).prefetch(_AHEAD).as_numpy_iterator()

    def _name_bad(self, indices, error):
        """Raises InputError with the name of one, of some images, that can't be decoded."""
        for index in indices:
            try:
                decode(self._reader.read(tf.constant(index))[0].numpy())
            except (tf.errors.OpError, OSError, ValueError) as reason:
                raise InputError(
                    f"{self._reader.name(index)} can't be decoded ({plain(reason)}). Repair or "
                    "remove it, or have all tried and the bad ones left out: --skip_bad_images."
                ) from None
        raise InputError(f"Images on disk can't be read: {plain(error)}") from None

    def without_bad(self) -> "StreamedSplit":
        """Those that can be decoded: all are tried, which takes a while; the others are printed.

        Raises:
            InputError: none is left.
        """
        bad, good = BadImages("Images on disk", skip=True), np.ones(len(self), bool)

        def works(encoded):
            return tf.size(decode_tensor(encoded)) > 0

        kept = tf.data.Dataset.from_tensor_slices(self._indices).map(
            lambda i: (i, works(self._reader.read(i)[0])), num_parallel_calls=tf.data.AUTOTUNE
        )
        seen = {int(index) for index, _ in kept.ignore_errors().as_numpy_iterator()}
        for place, index in enumerate(self._indices):
            if int(index) not in seen:
                good[place] = False
                bad.add(self._reader.name(index), "it can't be decoded")
        bad.report(len(self))
        return self.take(np.flatnonzero(good))


def _random_crop(encoded, size, key):
    """A random part of the image, of random shape, mirrored or not: uint8 `[size, size, 3]`."""

    def inside():  # only what is inside the crop is decoded
        window = _window(tf.io.extract_jpeg_shape(encoded), key)
        return tf.io.decode_and_crop_jpeg(
            encoded, window, channels=3, fancy_upscaling=False, dct_method="INTEGER_FAST"
        )

    def whole():
        image = decode_tensor(encoded, case)
        top, left, height, width = tf.unstack(_window(tf.shape(image), key))
        return image[top : top + height, left : left + width]

    case = case_of(encoded)
    image = tf.cond(is_upright_jpeg(case), inside, whole)
    image = tf.cast(tf.image.resize(image, [size, size]) + 0.5, tf.uint8)  # a mean: in range
    mirrored = tf.random.stateless_uniform([], key + _MIRROR_SEED, 0, 2, tf.int32) == 1
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def _window(shape, key):
    """Top, left, height and width of a random part of an image of shape `[h, w, …]`."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape[:2], [3]], 0),
        tf.zeros([1, 0, 4]),
        seed=key,
        area_range=_AREA,
        aspect_ratio_range=_ASPECT,
        min_object_covered=0.0,  # the object is the whole image: any part of it will do
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], axis=0)
