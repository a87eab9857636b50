"""Files that are whole or not there: written beside, flushed to disk, renamed.

And reading what somebody else may have written: nothing read here runs code. No link is
followed, and nothing but a file is opened (see `opening`). All files are bounded in length,
and arrays take no more memory than their file is long.
"""

import contextlib
import ctypes
import json
import math
import os
import pathlib
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.opening import check_length, entries_below, open_file, read_bytes
from oneshot_tf.system.printable import printable

_WRITING = ".writing"
_LEFTOVER = re.compile(r"\..+\.(\d+|old)\.writing", re.DOTALL)
# Bytes. Values of JSON take up to some twenty times as much memory as their text.
MOST_TEXT, MOST_JSON, MOST_JSON_LINES, MOST_ARRAYS = 2**28, 2**24, 2**26, 2**34
_MOST_INT = 2**63  # of what NumPy and plots can hold
_HERE, _SWAP = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


@contextlib.contextmanager
def writing(path: str | os.PathLike):
    """Turns a failure of the file system into one line that names the file.

    Raises:
        InputError: in place of OSError: disk full, no permission, not a folder.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"Can't write {path}: {reason}. What was written before is whole; once that is put "
            "right, the same command goes on."
        ) from None


def user_path(path: str | os.PathLike) -> pathlib.Path:
    """A path that a user typed, `~` replaced where there is such a user."""
    return pathlib.Path(os.path.expanduser(path))


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Makes a folder and those above it; returns its path."""
    with writing(path):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write_atomically(path: str | os.PathLike, write: Callable[[Any], Any], mode: str = "w") -> None:
    """Calls `write(file)` on a file beside `path`, flushes it to disk and renames it to `path`."""
    path = pathlib.Path(path)
    beside = beside_of(path)
    with writing(path):
        try:
            beside.unlink(missing_ok=True)  # of a program that had our number, and was killed
            descriptor = open_file(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def beside_of(path: pathlib.Path) -> pathlib.Path:
    """Where what will be called `path` is written."""
    return path.with_name(f".{path.name}.{os.getpid()}{_WRITING}")


def remove_leftovers(folder: str | os.PathLike, name: str = "") -> None:
    """Removes what programs that were killed were writing; never what a link leads to.

    Only for who holds the folder's lock.

    Args:
        folder: where.
        name: what was to be written in the folder itself; by default all below it counts.
    """
    with writing(folder):
        if name:
            found = [path for path in pathlib.Path(folder).iterdir()
                     if path.name.startswith(f".{name}.")]  # fmt: skip
        else:
            found = [pathlib.Path(entry.path) for entry in entries_below(folder)]
        for path in found:
            if not _LEFTOVER.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                remove_folder(path)
            else:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()


def remove_folder(folder: str | os.PathLike) -> None:
    """Removes a folder with all that is in it, as far as possible; no link is followed."""
    with contextlib.suppress(RecursionError):  # thousands of folders in each other
        shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: str | os.PathLike) -> None:
    """Brings what was renamed in a folder to disk."""
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike, value: dict) -> None:
    """Writes a JSON object atomically, with the checksum of the rest as its last value."""
    text = json.dumps({**value, "checksum": json_checksum(value)}, indent=2)
    write_atomically(path, lambda file: file.write(text + "\n"))


def json_checksum(value: Any) -> str:
    """Eight hexadecimal digits that follow from a JSON value, whatever the order of its names."""
    plain = json.loads(json.dumps(value))
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


def read_text(path: str | os.PathLike, most: int = MOST_TEXT) -> str:
    """Reads a text of at most `most` bytes.

    Raises:
        InputError: it is missing, no file, longer, not UTF-8, or can't be read.
    """
    try:
        text = read_bytes(path, most).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} can't be read ({error}).") from None


def _parsed(text: str):
    """The value of a JSON text.

    Raises:
        ValueError: it isn't one, or holds a number that 64 bits can't hold, or half a character.
        RecursionError: it is too deep.
    """

    def whole(digits: str):
        number = int(digits)
        if not -_MOST_INT <= number < _MOST_INT:
            raise ValueError(f"the number {digits[:12]}... does not fit into 64 bits")
        return number

    value = json.loads(text, parse_int=whole)
    json.dumps(value, ensure_ascii=False).encode()  # no halves of characters
    return value


def read_json(path: str | os.PathLike) -> dict:
    """Reads a JSON object of at most 2^24 bytes; files of earlier versions have no checksum.

    Raises:
        InputError: no such file, not a JSON object, or changed since it was written.
    """
    text = read_text(path, MOST_JSON)
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object; it holds a {type(value).__name__}.")
    if value.pop("checksum", None) not in (None, json_checksum(value)):
        raise InputError(
            f"{path} was changed after it was written: its checksum does not fit. Put back the "
            "file as it was."
        )
    return value


def read_json_lines(path: str | os.PathLike, form: Any) -> list[dict]:
    """The lines of a file that have a form; others are half-written, or none of ours.

    Args:
        path: the file; it may be missing.
        form: as for `check_form`.

    Raises:
        InputError: it is no file, longer than 2^26 bytes, or can't be read.
    """
    if not os.path.lexists(path):
        return []
    lines = []
    for line in read_bytes(path, MOST_JSON_LINES).splitlines():
        with contextlib.suppress(ValueError, RecursionError):  # InputError is a ValueError
            value = _parsed(line.decode(errors="replace"))
            check_form(path, value, form)
            lines.append(value)
    return lines


