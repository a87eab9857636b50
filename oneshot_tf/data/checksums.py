"""Checksums by which changed and doubled images are found, without decoding any."""

import concurrent.futures
import hashlib
import os
import struct
import zlib

import numpy as np

_THREADS = 8  # most of the time goes into waiting for the disk


def checksum(content) -> int:
    """64 bits of the SHA-1 of bytes or of a contiguous array.

    64 bits, because a million images have 5e11 pairs: of 32 bits, about 100 pairs would
    seem equal by chance.
    """
    return int.from_bytes(hashlib.sha1(content, usedforsecurity=False).digest()[:8], "little")


def of_images(images: np.ndarray) -> np.ndarray:
    """Checksums of the pixels of each image of `[N, …]`: uint64 `[N]`."""
    return np.array([checksum(np.ascontiguousarray(image)) for image in images], np.uint64)


def of_files(paths, skip: bool = False) -> np.ndarray:
    """Checksums of the contents of files: uint64 `[N]`. Reads all of them, several at a time.

    Args:
        paths: N paths.
        skip: whether a file that can't be read has a checksum too, of its path.

    Raises:
        OSError: a file can't be read.
    """

    def one(path):
        try:
            with open(path, "rb") as file:
                return checksum(file.read())
        except OSError:
            if not skip:
                raise
            return checksum(os.fsencode(path))

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return np.fromiter(pool.map(one, paths), np.uint64, len(paths))


def of_records(path) -> np.ndarray:
    """What the frames of a TFRecord file say of its records: uint32 `[N, 2]`.

    The columns are the lower 32 bits of the length and the masked CRC-32C of the content. They
    are stored beside each record, so the contents are not read. The last record of a file that
    is cut off is left out.

    Args:
        path: a local path, or an object with `open`, such as `epath.Path`.

    Raises:
        OSError: the file can't be read.
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
    """One checksum of checksums, in their order: the CRC-32 of their bytes."""
    return zlib.crc32(np.ascontiguousarray(values))
