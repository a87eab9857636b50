"""Progress lines on the terminal: work done, speed and remaining time.

`pieces` cuts work into pieces that are short enough to report, and to lose in a crash.
"""

import time
from typing import Any


class Progress:
    """Printer of progress lines, limited to one line per interval.

    Args:
        title: Name of the work.
        total: Total number of units of work.
        unit: Plural name of the units.
        seconds: Least time between two lines.
        stream: Stream to print to. None: standard output.

    Attributes:
        done: Number of units that are done.
    """

    def __init__(self, title: str, total: int, unit: str, seconds: float = 5.0, stream: Any = None):
        self.title, self.total, self.unit, self.seconds = title, total, unit, seconds
        self.stream = stream
        self._first: tuple[float, int] | None = (
            None  # (time, done) at the first report: the time before it includes tracing the graph
        )
        self._last = 0.0
        self.done = 0

    def update(self, done: int, text: str = "") -> None:
        """Records that `done` units are done. Prints a line if it is time, and at the end."""
        now, self.done = time.monotonic(), done
        if self._first is None:
            self._first = (now, done)
        if now - self._last < self.seconds and done < self.total:
            return
        self._last = now
        rate = self.rate(done)
        speed = (
            f"{_short(rate)} {self.unit}/s, {_time((self.total - done) / rate)} left"
            if rate
            else "..."
        )
        print(
            f"{self.title}: {done:,}/{self.total:,} {self.unit}, {speed}  {text}".rstrip(),
            file=self.stream,
            flush=True,
        )

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


def _time(seconds: float):
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
