"""Reads encoded images and labels by index, from image files or TFRecord files."""

import os
import struct
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from oneshot_tf.data.checksums import of_files
from oneshot_tf.system.errors import InputError


class FileReader:
    """Reads image files.

    Args:
        paths: Paths of N files.
        labels: Int32 `[N]`.
        checksums: Maps indices, int64 `[n]`, to checksums of the contents of these files, uint64
            `[n]`. By default, each call reads the files.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        labels: Sequence[int] | np.ndarray,
        checksums: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._paths = [str(path) for path in paths]
        self._checksums = checksums or (lambda i: of_files([self._paths[k] for k in i]))
        self.labels = np.asarray(labels, np.int32)
        self._tensors = tf.constant([os.fsencode(path) for path in paths]), tf.constant(self.labels)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the encoded image, string `[]`, and the label, int32 `[]`."""
        paths, labels = self._tensors
        return tf.io.read_file(paths[index]), labels[index]

    def name(self, index: int) -> str:
        """Returns the path of an image, for messages."""
        return self._paths[index]

    def facts(self, indices: np.ndarray) -> bytes:
        """Returns the checksums of the contents of files."""
        return self._checksums(indices).tobytes()

    def contents(self, indices: np.ndarray) -> bytes:
        """Returns the labels. `facts` covers the contents of the files."""
        return self.labels[indices].tobytes()


class RecordReader:
    """Reads examples with `image` and `label` from TFRecord files by their offsets.

    Args:
        paths: Paths of the files.
        num_classes: Number of classes, K. Labels must be less.
        skip: Whether to use the complete examples of a file that is cut off.

    Raises:
        InputError: If a file is missing, or is cut off and `skip` is false.
    """

    labels = None  # each label is read with its image

    def __init__(
        self, paths: Iterable[str | os.PathLike], num_classes: int, skip: bool = False
    ) -> None:
        self._paths, self._num_classes = [str(path) for path in paths], num_classes
        found = [_offsets(path, skip) for path in self._paths]
        self._file = np.repeat(np.arange(len(found)), [len(each) for each in found])
        self._place = np.concatenate(found)  # [N, 3]: offset, length, checksum of the content

    def __len__(self) -> int:
        return len(self._file)

    def _content(self, index: np.integer) -> bytes:
        offset, length, _ = self._place[index]
        with open(self._paths[self._file[index]], "rb") as file:
            file.seek(offset)
            return file.read(length)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the encoded image, string `[]`, and the label, int32 `[]`."""
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

    def name(self, index: int) -> str:
        """Returns the file and the number of an example, for messages."""
        file = self._file[index]
        return f"{self._paths[file]}, example {index - np.searchsorted(self._file, file)}"

    def facts(self, indices: np.ndarray) -> bytes:
        """Returns the offsets and lengths of examples."""
        return self._place[indices, :2].tobytes()

    def contents(self, indices: np.ndarray) -> bytes:
        """Returns the checksums of examples, image and label, that the file stores."""
        return self._place[indices, 2].tobytes()


def _offsets(path: str, skip: bool) -> np.ndarray:
    """Finds the records of a TFRecord file: int64 `[N, 3]`, offset, length and CRC-32C."""
    found, place = [], 0
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            header = file.read(12)  # the length, and the checksum of the length
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
            f"{path} cannot be read ({error.strerror or error}). --storage=files needs the files "
            "on a local disk. Copy them there or set --storage=memory."
        ) from None
    if place < size:
        what = f"{path} is cut off after {len(found):,} examples"
        if not skip:
            raise InputError(
                f"{what}. Prepare it again, or set --skip_bad_images to use these examples."
            )
        print(f"{what}. The rest is left out.", flush=True)
    return np.array(found, np.int64).reshape(-1, 3)
