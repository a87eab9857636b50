"""Writing files so that a reader never sees half of one."""

import contextlib
import json
import os
import pathlib
import shutil

import numpy as np

from oneshot_tf.errors import InputError


@contextlib.contextmanager
def writing(path):
    """Turns a failure of the file system into one line that names the file.

    Raises:
        InputError: in place of OSError: disk full, no permission, not a folder.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"Can't write {path}: {reason}. What was written before it is whole."
        ) from None


def make_folder(path) -> pathlib.Path:
    """Makes a folder and those above it; returns its path."""
    with writing(path):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write_atomically(path, write, mode="w") -> None:
    """Calls `write(file)` on a file beside `path`, flushes it to disk and renames it to `path`."""
    path = pathlib.Path(path)
    beside = path.with_name(f".{path.name}.writing")
    with writing(path):
        try:
            with open(beside, mode) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path, value) -> None:
    """Writes JSON atomically."""
    write_atomically(path, lambda file: file.write(json.dumps(value, indent=2) + "\n"))


def read_json(path) -> dict:
    """Reads a JSON object.

    Raises:
        InputError: no such file, or not a JSON object.
    """
    path = pathlib.Path(path)
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; needed is a JSON object.")
    return value


def append_line(path, line: str) -> None:
    """Appends one line and flushes it to disk."""
    with writing(path), open(path, "a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_arrays(path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays atomically as .npz (each member carries a checksum)."""
    write_atomically(path, lambda file: np.savez(file, **arrays), mode="wb")


def read_arrays(path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Raises:
        InputError: truncated, damaged or not of that kind.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        raise InputError(f"{path} can't be read ({type(error).__name__}: {error}).") from None


def replace_folder(source, target) -> None:
    """Moves a finished folder to where an older one may stand."""
    source, target = pathlib.Path(source), pathlib.Path(target)
    old = target.with_name(f".{target.name}.old")
    with writing(target):
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(source, target)
        shutil.rmtree(old, ignore_errors=True)
