"""Searches whose results are known: a table has the accuracy of every architecture.

So a strategy can be judged on exact truth, in seconds.
"""

import csv
import itertools
import os
from collections.abc import Iterator, Mapping

import numpy as np

from oneshot_tf.searching.job import SearchJob
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import read_text, user_path


def look_up_all(job: SearchJob) -> None:
    """Looks up the accuracy of every candidate in the table."""
    table = read_table(user_path(job.settings.table), job.space)
    job.begin()
    progress = job.progress("search in a table")
    for new in job.proposed():
        accuracies = [table[architecture] for architecture in new]
        job.add(new, accuracies, [None] * len(new), [0] * len(new))
        job.report(progress)


def read_table(path: str | os.PathLike, space: Space) -> Mapping[Architecture, float]:
    """Reads the accuracy of every architecture of a space from a CSV file.

    Lines that begin with '#' are comments. Other columns than those of accuracies are ignored.

    Args:
        path: The file. It has a column `architecture` and either a column `accuracy` or several
            columns `accuracy_...`, whose mean counts.
        space: The search space.

    Returns:
        Accuracies in [0, 1] by architecture.

    Raises:
        InputError: The file cannot be read, has other columns, an architecture of another space,
            two lines for one architecture, an accuracy out of range, or lacks an architecture.
    """
    lines = enumerate(read_text(path).split("\n"), 1)
    numbered = [(n, line) for n, line in lines if line.strip() and not line.startswith("#")]
    rows = _rows(path, numbered)
    header: list[str] = next(rows, (0, []))[1]
    columns = [i for i, name in enumerate(header) if _is_accuracy(name)]
    if "architecture" not in header or not columns:
        raise InputError(
            f"{path} must have the column `architecture`, and a column `accuracy` or several "
            f"columns `accuracy_...`; it has {short(header)}."
        )
    place = header.index("architecture")
    table: dict[Architecture, float] = {}
    for number, row in rows:
        where = f"{path}, line {number}"
        if len(row) != len(header):
            raise InputError(f"{where}: it must have {len(header)} fields; got {len(row)}.")
        architecture = _member(where, space, row[place])
        if architecture in table:
            raise InputError(f"{where}: {architecture} has two lines. Remove one of them.")
        table[architecture] = float(np.mean([_share(where, row[i]) for i in columns]))
    _check_complete(path, table, space)
    return table


def _is_accuracy(name: str) -> bool:
    return name == "accuracy" or name.startswith("accuracy_")


def _rows(
    path: str | os.PathLike, numbered: list[tuple[int, str]]
) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line and its fields."""
    reader = csv.reader(line for _, line in numbered)
    try:
        for (number, _), row in zip(numbered, reader):
            yield number, row
    except csv.Error as error:
        raise InputError(f"{path}, line {numbered[reader.line_num - 1][0]}: {error}.") from None


def _member(where: str, space: Space, text: str) -> Architecture:
    try:
        return space.parse(text)
    except InputError as error:
        raise InputError(
            f"{where}: {error} The table must be of the run's search space, which has "
            f"{space.num_architectures:,} architectures."
        ) from None


def _share(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{where}: an accuracy must be a number from 0 to 1; got {short(text)}.")
    return value


def _check_complete(
    path: str | os.PathLike, table: Mapping[Architecture, float], space: Space
) -> None:
    missing = space.num_architectures - len(table)
    if not missing:
        return
    options = itertools.product(*(range(d.num_options) for d in space.decisions))
    first = next(a for a in map(space.architecture, options) if a not in table)
    raise InputError(
        f"{path} has {len(table):,} of the {space.num_architectures:,} architectures of the search "
        f"space. {missing:,} are missing, for example {first}. Add their lines, or search a run "
        "with fewer --num_blocks."
    )
