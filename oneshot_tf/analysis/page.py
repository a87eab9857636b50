"""Writes an HTML page that opens offline and on phones, with its plots and tables as files."""

import functools
import html
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from oneshot_tf.system.files import make_folder, write_atomically
from oneshot_tf.system.printable import csv_text, printable

_STYLE = """
body { font: 16px/1.5 sans-serif; margin: 0 auto; padding: 1rem; max-width: 60rem; color: #222 }
svg { max-width: 100%; height: auto } figure { margin: 1.5rem 0 } figcaption { color: #555 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 0.9rem }
th, td { border-bottom: 1px solid #ccc; padding: 0.3rem 0.6rem; text-align: right }
th:first-child, td:first-child { text-align: left } code { overflow-wrap: anywhere }
.missing { background: #fff3cd; padding: 0.5rem 1rem }
"""


def _escaped(text: str) -> str:
    return html.escape(printable(text))


class Page:
    """An HTML page. It collects parts in order and then writes them."""

    def __init__(self):
        self._body, self._files = [], {}

    def head(self, title: str, text: str = "") -> None:
        """Begins a section."""
        self._body.append(f"<h2>{_escaped(title)}</h2>")
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._body.append(f"<p>{_escaped(text)}</p>")

    def code(self, text: str) -> None:
        """Adds a paragraph of code."""
        self._body.append(f"<p><code>{_escaped(text)}</code></p>")

    def missing(self, what: str, command: str) -> None:
        """Adds a note about missing data, and the command that creates it."""
        self._body.append(
            f"<p class='missing'>{_escaped(what)} To add the missing data, run: "
            f"<code>{_escaped(command)}</code></p>"
        )

    def figure(self, name: str, svg: str, caption: str) -> None:
        """Adds a plot, which is also written as name.svg."""
        self._files[f"{name}.svg"] = svg
        self._body.append(f"<figure>{svg}<figcaption>{_escaped(caption)}</figcaption></figure>")

    def table(self, name: str, titles: Sequence[str], rows: Any, caption: str) -> None:
        """Adds a table of texts, which is also written as name.csv."""
        self._files[f"{name}.csv"] = csv_text([titles, *rows])
        head = "".join(f"<th>{_escaped(title)}</th>" for title in titles)
        lines = (
            "<tr>" + "".join(f"<td>{_escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        self._body.append(
            f"<div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>"
            f"<p>{_escaped(caption)}</p>"
        )

    def write(self, folder: str | os.PathLike, title: str, words: Any) -> pathlib.Path:
        """Writes the page and its files into a folder, and returns the path of report.html.

        Args:
            folder: The folder. It is created if it is missing.
            title: Title of the page.
            words: The conclusions, one text each. They come first on the page.
        """
        folder = make_folder(folder)
        for name, text in self._files.items():
            write_atomically(folder / name, functools.partial(_write, text))
        items = "".join(f"<li>{_escaped(text)}</li>" for text in words)
        page = (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{_escaped(title)}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{_escaped(title)}</h1><h2>Conclusions</h2><ul>{items}</ul>"
            f"{''.join(self._body)}</body></html>\n"
        )
        write_atomically(folder / "report.html", lambda file: file.write(page))
        return folder / "report.html"


def _write(text: str, file: Any) -> None:
    file.write(text)
