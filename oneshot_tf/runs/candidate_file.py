"""candidates.csv: one line per candidate, with checks for every line."""

import contextlib
import csv
import gc
import io
import pathlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from oneshot_tf.runs.candidate_table import (
    AGAIN,
    COLUMNS,
    ORIGIN,
    Run,
    Table,
    check_all,
    check_measured,
)
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.space.reading import Reader
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import append_line, read_text, write_atomically

# The last column holds the first digits of the run's id, and a checksum of the line without its
# rank. Runs that an earlier version began have no id and no such column.
RUN = "run"
_DIGITS = 8  # digits of the run's id in that column


class CandidateFile:
    """The file candidates.csv of a run.

    A search appends lines while it runs, and sorts them by rank when it stops.

    Args:
        directory: The `RunDirectory`. Its space, its nets, its validation images, its id and its
            search.json determine the valid values of a line.
        writes: Whether this process writes the file. False in workers that only take part in a
            search.
        path: Path of the file. None: candidates.csv of the search.
    """

    def __init__(self, directory: Any, writes: bool = True, path: pathlib.Path | None = None):
        self.path = path or directory.searched / "candidates.csv"
        self.directory, self.writes = directory, writes
        run_id = directory.run_id()
        self._run = [] if run_id is None else [run_id[:_DIGITS]]
        self._columns = [*COLUMNS, *([*ORIGIN, RUN] if self._run else [])]
        # The contents of the file. None if they are unknown, or the file must be written.
        self._lines: list[Candidate] | None = None

    def read(self) -> list[Candidate]:
        """Returns the candidates in the file, or an empty list if there is no file.

        An incomplete last line is dropped.

        Raises:
            InputError: A line is damaged or belongs to another run, or it holds a value that
                cannot have been measured or does not follow from its architecture. The message
                gives the number of the line.
        """
        if not self.path.exists():
            return []
        with _without_collection():
            return self._read()

    def _read(self):
        whole, newline, half = read_text(self.path).rpartition("\n")
        if not newline and not ",".join(self._columns).startswith(half):
            self._check_header(next(csv.reader([half]), []))
        if half:
            print(
                f"{self.path}: the last line is incomplete. It is dropped, and its candidate will "
                "be evaluated again.",
                flush=True,
            )
        numbers, rows = self._rows(whole + newline)
        if not rows:
            return []
        table = self._table(numbers, rows)
        candidates = table.candidates()
        check_all(table, candidates, Run.of(self.directory))
        self._check_stamps(numbers, rows)
        self._lines = None if half else candidates
        return list(candidates)

    def _rows(self, text: str):
        """Returns the numbers of the lines and their fields, without the header."""
        reader = csv.reader(io.StringIO(text))
        numbers, rows = [], []
        try:
            header = next(reader, self._columns)
            self._check_header(header)
            for row in reader:
                if len(row) != len(header):
                    raise InputError(
                        f"{self.path}, line {reader.line_num}: a line must have {len(header)} "
                        f"fields; got {len(row)}. {AGAIN}"
                    )
                numbers.append(reader.line_num)
                rows.append(row)
        except csv.Error as error:
            raise InputError(f"{self.path}, line {reader.line_num}: {error}. {AGAIN}") from None
        return numbers, rows

    def _check_header(self, header: list[str]):
        if self._run and header == [*COLUMNS, RUN]:  # an earlier version wrote it; it stays so
            self._columns = header
        if header == self._columns:
            return
        if header in ([*COLUMNS], [*COLUMNS, RUN], [*COLUMNS, *ORIGIN, RUN]):
            lacks = "no column" if self._run else "a column"
            begun = "this version" if self._run else "an earlier version"
            raise InputError(
                f"{self.path} belongs to another run: it has {lacks} '{RUN}', but {begun} began "
                f"the run in {self.directory.path}. {_own(self.path)}"
            )
        raise InputError(
            f"{self.path} must have the columns {', '.join(self._columns)}; it has {short(header)}."
        )

    def _table(self, numbers: list[int], rows: list[list[str]]):
        """Checks that the lines belong to this run, and returns them as a table of numbers."""
        columns = {name: ("",) * len(rows) for name in ORIGIN}
        columns.update(zip(self._columns, zip(*rows)))

        def where(row: int):
            return f"{self.path}, line {numbers[row]}"

        if self._run:
            for row, run in enumerate(columns[RUN]):
                run = run.partition("-")[0]
                if run != self._run[0]:
                    raise InputError(
                        f"{where(row)} belongs to the run {short(run)}; this is the run "
                        f"'{self._run[0]}'. {_own(self.path)}"
                    )
        read = Reader(self.directory.space())
        kinds: dict[str, tuple[Any, Any, str]] = dict.fromkeys(
            COLUMNS, (_number, np.float64, "a number")
        )
        whole: dict[str, Any] = dict.fromkeys(("num_images", "parameters", "multiply_adds"), int)
        optional = dict.fromkeys(("rank", *ORIGIN), lambda text: int(text or 0))
        for name, convert in {**whole, **optional}.items():
            kinds[name] = (convert, np.int64, "a whole number")
        kinds["architecture"] = (read, object, "")
        return Table(where, **{
            name: _converted(columns[name], name, where, *kind) for name, kind in kinds.items()
        })  # fmt: skip

    def _check_stamps(self, numbers: list[int], rows: list[list[str]]):
        """Raises InputError for a line that was changed, even if its new values are valid."""
        for number, row in zip(numbers, rows if self._run else ()):
            if row != self._stamped(row[:-1]):
                raise InputError(
                    f"{self.path}, line {number} was changed after it was written: its checksum "
                    f"does not match. {AGAIN}"
                )

    def _stamped(self, row: list[str]) -> list[str]:
        """Returns the fields of a line, followed by the field of the column `RUN`."""
        if not self._run:
            return row
        return [*row, f"{self._run[0]}-{zlib.crc32(','.join(row[1:]).encode()):08x}"]

    def _line(self, candidate: Candidate) -> list[str]:
        """Returns the fields of a candidate for the columns that the file has."""
        row = candidate.row()
        return self._stamped(row if ORIGIN[0] in self._columns else row[: len(COLUMNS)])

    def holds(self, candidates: list[Candidate]) -> bool:
        """Returns whether the file is known to hold exactly these candidates, in this order."""
        return self._lines == candidates

    def write(self, candidates: Iterable[Candidate]) -> None:
        """Replaces the whole file atomically.

        Raises:
            InputError: A candidate has a value that cannot have been measured.
        """
        candidates = list(candidates)
        check_measured(Table.of(candidates))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self._columns)
        writer.writerows(map(self._line, candidates))
        if self.writes:
            write_atomically(self.path, lambda file: file.write(text.getvalue()))
        self._lines = candidates

    def append(self, candidate: Candidate) -> None:
        """Appends one line. Raises InputError as `write` does."""
        check_measured(Table.of([candidate]))
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(self._line(candidate))
        if self.writes:
            append_line(self.path, text.getvalue())
        self._lines = None


