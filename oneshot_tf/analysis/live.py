"""RUN_DIR/report/live.html: how far a program is, on a page that a browser keeps fresh.

A program opens the page with `live_page`. Then the page watches the progress lines of the process
(see `system.progress`), and is written again after such a line. No server is needed.
A program that runs several programs says with `phase` which one it is at.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator, Mapping

from oneshot_tf.analysis.curves import curve, thinned
from oneshot_tf.analysis.drawing import draw
from oneshot_tf.analysis.style import document, escaped
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import write_atomically
from oneshot_tf.system.interrupts import Interrupted
from oneshot_tf.system.locks import locked
from oneshot_tf.system.progress import Progress, duration, watching

_SECONDS = 3.0  # least time between two versions of a page
_REFRESH, _REFRESH_AT_END = 5, 30  # seconds after which a browser reads the page again
# Seconds without a new version after which the page says so: at least, and before the first line.
_PATIENCE, _PATIENCE_AT_START = 60.0, 600.0
_MOST_CURVES, _MOST_PAGES = 6, 100

_STYLE = """
.state { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: baseline }
.state b { font-size: 1.15rem } .bar { height: 0.9rem; border-radius: 0.45rem; overflow: hidden;
  background: var(--card); border: 1px solid var(--line); margin: 0.75rem 0 }
