"""Named arrays in .npz files, with a limit on their length and without pickle."""

import contextlib
import math
import os
import zipfile
from typing import Any

import numpy as np

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import write_atomically
from oneshot_tf.system.opening import check_length, open_file

MOST_ARRAYS = 2**34  # bytes


def write_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays atomically as an .npz file. Each member carries a checksum."""
    named: dict[str, Any] = dict(arrays)
    write_atomically(path, lambda file: np.savez(file, **named), mode="wb")


def read_arrays(path: str | os.PathLike, most: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """Reads the arrays that `write_arrays` wrote.

    Args:
        path: Path of the file.
        most: Largest length of the file in bytes.

    Returns:
        The arrays by name.

    Raises:
        InputError: The file is missing, not a file, too long, truncated, damaged or not an .npz
            file.
    """
    with _opened_arrays(path, most) as (file, _), np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def array_shapes(path: str | os.PathLike, most: int = MOST_ARRAYS) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of named arrays. It reads only their headers.

    Raises:
        InputError: As in `read_arrays`.
    """
    with _opened_arrays(path, most) as (_, shapes):
        return shapes


@contextlib.contextmanager
def _opened_arrays(path: str | os.PathLike, most: int):
    """Checks that the arrays fit the length of the file; yields the file and their shapes."""
    try:
        with open(open_file(path), "rb") as file:
            length = os.fstat(file.fileno()).st_size
            check_length(path, length, most)
            with zipfile.ZipFile(file) as archive:
                shapes = _check_members(archive, length)
            file.seek(0)
            yield file, shapes
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except Exception as error:  # zipfile and NumPy raise many types of errors for damaged files
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}).") from None


def _check_members(archive: zipfile.ZipFile, length: int):
    """Returns shapes by name. Raises ValueError if an array and its header differ in length."""
    members = archive.infolist()
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > length:
        raise ValueError("its members must be uncompressed and not longer than the file")
    shapes = {}
    for member in members:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"array format {version} is not supported")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            # An array without elements takes no bytes, so its header could give any shape.
            small = math.prod(max(1, n) for n in shape) <= member.file_size
            if dtype.hasobject or dtype.itemsize < 1 or min(shape, default=0) < 0 or not small:
                raise ValueError(f"an array of shape {shape} and type {dtype} is not valid")
            if file.tell() + dtype.itemsize * math.prod(shape) != member.file_size:
                raise ValueError("the length of a member differs from its header")
        shapes[member.filename.removesuffix(".npy")] = shape
    return shapes