@contextlib.contextmanager
def _without_collection():
    """Pauses Python's cyclic garbage collector. Reading creates no cycles.

    Reading creates many objects that stay, so the collector would scan all of TensorFlow's objects
    again and again. That took two fifths of the time for 100,000 lines.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _own(path: pathlib.Path) -> str:
    return (
        f"Restore this run's own {path.name}, or move it, search.json and race.npz away to "
        "search anew."
    )


def _number(text: str) -> float:
    """Returns the number of a text, or NaN for an empty text. The text "nan" is refused."""
    if not text:
        return np.nan
    value = float(text)
    if value != value:
        raise ValueError("not a number")
    return value


def _converted(
    texts: Sequence[str],
    name: str,
    where: Callable[[int], str],
    convert: Callable[[str], Any],
    dtype: Any,
    kind: str,
) -> np.ndarray:
    """Returns the values of a column. Raises InputError for the first that cannot be converted."""
    values = np.empty(len(texts), dtype)
    try:
        values[:] = list(map(convert, texts))
        return values
    except (ValueError, OverflowError):  # InputError is a ValueError
        pass
    for row, text in enumerate(texts):
        try:
            values[row] = convert(text)
        except InputError as error:
            raise InputError(f"{where(row)}: `{name}`: {error} {AGAIN}") from None
        except (ValueError, OverflowError):
            raise InputError(
                f"{where(row)}: `{name}` must be {kind}; got {short(text)}. {AGAIN}"
            ) from None
    return values