.bar i { display: block; height: 100%; background: var(--accent) }
.now { font-variant-numeric: tabular-nums } .now p { margin: 0.35rem 0; max-width: none }
[hidden] { display: none }
"""
# The page comes from a file, so only the browser knows how old it is when someone looks at it.
_SCRIPT = """
const page = document.currentScript.dataset, note = document.getElementById('old');
const look = () => { note.hidden = Date.now() / 1000 - page.written < page.patience };
if (note) { look(); setInterval(look, 1000) }
try {
  scrollTo(0, sessionStorage.getItem(location.pathname));
  addEventListener('pagehide', () => sessionStorage.setItem(location.pathname, scrollY));
} catch (error) { /* the browser keeps nothing for files */ }
"""


@dataclasses.dataclass
class Phase:
    """A phase of a longer work.

    Args:
        name: What is done in it.
        number: Its number, from 1.
        count: Number of phases.
        seconds_left: Seconds that the whole work should still take. None: not known.
    """

    name: str
    number: int
    count: int
    seconds_left: float | None = None

    def __post_init__(self) -> None:
        self._since = time.monotonic()

    def expect(self, seconds_left: float | None) -> None:
        """Replaces the time that the whole work should still take."""
        self.seconds_left, self._since = seconds_left, time.monotonic()

    def words(self) -> str:
        """Returns for example "Phase 3 of 7: search; 12m00s left in all"."""
        text = f"Phase {self.number} of {self.count}: {self.name}"
        if self.seconds_left is None:
            return text
        left = max(0.0, self.seconds_left - (time.monotonic() - self._since))
        return f"{text}; {duration(left)} left in all"


_phases: list[Phase] = []


@contextlib.contextmanager
def phase(name: str, number: int, count: int, seconds_left: float | None = None) -> Iterator[Phase]:
    """Says on the live pages of the block which phase of a longer work this is.

    Example:

        >>> with phase("search", 3, 7, seconds_left=720.0) as now:
        ...     now.words()  # here, call search.main(...)
        'Phase 3 of 7: search; 12m00s left in all'

    Args:
        name, number, count, seconds_left: As in `Phase`. The page counts the seconds down.

    Yields:
        The `Phase`. Its `expect` replaces the time left.
    """
    _phases.append(Phase(name, number, count, seconds_left))
    try:
        yield _phases[-1]
    finally:
        _phases.pop()


@contextlib.contextmanager
def live_page(directory: RunDirectory, program: str, writes: bool = True) -> Iterator[None]:
    """Keeps the live page of a run while the block runs, and prints its path.

    The page begins when work begins, so that a mistake in the settings writes nothing. If other
    programs of the run have live.html now, the page is live_2.html or the next free one. If the
    page cannot be written, one line says so, and the program goes on.

    Args:
        directory: The run. It must exist.
        program: Name of the program.
        writes: False in workers that write no files.
    """
    if not writes:
        yield
        return
    with contextlib.ExitStack() as stack:
        path = _free_page(stack, directory.path / "report")
        page = LivePage(path, directory.path.resolve().name, program)
        stack.enter_context(watching(page))
        with page.ending():
            yield


def _free_page(stack: contextlib.ExitStack, folder: pathlib.Path) -> pathlib.Path:
    """Returns the first page that no other program has, and keeps it until the stack closes."""
    names = ["live", *(f"live_{number}" for number in range(2, _MOST_PAGES + 1))]
    for name in names:
        try:
            stack.enter_context(locked(folder, name=f".{name}.lock"))
        except InputError:
            if folder.is_dir():  # another program has the page
                continue
            break  # the folder cannot be written, which the page will say
        return folder / f"{name}.html"
    return folder / "live.html"


class LivePage:
    """A page about the work of this process. It is a `Watcher`.

    Args:
        path: The HTML file. Its folder must exist.
        title: Title of the page.
        program: Name of the program.
        seconds: Least time between two versions, except for the last one.
    """

    def __init__(
        self, path: str | os.PathLike, title: str, program: str, seconds: float = _SECONDS
    ):
        self.path, self.title, self.program = pathlib.Path(path), title, program
        self._seconds, self._state = seconds, "runs"
        self._works: dict[str, Progress] = {}  # by title, the newest one last
        self._facts: dict[str, str] = {}
        self._begun = self._warned = False
        self._written = 0.0
        self._line = self._longest = 0.0  # the time of the last line, and between two at most

    def told(self, facts: Mapping[str, str]) -> None:
        """Keeps facts for the next version of the page, and writes it if nothing else will soon."""
        self._facts.update(facts)
        if not self._works:
            self.write()

    def progress(self, progress: Progress) -> None:
        """Keeps the progress, and writes the page if it is time."""
        now = time.monotonic()
        if self._line:  # the time before the first line says nothing about later ones
            self._longest = max(self._longest, now - self._line)
        self._line = now if progress.done else 0.0
        self._works.pop(progress.title, None)
        self._works[progress.title] = progress
        if not self._begun or now - self._written >= self._seconds:
            self.write()

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Writes the last version of the page, which says how the block ended."""
        try:
            yield
        except (KeyboardInterrupt, Interrupted):
            self._end("was stopped. To resume, repeat the command")
            raise
        except BaseException as error:
            self._end(f"ended with an error: {str(error).rstrip('.') or type(error).__name__}")
            raise
        self._end("is done")

    def _end(self, state: str) -> None:
        self._state = state
        if self._begun:
            self.write()

    def write(self) -> bool:
        """Writes the page atomically. Returns False if it cannot be written."""
        self._written = time.monotonic()
        try:
            text = self.html()
            # Without waiting for the disk: a page lost in a crash is no loss.
            write_atomically(self.path, lambda file: file.write(text), flush=False)
        except Exception as error:  # whatever it is, it must not end a training of days
            if not self._warned:
                why = getattr(error.__context__, "strerror", None) or error
                print(
                    f"Warning: the live page {self.path} cannot be written ({why}). The program "
                    "goes on without it.",
                    flush=True,
                )
            self._warned = True
            return False
        if not self._begun:
            print(f"Live page: {self.path}", flush=True)
        self._begun = True
        return True

    def html(self) -> str:
        """Returns the page."""
        runs, now = self._state == "runs", time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        stamp = time.strftime(f"%Y-%m-%d {clock}", time.localtime(now))
        began = any(work.done for work in self._works.values())
        patience = max(_PATIENCE if began else _PATIENCE_AT_START, 3 * self._longest)
        old = (
            f"<p class='missing' id='old' hidden>Last update {clock}; the program may have "
            "stopped.</p>"
        )
        body = (
            f"<h1>{escaped(self.title)}</h1>{old if runs else ''}"
            f"<div class='now'>{self._now()}<p class='dim'>Last update {stamp}.</p></div>"
            f"<div class='figures'>{self._curves()}{self._best()}</div>"
            f"<script data-written='{now:.0f}' data-patience='{patience:.0f}'>{_SCRIPT}</script>"
        )
        seconds = _REFRESH if runs else _REFRESH_AT_END
        refresh = f"<meta http-equiv='refresh' content='{seconds}'>"
        return document(f"{self.title}: {self.program}", body, refresh, _STYLE)

    def _now(self) -> str:
        """Returns the phase, the work in hand, and the time left."""
        parts = [f"<p><b>{escaped(phase.words())}</b></p>" for phase in _phases[-1:]]
        words = [f"<b>{escaped(self.program)}</b>", escaped(self._facts.get("part", ""))]
        state = "" if self._state == "runs" else f"{self.program} {self._state}."
        parts.append(f"<div class='state'>{' '.join(filter(None, words))}</div>")
        if state:
            parts.append(f"<p>{escaped(state)}</p>")
        works = list(reversed(self._works.values()))
        if not (works or state):
            parts.append("<p>The first step takes a while.</p>")
        parts += [self._bar(w) for w in works[:1] + [w for w in works[1:] if w.done < w.total]]
        return "".join(parts)

    def _bar(self, work: Progress) -> str:
        """Returns the progress of some work: a bar, its numbers and the time left."""
        share = min(work.done / work.total, 1.0) if work.total else 1.0
        lines = [f"{work.title}: {work.done:,} of {work.total:,} {work.unit} ({share:.0%})"]
        if self._state == "runs" and work.done < work.total:
            lines.append(work.speed() or "The time left is not known yet.")
        rate, more = work.rate(work.done), int(self._facts.get("more", 0))
        if self._state == "runs" and rate and more:
            left = (work.total - work.done + more * work.total) / rate
            lines.append(f"About {duration(left)} left with the {more} more to train.")
        words = "".join(f"<p>{escaped(line)}</p>" for line in [*lines, work.text] if line)
        return f"<div class='bar'><i style='width:{100 * share:.1f}%'></i></div>{words}"

    def _curves(self) -> str:
        """Returns the curves of the work, the newest first."""
        drawn = []
        for work in reversed(self._works.values()):
            some = thinned(work.points)
            names = dict.fromkeys(name for _, values in some for name in values)
            for name in names:
                points = [(x, values[name]) for x, values in some if name in values]
                svg = curve(points, work.axis[0], name)
                caption = f"<figcaption>{escaped(work.title)}</figcaption>"
                if svg:
                    more = caption if len(self._works) > 1 else ""
                    drawn.append(f"<figure>{svg}{more}</figure>")
        return "".join(drawn[:_MOST_CURVES])

    def _best(self) -> str:
        """Returns the architecture that matters now, with a drawing of its cell."""
        text, about = (self._facts.get(name, "") for name in ("architecture", "about"))
        if not text:
            return ""
        drawing = ""
        with contextlib.suppress(InputError):  # a baseline has no cell
            drawing = f"<figure>{draw(Architecture.from_text(text))}</figure>"
        head = escaped(about or "The net in training")
        return f"<section><h3>{head}</h3><p><code>{escaped(text)}</code></p>{drawing}</section>"