def check_run(path: str | os.PathLike, value: dict, run_id: str | None) -> None:
    """Raises InputError for a file of another run.

    Args:
        path: where `value` is from.
        value: what the file holds; its "run_id" says whose it is.
        run_id: of the run that it was found in; None for a run that an earlier version began,
            whose files do not say whose they are.
    """
    found = value.get("run_id")
    if run_id is not None and found != run_id:
        whose = "a run without an id" if found is None else f"the run {printable(found)[:8]}"
        raise InputError(
            f"{path} is of {whose}; this is the run {run_id[:8]}. Put this run's own file there, "
            "or remove it."
        )


def check_form(path: str | os.PathLike, value: Any, form: Any) -> None:
    """Raises InputError unless a JSON value has a form.

    Args:
        path: where it is from.
        value: any.
        form: a type (float takes whole numbers too), None, a tuple of forms, one of which it
            must have, a list of one form, which each element must have, or a dict of the
            forms of values by name; more names may be there.
    """
    wrong = _misfit(value, form, "")
    if wrong is not None:
        raise InputError(f"{path} is damaged or of another version: it holds {wrong}.")


def _misfit(value: Any, form: Any, place: str) -> str | None:
    """What doesn't have the form, in words; None if all does."""
    if isinstance(form, tuple):
        choices = [_misfit(value, each, place) for each in form]
        return None if None in choices else choices[0]
    if isinstance(form, dict) and isinstance(value, dict):
        by_name = (
            f"no {place}/{name}"
            if name not in value
            else _misfit(value[name], each, f"{place}/{name}")
            for name, each in form.items()
        )
        return next((misfit for misfit in by_name if misfit), None)
    if isinstance(form, list) and isinstance(value, list):
        misfits = (_misfit(each, form[0], f"{place}/{i}") for i, each in enumerate(value))
        return next((misfit for misfit in misfits if misfit), None)
    fits = value is None if form is None else type(value) is form
    fits = fits or (form is float and type(value) is int)
    if fits and type(value) is int and not -_MOST_INT <= value < _MOST_INT:
        return f"a number that does not fit into 64 bits at {place or '/'}"
    return None if fits else f"a {type(value).__name__} at {place or '/'}"


def append_line(path: str | os.PathLike, line: str) -> None:
    """Appends one line and flushes it to disk.

    A file that has another name too, as in a copy made of hard links, is copied first.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with writing(path), open(open_file(path, flags), "a", encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_nlink > 1:
            whole = read_bytes(path, MOST_TEXT) + f"{line}\n".encode()
            write_atomically(path, lambda copy: copy.write(whole), mode="wb")
            return
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays atomically as .npz (each member carries a checksum)."""
    named: dict[str, Any] = dict(arrays)
    write_atomically(path, lambda file: np.savez(file, **named), mode="wb")


def read_arrays(path: str | os.PathLike, most: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Args:
        path: the file.
        most: how many bytes it may have.

    Raises:
        InputError: it is missing, no file, longer, truncated, damaged or not of that kind.
    """
    with _opened_arrays(path, most) as (file, _), np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def array_shapes(path: str | os.PathLike, most: int = MOST_ARRAYS) -> dict[str, tuple[int, ...]]:
    """The shapes of named arrays, by their headers; no array is read.

    Raises:
        InputError: as `read_arrays`.
    """
    with _opened_arrays(path, most) as (_, shapes):
        return shapes


@contextlib.contextmanager
def _opened_arrays(path: str | os.PathLike, most: int):
    """Yields the file and the shapes of its arrays, once these are known to fit the file."""
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
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        raise InputError(f"{path} can't be read ({type(error).__name__}: {error}).") from None


def _check_members(archive: zipfile.ZipFile, length: int):
    """Shapes by name; ValueError unless arrays are as long as their headers promise."""
    members = archive.infolist()
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > length:
        raise ValueError("its members are compressed, or longer than the file")
    shapes = {}
    for member in members:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"array format {version}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            # An array without elements could promise any shape for nothing.
            small = math.prod(max(1, n) for n in shape) <= member.file_size
            if dtype.hasobject or dtype.itemsize < 1 or min(shape, default=0) < 0 or not small:
                raise ValueError(f"an array of shape {shape} and type {dtype}")
            if file.tell() + dtype.itemsize * math.prod(shape) != member.file_size:
                raise ValueError("a member has another length than its header says")
        shapes[member.filename.removesuffix(".npy")] = shape
    return shapes


def checksum(path: str | os.PathLike) -> int:
    """CRC-32 of a file of at most 2^34 bytes.

    Raises:
        InputError: as `read_bytes`.
    """
    return zlib.crc32(read_bytes(path, MOST_ARRAYS))


def replace_folder(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Moves a finished folder to where an older one may stand, which is removed then.

    At every moment there is a whole folder at `target`, if there was one before.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    with writing(target):
        for path in (*source.rglob("*"), source):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            else:
                _flush(path)
        if not target.exists():
            os.replace(source, target)
        elif not _exchange(source, target):
            # No way to exchange them here: for a moment there is neither.
            old = source.with_name(f".{target.name}.old{_WRITING}")
            os.replace(target, old)
            os.replace(source, target)
            source = old
        _flush(target.parent)
        remove_folder(source)


def _exchange(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Exchanges the names of two folders at once; False where the system can't."""
    names = os.fsencode(one), os.fsencode(other)
    with contextlib.suppress(AttributeError, OSError):
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return system.renamex_np(*names, _SWAP) == 0
        return system.renameat2(_HERE, names[0], _HERE, names[1], _SWAP) == 0
    return False
