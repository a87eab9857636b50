"""Numbered folders, one for each version of a model, as TensorFlow Serving expects them."""

import contextlib
import os
import pathlib
import re

_NUMBER = re.compile(r"[0-9]{1,18}")


def numbers(folder: str | os.PathLike) -> dict[int, str]:
    """Returns the names in a folder that are numbers, by number, in ascending order.

    Args:
        folder: The folder. It may be missing.
    """
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = os.listdir(folder)
    return {int(name): name for name in sorted(filter(_NUMBER.fullmatch, names), key=int)}


def newest(folder: str | os.PathLike) -> pathlib.Path | None:
    """Returns the numbered folder with the largest number in a folder, or None.

    Args:
        folder: The folder. It may be missing.
    """
    folders = [pathlib.Path(folder, name) for name in numbers(folder).values()]
    return next((path for path in reversed(folders) if path.is_dir()), None)
