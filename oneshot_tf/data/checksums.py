"""Checksums that reveal changed and duplicate images without decoding them."""

import concurrent.futures
import hashlib
import os
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from oneshot_tf.system.progress import each

_THREADS = 8  # more than cores, because reading mostly waits for the disk


def checksum(content: bytes | memoryview) -> int:
    """Returns the first 64 bits of the SHA-1 of contiguous bytes.

    32 bits would be too few. A million images form 5e11 pairs, and about 100 pairs would have
    equal checksums by chance.
    """
    return int.from_bytes(hashlib.sha1(content, usedforsecurity=False).digest()[:8], "little")


def of_images(images: np.ndarray) -> np.ndarray:
    """Returns a checksum of the pixels of each image of `[N, …]`: uint64 `[N]`."""
    return np.array([checksum(np.ascontiguousarray(image).data) for image in images], np.uint64)


def of_files(paths: Sequence[str | os.PathLike], skip: bool = False) -> np.ndarray:
    """Reads files, several at a time, and returns a checksum of the content of each.

    Args:
        paths: N paths.
        skip: Whether to use a checksum of the path for a file that cannot be read.

    Returns:
        Uint64 `[N]`.

    Raises:
        OSError: If a file cannot be read and `skip` is false.
    """

    def one(path: str | os.PathLike) -> int:
        try:
            with open(path, "rb") as file:
                return checksum(file.read())
        except OSError:
            if not skip:
                raise
            return checksum(os.fsencode(path))

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = each(pool.map(one, paths), "Computing checksums", len(paths), "files")
        return np.fromiter(found, np.uint64, len(paths))


def of_records(path: str | os.PathLike) -> np.ndarray:
    """Reads the lengths and checksums that a TFRecord file stores next to its records.

    The records themselves are not read. If the file is cut off, its last record is left out.

    Args:
        path: A local path, or an object with an `open` method, for example an `epath.Path`.

    Returns:
        Uint32 `[N, 2]`. The columns are the lower 32 bits of a record's length and the masked
        CRC-32C of its content.

    Raises:
        OSError: If the file cannot be read.
    """
    found = []
    with path.open("rb") if hasattr(path, "open") else open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END) or file.tell()
        file.seek(0)
        header, place = file.read(12), 0  # the length, and the checksum of the length
        while len(header) == 12:
            length = struct.unpack("<Q", header[:8])[0]
            place += length + 16
            if place > size:
                break
            file.seek(place - 4)
            tail = file.read(16)  # the checksum of the content, and the next header
            found.append((length & 0xFFFFFFFF, struct.unpack("<I", tail[:4])[0]))
            header = tail[4:]
    return np.array(found, np.uint32).reshape(-1, 2)


def summary(values: np.ndarray) -> int:
    """Returns one checksum of an array: the CRC-32 of its bytes, which depends on the order."""
    return zlib.crc32(np.ascontiguousarray(values).data)
