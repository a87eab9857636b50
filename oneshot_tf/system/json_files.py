"""JSON files with a checksum, a limit on their length and a check of their form."""

import contextlib
import json
import os
import zlib
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import read_text, write_atomically
from oneshot_tf.system.opening import read_bytes
from oneshot_tf.system.printable import printable

MOST_JSON, MOST_JSON_LINES = 2**24, 2**26  # bytes
_MOST_INT = 2**63


def write_json(path: str | os.PathLike, value: dict) -> None:
    """Writes a JSON object atomically. Its last value is the checksum of the other values."""
    text = json.dumps({**value, "checksum": json_checksum(value)}, indent=2)
    write_atomically(path, lambda file: file.write(text + "\n"))


def json_checksum(value: Any) -> str:
    """Returns the checksum of a JSON value: 8 hexadecimal digits.

    The order of names in an object does not change it.
    """
    plain = json.loads(json.dumps(value))
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


def _parsed(text: str):
    """Returns the value of a JSON text.

    Raises:
        ValueError: The text is not JSON, or holds a number that does not fit into 64 bits, or
            half of a surrogate pair.
        RecursionError: The value is nested too deeply.
    """

    def whole(digits: str):
        number = int(digits)
        if not -_MOST_INT <= number < _MOST_INT:
            raise ValueError(f"the number {digits[:12]}... does not fit into 64 bits")
        return number

    value = json.loads(text, parse_int=whole)
    json.dumps(value, ensure_ascii=False).encode()  # fails for half of a surrogate pair
    return value


def read_json(path: str | os.PathLike) -> dict:
    """Reads a JSON object of at most 2^24 bytes. Files of earlier versions have no checksum.

    Raises:
        InputError: The file is missing, is not a JSON object, or was changed after it was
            written.
    """
    text = read_text(path, MOST_JSON)
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object; it holds a {type(value).__name__}.")
    if value.pop("checksum", None) not in (None, json_checksum(value)):
        raise InputError(
            f"{path} was changed after it was written: its checksum does not match. Restore the "
            "original file."
        )
    return value


def read_json_lines(path: str | os.PathLike, form: Any) -> list[dict]:
    """Returns the lines of a file that have a form.

    Other lines are skipped: they are half-written, or not written by this package.

    Args:
        path: Path of the file, which may be missing.
        form: The form, as for `check_form`.

    Raises:
        InputError: The path is not a file, the file is longer than 2^26 bytes, or it cannot be
            read.
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
    """Raises InputError for a file that belongs to another run.

    Args:
        path: Path of the file.
        value: Contents of the file. Its "run_id" names its run.
        run_id: Id of the run in whose directory the file is. None for a run that an earlier
            version began: its files carry no id.
    """
    found = value.get("run_id")
    if run_id is not None and found != run_id:
        whose = "a run without an id" if found is None else f"the run {printable(found)[:8]}"
        raise InputError(
            f"{path} belongs to {whose}; this is the run {run_id[:8]}. Restore this run's own "
            "file, or remove it."
        )


def check_form(path: str | os.PathLike, value: Any, form: Any) -> None:
    """Raises InputError unless a JSON value has a form.

    Args:
        path: Path of the file that holds the value.
        value: The value to check.
        form: A type, None, a tuple, a list or a dict. A value fits a type if it is of this type;
            float accepts whole numbers too. Only None fits None. A value fits a tuple if it fits
            one of the forms in it. A list fits a list of one form if each element fits this form.
            A dict fits a dict of forms if each named value fits its form; more names are allowed.
    """
    wrong = _misfit(value, form, "")
    if wrong is not None:
        raise InputError(f"{path} is damaged or of another version: it holds {wrong}.")


def _misfit(value: Any, form: Any, place: str) -> str | None:
    """Returns a description of the first part that does not have the form, or None."""
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
