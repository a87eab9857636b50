"""Decodes images on disk when a step needs them, for data sets larger than memory.

The step and the seed determine each batch, as for images in memory. The result does not depend on
which worker decodes which rows.
"""

import collections
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np
import tensorflow as tf

from oneshot_tf.data.dataset import check_memory
from oneshot_tf.data.images import (
    BadImages,
    case_of,
    decode,
    decode_tensor,
    is_upright_jpeg,
    resize,
)
from oneshot_tf.data.in_memory import Split, places
from oneshot_tf.data.readers import FileReader, RecordReader
from oneshot_tf.system.errors import InputError, plain

_AHEAD = 2  # number of batches to decode in advance
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # Inception's crops (Szegedy et al. 2015)
_MIRROR_SEED = 1000003
# TensorFlow quotes the bytes of a record that it cannot parse, which may not be UTF-8.
_UNREADABLE = (tf.errors.OpError, UnicodeDecodeError)


class StreamedSplit:
    """Images on disk, with the methods of a `Split`.

    Args:
        reader: A `FileReader` or `RecordReader`.
        indices: Indices of the reader's images, int `[N]`, in order.
        image_size: Height and width in pixels to resize to.
        fit: How images become squares; see `images.resize`.
    """

    on_disk = True

    def __init__(
        self,
        reader: FileReader | RecordReader,
        indices: Sequence[int] | np.ndarray,
        image_size: int,
        fit: str,
    ) -> None:
        self._reader, self._indices = reader, np.asarray(indices, np.int64)
        self.image_size, self.fit = image_size, fit
        self._whole: Split | None = None

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def indices(self) -> np.ndarray:
        """Indices of the reader's images: int64 `[N]`."""
        return self._indices

    @property
    def labels(self) -> np.ndarray | None:
        """Int32 `[N]`, or None if labels are read with the images."""
        labels = self._reader.labels
        return None if labels is None else labels[self._indices]

    def take(self, indices: np.ndarray) -> "StreamedSplit":
        """Returns the images at `indices`, int `[n]`, or where a mask, bool `[N]`, is true."""
        return StreamedSplit(self._reader, self._indices[indices], self.image_size, self.fit)

    def join(self, other: "StreamedSplit") -> "StreamedSplit":
        """Returns these images, followed by those of another split with the same reader."""
        both = np.concatenate([self._indices, other._indices])
        return StreamedSplit(self._reader, both, self.image_size, self.fit)

    def fingerprint(self) -> list[int]:
        """Returns the number of images and the checksums of images and labels."""
        facts, contents = self._reader.facts(self._indices), self._reader.contents(self._indices)
        return [len(self), zlib.crc32(facts), zlib.crc32(contents)]

    def in_memory(self) -> Split:
        """Decodes all images at one size. Later calls return the same images.

        Raises:
            InputError: If an image cannot be decoded or the images do not fit in memory.
        """
        if self._whole is None:
            self._whole = self._read_whole()
        return self._whole

    def _read_whole(self) -> Split:
        check_memory(len(self), self.image_size, "Images on disk")
        images = np.zeros((len(self), self.image_size, self.image_size, 3), np.uint8)
        labels, done = np.zeros(len(self), np.int32), 0
        whole = tf.data.Dataset.from_tensor_slices((self._indices, np.zeros(len(self), np.int64)))
        try:
            for chunk, classes in self._decoded(whole, None, 64):
                images[done : done + len(chunk)], labels[done : done + len(chunk)] = chunk, classes
                done += len(chunk)
        except _UNREADABLE as error:
            self._name_bad(self._indices[done:], error)
        return Split(images, labels)

    def batch(
        self, step: int, batch_size: int, seed: int, distort: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels of the global batch of a step; see `batches`."""
        rows = range(batch_size)
        return next(self.batches(step, batch_size, seed, rows, distort))

    def batches(
        self, first_step: int, batch_size: int, seed: int, rows: range, distort: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields batches without end and decodes them in advance.

        Args:
            first_step: The step of the first batch.
            batch_size: Size of the global batch.
            seed: Random seed of the order and of the crops.
            rows: Range of rows of the global batch to yield.
            distort: Whether to take random crops and mirror half of them, as Inception does.

        Yields:
            The images, uint8 `[rows, H, W, 3]`, and the labels, int32 `[rows]`, of each step.

        Raises:
            InputError: If an image cannot be decoded. The message names it.
        """
        # Indices of the latest batches, which may not be decoded yet.
        asked: collections.deque[np.ndarray] = collections.deque(maxlen=4 * _AHEAD)

        def positions() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for step in itertools.count(first_step):
                own = step * batch_size + np.arange(rows.start, rows.stop)
                asked.append(self._indices[places(own, len(self), seed)])
                yield asked[-1], own

        spec = tf.TensorSpec([len(rows)], tf.int64)
        steps = tf.data.Dataset.from_generator(positions, output_signature=(spec, spec))
        images = steps.flat_map(lambda *x: tf.data.Dataset.from_tensor_slices(x))
        try:
            yield from self._decoded(images, seed if distort else None, len(rows))
        except _UNREADABLE as error:
            self._name_bad(np.concatenate(asked), error)

    def _decoded(
        self, positions: tf.data.Dataset, seed: int | None, count: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields decoded images and their labels.

        Args:
            positions: Pairs of the index of an image and its position in the pass, int64 `[]`.
            seed: Random seed of the crops, or None for whole images.
            count: Number of images to yield at once.
        """

        def read(index: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, label = self._reader.read(index)
            if seed is None:
                image = resize(decode_tensor(encoded), self.image_size, self.fit)
            else:
                key = tf.stack([tf.constant(seed % 2**31, tf.int64), position])
                image = _random_crop(encoded, self.image_size, key)
            return tf.ensure_shape(image, [self.image_size, self.image_size, 3]), label

        images = positions.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        yield from images.batch(count).prefetch(_AHEAD).as_numpy_iterator()

    def _name_bad(self, indices: np.ndarray, error: Exception) -> NoReturn:
        """Raises InputError with the name of the first image that cannot be decoded."""
        for index in indices:
            try:
                decode(self._reader.read(tf.constant(index))[0].numpy())
            except (tf.errors.OpError, OSError, ValueError) as reason:
                raise InputError(
                    f"{self._reader.name(index)} cannot be decoded ({plain(reason)}). Repair or "
                    "remove it, or set --skip_bad_images to leave bad images out."
                ) from None
        raise InputError(
            f"Images on disk cannot be read: {plain(error)}. Check that the disk is available."
        ) from None

    def without_bad(self) -> "StreamedSplit":
        """Decodes all images once, returns the good ones, and prints the others.

        Raises:
            InputError: If no image can be decoded.
        """
        bad, good = BadImages("Images on disk", skip=True), np.ones(len(self), bool)

        def works(encoded: tf.Tensor) -> tf.Tensor:
            return tf.size(decode_tensor(encoded)) > 0

        kept = tf.data.Dataset.from_tensor_slices(self._indices).map(
            lambda i: (i, works(self._reader.read(i)[0])), num_parallel_calls=tf.data.AUTOTUNE
        )
        seen = {int(index) for index, _ in kept.ignore_errors().as_numpy_iterator()}
        for place, index in enumerate(self._indices):
            if int(index) not in seen:
                good[place] = False
                bad.add(self._reader.name(index), "it cannot be decoded")
        bad.report(len(self))
        return self.take(np.flatnonzero(good))


def _random_crop(encoded: tf.Tensor, size: int, key: tf.Tensor) -> tf.Tensor:
    """Takes a random part of an image, of random shape, and mirrors half of the images.

    Args:
        encoded: The encoded image, string `[]`.
        size: Height and width in pixels to resize to.
        key: Random seed, int64 `[2]`.

    Returns:
        Uint8 `[size, size, 3]`.
    """

    def inside() -> tf.Tensor:  # decodes only the crop
        window = _window(tf.io.extract_jpeg_shape(encoded), key)
        return tf.io.decode_and_crop_jpeg(
            encoded, window, channels=3, fancy_upscaling=False, dct_method="INTEGER_FAST"
        )

    def whole() -> tf.Tensor:
        image = decode_tensor(encoded, case)
        top, left, height, width = tf.unstack(_window(tf.shape(image), key))
        return image[top : top + height, left : left + width]

    case = case_of(encoded)
    image = tf.cond(is_upright_jpeg(case), inside, whole)
    # Without antialiasing, resizing averages neighbours, so the values stay in range.
    image = tf.cast(tf.image.resize(image, [size, size]) + 0.5, tf.uint8)
    mirrored = tf.random.stateless_uniform([], key + _MIRROR_SEED, 0, 2, tf.int32) == 1
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def _window(shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Draws a random part of an image: top, left, height and width, int32 `[4]`.

    Args:
        shape: Shape of the image, int32 `[h, w, …]`.
        key: Random seed, int64 `[2]`.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape[:2], [3]], 0),
        tf.zeros([1, 0, 4]),
        seed=key,
        area_range=_AREA,
        aspect_ratio_range=_ASPECT,
        min_object_covered=0.0,  # the object is the whole image, and a crop may miss most of it
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], axis=0)
