"""Writes the answers of `predict` as text, CSV or JSON, to standard output or to a file."""

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path
from oneshot_tf.system.interrupts import uninterrupted
from oneshot_tf.system.printable import printable

# A class and its probability.
Answer = tuple[str, float]


def _text(image: str, classes: list[Answer]) -> str:
    words = ", ".join(f"{name} {probability:.3f}" for name, probability in classes)
    return printable(f"{image}: {words}") + "\n"


def _json(image: str, classes: list[Answer]) -> str:
    answer = [{"name": name, "probability": probability} for name, probability in classes]
    return json.dumps({"image": image, "classes": answer}) + "\n"


def _csv(image: str, classes: list[Answer]) -> str:
    rows = [(printable(image), printable(name), f"{p:.6g}") for name, p in classes]
    return _csv_lines(rows)


def _csv_lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# `predict --format=NAME`: the first line, and the lines of an image.
FORMATS: dict[str, tuple[str, Callable[[str, list[Answer]], str]]] = {
    "text": ("", _text),
    "csv": (_csv_lines([("image", "class", "probability")]), _csv),
    "json": ("", _json),
}


class Answers:
    """Writer of answers.

    Args:
        stream: The stream to write to.
        form: A name in FORMATS.
        where: Name of the stream, for messages.

    Attributes:
        count: Number of images whose answers are written.
    """

    def __init__(self, stream: Any, form: str, where: str):
        self._stream, self._where, self.count = stream, where, 0
        self._head, self._lines = FORMATS[form]

    def write(self, answers: list[tuple[str, list[Answer]]]) -> None:
        """Writes the answers of some images at once. An interruption does not cut them.

        Args:
            answers: For each image its name, and classes with their probabilities.
        """
        text = "".join(self._lines(image, classes) for image, classes in answers)
        with uninterrupted(), _writing(self._where):
            self._stream.write(text if self.count else self._head + text)
            self._stream.flush()
            self.count += len(answers)


@contextlib.contextmanager
def _writing(where: str):
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"Cannot write {where}: {reason}. Give --output a path of a new file that can be "
            "written."
        ) from None


def check_output(output: str) -> None:
    """Makes sure that a file can be created.

    Raises:
        InputError: The file exists, or its folder does not exist or cannot be written.
    """
    if not output:
        return
    path = user_path(output)
    if os.path.lexists(path):
        raise InputError(
            f"--output must be a new file, and {output} exists. Move it away, or give another name."
        )
    if not path.parent.is_dir():
        raise InputError(
            f"--output={output} must be in a folder that exists. Create {path.parent}."
        )
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"--output={output} cannot be written: no permission for {path.parent}.")


@contextlib.contextmanager
def opened(output: str, form: str) -> Iterator[Answers]:
    """Yields an `Answers` for standard output, or for a new file.

    A file without any answer is removed at the end.

    Args:
        output: Path of the file. Empty: standard output.
        form: A name in FORMATS.

    Raises:
        InputError: The file exists or cannot be written.
    """
    if not output:
        yield Answers(sys.stdout, form, "standard output")
        return
    path = user_path(output)
    with _writing(output):
        file = open(path, "x", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115
    answers = Answers(file, form, output)
    try:
        yield answers
    finally:
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            file.close()
        if not answers.count:
            with contextlib.suppress(OSError):
                path.unlink()
