"""The error type for input that this package cannot use, and helpers for messages.

Library code raises `InputError`. The programs print its message as one line and exit with code 1.
Any other error that escapes is a defect of the package and keeps its traceback.
"""

import re
from typing import Any


def plain(error: Exception | str) -> str:
    """Returns the first line of an error's message, without TensorFlow's markup."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error)).strip()
    return text.splitlines()[0][:200] if text else "unreadable"


def short(value: Any) -> str:
    """Returns the `repr` of a value, cut to at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class InputError(ValueError):
    """Error for a value, file or data set that cannot be used.

    The message gives the value, the requirement and the fix.

    Example:

        >>> issubclass(InputError, ValueError)
        True
    """
