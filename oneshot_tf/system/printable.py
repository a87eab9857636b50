"""Text for a terminal, a table and a shell, made of what may come from anybody.

Names and values in a run directory may hold escape sequences, which a terminal obeys, and
formulas, which a spreadsheet runs.
"""

import csv
import io
import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any

# Control characters, formats (such as those that turn the direction of reading), halves of
# characters, what is none (XML refuses some of them), line and paragraph separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # formats too, but words of Persian and emoji need them
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")
# A number, also with an interval behind it, or the sign for none.
_NUMBER = re.compile(
    r"-|[+-]?(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?( \([-+.,\d]+ to [-+.,\d]+\))?", re.ASCII
)


def printable(value: Any, keep: str = "") -> str:
    """The text of a value, with escapes (such as `\\x1b`) for characters that show nothing.

    Args:
        value: any.
        keep: characters that stay as they are.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in _HIDDEN and char not in keep + _JOINERS
        else char
        for char in text
    )


def command(program: str, *arguments: object) -> str:
    """A command that runs one of the programs, quoted for a shell.

    Args:
        program: such as "train".
        arguments: flags such as "--run_dir=runs/1", and other words.
    """
    return shlex.join(["python", "-m", f"oneshot_tf.{program}", *map(str, arguments)])


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows of cells as CSV, safe to open in a terminal and in a spreadsheet.

    Hidden characters are escaped. A cell that a spreadsheet would run as a formula gets an
    apostrophe in front; numbers stay as they are.
    """

    def cell(value: Any):
        text = printable(value)
        formula = _FORMULA.match(str(value)) and not _NUMBER.fullmatch(text)
        return f"'{text}" if formula else text

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()
