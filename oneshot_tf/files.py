"""Files that are whole or not there: written beside, flushed to disk, renamed.

And reading what somebody else may have written: nothing read here runs code. Texts are
bounded in length, and arrays take no more memory than their file is long.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import sys
import zipfile

import numpy as np

from oneshot_tf.errors import InputError

_WRITING = ".writing"
_MOST_TEXT = 2**28
_HERE, _SWAP = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


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
            f"Can't write {path}: {reason}. What was written before is whole; once that is put "
            "right, the same command goes on."
        ) from None


def user_path(path) -> pathlib.Path:
    """A path that a user typed, `~` replaced where there is such a user."""
    return pathlib.Path(os.path.expanduser(path))


def make_folder(path) -> pathlib.Path:
    """Makes a folder and those above it; returns its path."""
    with writing(path):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write_atomically(path, write, mode="w") -> None:
    """Calls `write(file)` on a file beside `path`, flushes it to disk and renames it to `path`."""
    path = pathlib.Path(path)
    beside = beside_of(path)
    with writing(path):
        try:
            with open(beside, mode, encoding=None if "b" in mode else "utf-8") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def beside_of(path) -> pathlib.Path:
    """Where what will be called `path` is written."""
    return path.with_name(f".{path.name}.{os.getpid()}{_WRITING}")


def remove_leftovers(folder, name: str = "**/.*") -> None:
    """Removes what programs that were killed were writing.

    Only for who holds the folder's lock.

    Args:
        folder: where.
        name: pattern of the hidden names; by default whatever is below the folder.
    """
    with writing(folder):
        for path in list(pathlib.Path(folder).glob(f"{name}{_WRITING}")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _flush(folder) -> None:
    """Brings what was renamed in a folder to disk."""
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path, value) -> None:
    """Writes JSON atomically."""
    write_atomically(path, lambda file: file.write(json.dumps(value, indent=2) + "\n"))


def read_text(path) -> str:
    """Reads a text of at most 2^28 bytes.

    Raises:
        InputError: missing, not to be read, not UTF-8 or longer.
    """
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise InputError(
                f"{path} is larger than {_MOST_TEXT:,} bytes: not one of this package's."
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error}).") from None


def read_json(path) -> dict:
    """Reads a JSON object.

    Raises:
        InputError: no such file, or not a JSON object.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # no halves of characters
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; needed is a JSON object.")
    return value


def read_json_lines(path, form) -> list[dict]:
    """The lines of a file that have a form; others are half-written, or none of ours.

    Args:
        path: the file; it may be missing.
        form: as for `check_form`.
    """
    lines = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, RecursionError):  # InputError is a ValueError
            value = json.loads(line)
            check_form(path, value, form)
            lines.append(value)
    return lines


def check_form(path, value, form) -> None:
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


def _misfit(value, form, place):
    """What doesn't have the form, in words; None if all does."""
    if isinstance(form, tuple):
        misfits = [_misfit(value, each, place) for each in form]
        return None if None in misfits else misfits[0]
    if isinstance(form, dict) and isinstance(value, dict):
        misfits = (
            f"no {place}/{name}"
            if name not in value
            else _misfit(value[name], each, f"{place}/{name}")
            for name, each in form.items()
        )
        return next((misfit for misfit in misfits if misfit), None)
    if isinstance(form, list) and isinstance(value, list):
        misfits = (_misfit(each, form[0], f"{place}/{i}") for i, each in enumerate(value))
        return next((misfit for misfit in misfits if misfit), None)
    fits = value is None if form is None else type(value) is form
    if fits or (form is float and type(value) is int):
        return None
    return f"a {type(value).__name__} at {place or '/'}"


def append_line(path, line: str) -> None:
    """Appends one line and flushes it to disk."""
    with writing(path), open(path, "a", encoding="utf-8") as file:
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
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            size = sum(member.file_size for member in members)
            if not stored or size > os.path.getsize(path):
                raise ValueError("its members are compressed, or longer than the file")
            for member in members:
                with archive.open(member) as file:
                    _check_header(file, member.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        raise InputError(f"{path} can't be read ({type(error).__name__}: {error}).") from None


def _check_header(file, size):
    """Raises ValueError unless a member is as long as the array that its header promises."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"array format {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) != size:
        raise ValueError("a member has another length than its header says")


def replace_folder(source, target) -> None:
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
        shutil.rmtree(source, ignore_errors=True)


def _exchange(one, other) -> bool:
    """Exchanges the names of two folders at once; False where the system can't."""
    names = os.fsencode(one), os.fsencode(other)
    with contextlib.suppress(AttributeError, OSError):
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return system.renamex_np(*names, _SWAP) == 0
        return system.renameat2(_HERE, names[0], _HERE, names[1], _SWAP) == 0
    return False
