"""Writes an HTML page that opens offline and on phones, with its plots and tables as files."""

import functools
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from oneshot_tf.analysis.style import document, escaped
from oneshot_tf.system.files import make_folder, write_atomically
from oneshot_tf.system.printable import csv_text

_LONG = 24  # characters of a cell that is set as text, from the left


class Page:
    """An HTML page. It collects parts in order and then writes them."""

    def __init__(self):
        self._body, self._files, self._conclusions = [], {}, 0

    def head(self, title: str, text: str = "") -> None:
        """Begins a section."""
        self._body.append(f"<h2>{escaped(title)}</h2>")
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._body.append(f"<p>{escaped(text)}</p>")

    def code(self, text: str) -> None:
        """Adds a paragraph of code."""
        self._body.append(f"<p><code>{escaped(text)}</code></p>")

    def html(self, text: str) -> None:
        """Adds HTML, in which the caller has escaped all that is not his own."""
        self._body.append(text)

    def conclusions(self) -> None:
        """Puts the conclusions here. Otherwise they come first."""
        self._conclusions = len(self._body)

    def missing(self, what: str, command: str) -> None:
        """Adds a note about missing data, and the command that creates it."""
        self._body.append(
            f"<div class='missing'>{escaped(what)} To add the missing data, run:"
            f"<pre><code>{escaped(command)}</code></pre></div>"
        )

    def figure(self, name: str, svg: str, caption: str) -> None:
        """Adds a plot, which is also written as name.svg. Plots in a row stand side by side."""
        self._files[f"{name}.svg"] = svg
        self._body.append(f"<figure>{svg}<figcaption>{escaped(caption)}</figcaption></figure>")

    def table(self, name: str, titles: Sequence[str], rows: Any, caption: str) -> None:
        """Adds a table of texts, which is also written as name.csv."""
        self.file_of_table(name, titles, rows)
        head = "".join(f"<th>{escaped(title)}</th>" for title in titles)
        lines = ("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        self._body.append(
            f"<div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>"
            f"<p class='dim'>{escaped(caption)}</p>"
        )

    def file_of_table(self, name: str, titles: Sequence[str], rows: Any) -> None:
        """Writes a table of texts as name.csv only."""
        self._files[f"{name}.csv"] = csv_text([titles, *rows])

    def write(self, folder: str | os.PathLike, title: str, words: Any) -> pathlib.Path:
        """Writes the page and its files into a folder, and returns the path of report.html.

        Args:
            folder: The folder. It is created if it is missing.
            title: Title of the page.
            words: The conclusions, one text each.
        """
        folder = make_folder(folder)
        for name, text in self._files.items():
            write_atomically(folder / name, functools.partial(_write, text))
        items = "".join(f"<li>{escaped(text)}</li>" for text in words)
        parts, place = self._body, self._conclusions
        parts = [*parts[:place], f"<h2>Conclusions</h2><ul>{items}</ul>", *parts[place:]]
        page = document(title, f"<h1>{escaped(title)}</h1>{_in_rows(parts)}")
        write_atomically(folder / "report.html", lambda file: file.write(page))
        return folder / "report.html"


def _in_rows(parts: Sequence[str]) -> str:
    """Joins parts. Figures that follow each other share a row, where the screen is wide."""
    joined = []
    for figures, some in itertools.groupby(parts, lambda part: part.startswith("<figure")):
        group = list(some)
        kind = "figures" if len(group) > 1 else "figures alone"
        joined.append(f"<div class='{kind}'>{''.join(group)}</div>" if figures else "".join(group))
    return "".join(joined)


def _cell(value: object) -> str:
    text = escaped(value)
    return f"<td class='text'>{text}</td>" if len(str(value)) > _LONG else f"<td>{text}</td>"


def _write(text: str, file: Any) -> None:
    file.write(text)
