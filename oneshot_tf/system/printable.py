"""Safe text for terminals, tables and shells.

Names and values in a run directory may come from anybody. They may hold escape sequences, which a
terminal obeys, and formulas, which a spreadsheet runs.
"""

import csv
import io
import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any

# Control characters, format characters (some reverse the reading direction), surrogates,
# unassigned code points (XML refuses some of them), line separators and paragraph separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # format characters too, but Persian words and emoji need them
# A spreadsheet takes these characters as the beginning of a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")
# A number, with or without an interval after it, or "-" for no value.
_NUMBER = re.compile(
    r"-|[+-]?(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?( \([-+.,\d]+ to [-+.,\d]+\))?", re.ASCII
)


def printable(value: Any, keep: str = "") -> str:
    """Returns the text of a value, with invisible characters escaped, for example as `\\x1b`.

    Args:
        value: Any value.
        keep: Characters that are not escaped.
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
    """Returns a command that runs one of the programs, quoted for a shell.

    Args:
        program: Name of the program, for example "train".
        arguments: Flags, for example "--run_dir=runs/1", and other words.
    """
    return shlex.join(["python", "-m", f"oneshot_tf.{program}", *map(str, arguments)])


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Returns rows of cells as CSV that is safe to open in a terminal and in a spreadsheet.

    Invisible characters are escaped. A cell that a spreadsheet would run as a formula gets an
    apostrophe in front. Numbers stay as they are.
    """

    def cell(value: Any):
        text = printable(value)
        formula = _FORMULA.match(str(value)) and not _NUMBER.fullmatch(text)
        return f"'{text}" if formula else text

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()
