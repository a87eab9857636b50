"""Prints which command comes next. A program that runs the others hides these lines."""

import contextlib
from collections.abc import Iterator

_hidden = False


def print_with_next(text: str, next_command: str) -> None:
    """Prints a sentence, and after it the command that comes next.

    Args:
        text: A sentence with its full stop.
        next_command: A command, as `printable.command` returns it.
    """
    print(text if _hidden else f"{text} Next: {next_command}", flush=True)


@contextlib.contextmanager
def without_next() -> Iterator[None]:
    """Hides the commands inside the block."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before
