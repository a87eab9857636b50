"""The one error type for what a user gave and this package cannot use.

Libraries raise it; programs print its one line and exit with code 1. Anything
else that escapes is a defect of the package and keeps its traceback.
"""

import re
from typing import Any


def plain(error: Exception | str) -> str:
    """The first line of what an error says, without TensorFlow's own marks."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error)).strip()
    return text.splitlines()[0][:200] if text else "unreadable"


def short(value: Any) -> str:
    """What a value looks like, in 80 characters at most."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class InputError(ValueError):
    """A value, file or data set that cannot be used.

    The message names the value given, the value needed and the way out.

    Example:

        >>> issubclass(InputError, ValueError)
        True
    """
