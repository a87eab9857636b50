"""The folder of an export. It is replaced as a whole. A user's files in it are never removed.

By default every export gets a numbered folder of its own, a version, as TensorFlow Serving expects
it.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator

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
from oneshot_tf.system.locks import locked
from oneshot_tf.system.versions import numbers

DESCRIPTION, TABLE = "architecture.json", "formats.json"
# The files of an export that this package, TensorFlow and the converters write.
_WRITTEN = re.compile(
    r"(architecture|formats)\.json|saved_model\.pb|fingerprint\.pb|assets|"
    r"assets\.extra(/tf_serving_warmup_requests)?|"
    r"variables(/variables\.(index|data-\d{5}-of-\d{5}))?|"
    r"model(_fp16|_int8)?\.(keras|tflite|onnx|xml|bin)"
)
_MOST_LISTED = 10


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


@contextlib.contextmanager
def target_folder(
    root: str | os.PathLike, version: int, more: Iterable[str] = ()
) -> Iterator[pathlib.Path]:
    """Chooses the folder to write an export to. No other export can choose it during the block.

    Args:
        root: The folder of all versions. It may be missing.
        version: The number of the version. 0: `root` itself. -1: the number after the largest one
            that is there.
        more: As in `write_folder`.

    Yields:
        The absolute path of the folder.

    Raises:
        InputError: The folder cannot be written, or holds a file that no export writes. Or `root`
            is an export itself, or another export writes a version there.
    """
    root = user_path(root).resolve()
    if version == 0:
        found = numbers(root)
        if found and not (root / DESCRIPTION).exists():
            raise InputError(
                f"{root} holds numbered versions ({_listed(found)}), so --version=0 cannot write "
                "there. Leave out --version to add the next one, or give another --export_dir."
            )
        yield check_target(root, more)
        return
    _check_root(root)
    with locked(root, name=".export.lock"):
        with writing(root):
            left = [re.match(r"\.([0-9]+)\.", path.name) for path in root.iterdir()]
        for number in {match[1] for match in left if match}:
            remove_leftovers(root, number)  # of a killed program, perhaps of another version
        chosen = version if version > 0 else 1 + max(numbers(root), default=0)
        yield check_target(root / str(chosen), more)


def _check_root(root: pathlib.Path):
    """Raises InputError if a folder cannot hold versions."""
    if (root / DESCRIPTION).exists():
        raise InputError(
            f"{root} is an export itself, as --version=0 and earlier releases write it, so it "
            "cannot hold numbered versions. Give --version=0 to replace it, move it away, or give "
            "another --export_dir."
        )
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file. Give a folder for the export.")


def versions_beside(target: pathlib.Path) -> str:
    """Returns a sentence about the versions in the folder of a version, and their size."""
    found = numbers(target.parent)
    size = sum(
        path.stat().st_size
        for name in found.values()
        for path in (target.parent / name).rglob("*")
        if path.is_file()
    )
    return (
        f"{target.parent} holds {'version' if len(found) == 1 else 'versions'} {_listed(found)}, "
        f"{size / 1e6:.1f} MB in all. TensorFlow Serving and predict take {max(found)}."
    )


def _listed(found: Iterable[int]) -> str:
    names = list(map(str, found))
    if len(names) > _MOST_LISTED:
        return f"{names[0]} to {names[-1]}"
    return ", ".join(names)


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
