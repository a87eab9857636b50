"""The folder of an export. It is replaced as a whole. A user's files in it are never removed."""

import contextlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable

from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import (
    beside_of,
    make_folder,
    remove_folder,
    remove_leftovers,
    replace_folder,
    user_path,
    writing,
)

DESCRIPTION, TABLE = "architecture.json", "formats.json"
# The files of an export that this package, TensorFlow and the converters write.
_WRITTEN = re.compile(
    r"(architecture|formats)\.json|saved_model\.pb|fingerprint\.pb|assets|"
    r"assets\.extra(/tf_serving_warmup_requests)?|"
    r"variables(/variables\.(index|data-\d{5}-of-\d{5}))?|"
    r"model(_fp16|_int8)?\.(keras|tflite|onnx|xml|bin)"
)
_NUMBER = re.compile(r"[0-9]{1,18}")


def write_folder(
    directory: str | os.PathLike, fill: Callable[[pathlib.Path], None], more: Iterable[str] = ()
) -> pathlib.Path:
    """Writes the folder of an export. It replaces an older export when it is complete.

    Args:
        directory: Path of the folder.
        fill: Function that writes the files into the folder that it is given. If it raises an
            error, the older export stays.
        more: Names of files that an older export may hold besides those of the built-in formats.

    Returns:
        The absolute path of the folder.

    Raises:
        InputError: The folder cannot be written, or holds a file that no export writes.
    """
    directory = check_target(directory, more)
    beside = beside_of(directory)
    remove_leftovers(directory.parent, directory.name)
    try:
        fill(beside)
        _check_replaceable(directory, more)  # again, because writing takes about a minute
        replace_folder(beside, directory)
    finally:
        remove_folder(beside)
    return directory


def version_folder(directory: str | os.PathLike, version: int) -> pathlib.Path:
    """Returns the folder of a version below a folder, as TensorFlow Serving expects it.

    Args:
        directory: The folder of all versions. It may be missing.
        version: The number of the version. -1: the number after the largest one that is there.

    Raises:
        InputError: The folder is an export itself, or cannot be read.
    """
    directory = user_path(directory).resolve()
    if (directory / DESCRIPTION).exists():
        raise InputError(
            f"{directory} is an export itself, so it cannot hold versions. Give another "
            "--export_dir, or leave out --version."
        )
    if version == -1:
        with writing(directory):
            names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        version = 1 + max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)
    return directory / str(version)


def check_target(directory: str | os.PathLike, more: Iterable[str] = ()) -> pathlib.Path:
    """Makes sure that an export can be written to a folder, and returns its absolute path.

    Args:
        directory: Path of the folder.
        more: As in `write_folder`.

    Raises:
        InputError: The folder cannot be written, or holds a file that no export writes.
    """
    directory = user_path(directory).resolve()
    _check_replaceable(directory, more)
    missing = [path for path in directory.parents if not path.exists()]
    make_folder(directory.parent)
    beside = beside_of(directory)
    with writing(directory):
        remove_folder(beside)  # left by a killed program with the same process number
        try:
            beside.mkdir()
            beside.rmdir()
        except OSError:
            for path in missing:
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise
    return directory


def _check_replaceable(directory: pathlib.Path, more: Iterable[str]):
    """Raises InputError unless the directory holds only the files of an older export."""
    with writing(directory):
        if not directory.exists():
            return
        if not directory.is_dir():
            raise InputError(f"{directory} is a file. Give a folder for the export.")
        found = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))
    if found and DESCRIPTION not in found:
        raise InputError(f"{directory} is not an export. Give an empty or a new folder.")
    others = [name for name in found if not _WRITTEN.fullmatch(name) and name not in set(more)]
    if others:
        left = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        raise InputError(
            f"{directory} holds {', '.join(map(short, others[:3]))}{left}, which no export writes "
            "and a new export would remove. Move them elsewhere, or give another --export_dir."
        )
