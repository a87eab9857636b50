"""auto.json: what was asked of `auto`, what it decided, and how far it came.

A decision is written before it is acted on. So a run that was killed goes on with the same sizes
and lengths, although the time that is left has changed. Copies of the program that share a run read
the file before they decide, and change it in turn.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from oneshot_tf.runs.same_settings import check_same
from oneshot_tf.settings import Settings
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_form, read_json, write_json
from oneshot_tf.system.locks import in_turn

NAME = "auto.json"
_FORM = {"asked": dict, "decisions": dict, "done": [str], "seconds": dict, "spent": float,
         "open": (str, None)}  # fmt: skip


class Diary:
    """The file auto.json in a run directory.

    Args:
        folder: The run directory.
        asked: The settings of the program by group. A run resumes only with the same, unless no
            phase has begun.
        shared: Whether other copies of the program may use the file.

    Raises:
        InputError: The folder has a run that `auto` did not begin, or the settings differ.
    """

    def __init__(self, folder: pathlib.Path, asked: Mapping[str, Settings], shared: bool = False):
        self.path, self._shared = folder / NAME, shared
        self._began, self._before, self._turns = time.monotonic(), 0.0, 0
        self._state: dict[str, Any]
        new = self._state = {
            "asked": {name: group.to_dict() for name, group in asked.items()},
            "decisions": {}, "done": [], "seconds": {}, "spent": 0.0, "open": None,
        }  # fmt: skip
        with self._turn():
            if self.path.exists():
                self._read()
                if self._state["asked"] != new["asked"] and not (self._began_a_phase() or shared):
                    self._state = new  # only a plan was made, which may have been refused
                    return
                check_same(
                    folder, self._state["asked"], asked,
                    "Give the same value, or another --out.",
                )  # fmt: skip
                self._before = self._state["spent"] + self._unnoted()
            elif (folder / "config.json").exists():
                raise InputError(
                    f"--out={folder} has a run that auto did not begin. Give an empty or a new "
                    "folder."
                )
            elif shared:  # so that a copy with other settings is refused from now on
                self._write()

    def _began_a_phase(self) -> bool:
        return bool(self._state["open"] or self._state["seconds"])

    def _read(self) -> None:
        self._state = read_json(self.path)
        check_form(self.path, self._state, _FORM)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Lets no other copy use the file in the block, which sees what the others wrote."""
        if not self._shared or self._turns:
            yield
            return
        with in_turn(self.path.parent, "use auto.json"):
            self._turns += 1
            try:
                if self.path.exists():
                    self._read()
                yield
            finally:
                self._turns -= 1

    def _unnoted(self) -> float:
        """Returns the seconds that a killed process worked after it last wrote auto.json."""
        if self._state["open"] is None:
            return 0.0
        noted = self.path.stat().st_mtime
        files = (path for path in self.path.parent.rglob("*") if path.is_file())
        times = []
        for path in files:
            with contextlib.suppress(OSError):  # it was removed at this moment
                times.append(path.stat().st_mtime)
        return max(0.0, max(times, default=noted) - noted)

    @property
    def spent(self) -> float:
        """Seconds that this run has taken so far, in all processes."""
        return max(self._state["spent"], self._before + time.monotonic() - self._began)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each phase that is done."""
        return dict(self._state["seconds"])

    def decided(self, name: str, decide: Callable[[], Any]) -> Any:
        """Returns an earlier decision, or decides and writes the decision.

        Args:
            name: Name of the decision.
            decide: Returns the decision, as values for JSON.
        """
        if name not in self._state["decisions"]:
            with self._turn():
                if name not in self._state["decisions"]:
                    value = decide()  # it may make other decisions
                    self._state["decisions"][name] = value
                    self._write()
        return self._state["decisions"][name]

    def is_done(self, phase: str) -> bool:
        """Returns whether a phase is done."""
        with self._turn():
            return phase in self._state["done"]

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Notes how long the block takes, and that a phase is done if it ends without an error."""
        with self._turn():
            self._state["open"] = name
            self._write()
        began, ended = self.spent, False
        try:
            yield
            ended = True
        finally:
            # An error of the block matters more than one of this write.
            quiet = contextlib.nullcontext() if ended else contextlib.suppress(OSError, InputError)
            with quiet, self._turn():
                seconds = self._state["seconds"]
                seconds[name] = seconds.get(name, 0.0) + self.spent - began
                self._state["open"] = None
                if ended and name not in self._state["done"]:
                    self._state["done"].append(name)
                self._write()

    def _write(self) -> None:
        self._state["spent"] = self.spent
        write_json(self.path, self._state)
