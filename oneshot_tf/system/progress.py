"""Progress lines on the terminal: work done, speed and remaining time.

A watcher sees the same work, for example to draw it on a page. The work calls no watcher itself:
it prints its progress lines, and `tell`s what it works on.
`pieces` cuts work into pieces that are short enough to report, and to lose in a crash.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

_PATIENCE = 5.0  # seconds of work that nobody needs to hear about

Item = TypeVar("Item")


class Watcher(Protocol):
    """What is called while work goes on in this process."""

    def progress(self, progress: "Progress") -> None:
        """Is called when work begins, and for each progress line, after it is printed."""

    def told(self, facts: Mapping[str, str]) -> None:
        """Is called with the facts that the work tells."""


_watchers: list[Watcher] = []


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Calls a watcher for all work of this process while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def tell(**facts: str) -> None:
    """Tells the watchers facts about the work. A fact replaces the last one of its name.

    Args:
        facts: Texts by name. `part`: the part of the work, for example "net 2 of 10".
            `architecture`: the architecture that matters now. `about`: what is known of it.
            `more`: the number of parts as long as this one that follow.
    """
    for watcher in _watchers:
        watcher.told(facts)


class Progress:
    """Printer of progress lines, limited to one line per interval.

    Args:
        title: Name of the work.
        total: Total number of units of work.
        unit: Plural name of the units.
        seconds: Least time between two lines.
        stream: Stream to print to. None: standard output.
        axis: What the points of curves lie over: its name, and how much of it one unit is. None:
            the units themselves.

    Attributes:
        done: Number of units that are done.
        text: The text of the last line.
        points: Pairs (place on the axis, values by name), for curves.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        seconds: float = 5.0,
        stream: Any = None,
        axis: tuple[str, float] | None = None,
    ):
        self.title, self.total, self.unit, self.seconds = title, total, unit, seconds
        self.stream, self.axis = stream, axis or (unit, 1)
        self.text = ""
        self.points: list[tuple[float, Mapping[str, float]]] = []
        self._first: tuple[float, int] | None = (
            None  # (time, done) at the first report: the time before it includes tracing the graph
        )
        self._last = 0.0
        self.done = 0
        for watcher in _watchers:
            watcher.progress(self)

    def point(self, done: int, **values: float) -> None:
        """Keeps values for curves, measured when `done` units are done. It prints nothing."""
        self.points.append((done * self.axis[1], values))

    def update(self, done: int, text: str = "") -> None:
        """Records that `done` units are done. Prints a line if it is time, and at the end."""
        now, self.done, self.text = time.monotonic(), done, text
        if self._first is None:
            self._first = (now, done)
        if now - self._last < self.seconds and done < self.total:
            return
        self._last = now
        print(
            f"{self.title}: {done:,}/{self.total:,} {self.unit}, {self.speed() or '...'}  "
            f"{text}".rstrip(),
            file=self.stream,
            flush=True,
        )
        for watcher in _watchers:
            watcher.progress(self)

    def speed(self) -> str:
        """Returns the speed and the time left as words; empty before the second report."""
        rate = self.rate(self.done)
        left = duration((self.total - self.done) / rate) if rate else ""
        return f"{_short(rate)} {self.unit}/s, {left} left" if rate else ""

    def rate(self, done: int) -> float:
        """Returns the units per second since the first report, or 0 before the second report."""
        if self._first is None:
            return 0.0
        elapsed, worked = time.monotonic() - self._first[0], done - self._first[1]
        return worked / elapsed if elapsed > 0 and worked > 0 else 0.0


def pieces(items: Any, size: int | None = None, seconds: float = 2.0):
    """Yields consecutive pieces of a sequence.

    Args:
        items: The sequence.
        size: Items in each piece. None adapts the size, starting with one item, so that the
            caller takes about `seconds` for each piece.
        seconds: The time that the caller should take for a piece if `size` is None.
    """
    fixed, size, start = size is not None, size or 1, 0
    while start < len(items):
        began = time.monotonic()
        piece = items[start : start + size]
        yield piece
        start += len(piece)
        took = time.monotonic() - began
        if fixed:
            continue
        if took < seconds / 2:
            size *= 2
        elif took > seconds:
            size = max(1, size // 2)


def _short(rate: float):
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Returns a time in seconds as words, for example "1h05m" or "12s"."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def each(items: Iterable[Item], title: str, total: int, unit: str) -> Iterator[Item]:
    """Yields items. If they take longer than a few seconds, it prints progress lines.

    Args:
        items: The items.
        title: Name of the work.
        total: Number of items.
        unit: Plural name of the items.
    """
    progress, began = None, time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if progress is None and time.monotonic() - began > _PATIENCE:
            progress = Progress(title, total, unit)
        if progress is not None:
            progress.update(done)
