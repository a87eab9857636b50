"""Writes metrics.jsonl, tracked.jsonl and TensorBoard summaries of a training."""

import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from oneshot_tf.learning.summaries import Summaries
from oneshot_tf.system.files import append_line, write_atomically
from oneshot_tf.system.json_files import read_json_lines

Track = Callable[[int], dict[str, Any]]
_CURVES = ("loss", "accuracy")


class MetricsLog:
    """A log of metrics, averaged over the steps since the last line.

    Args:
        directory: Where the files go; None keeps nothing.
        batch_size: Images in the global batch of a step.
        tracks: Called as `track(step)` at each line of metrics.jsonl, by name of a file. The dict
            that each returns becomes a line of this file.
    """

    def __init__(
        self,
        directory: pathlib.Path | None,
        batch_size: int,
        tracks: Mapping[str, Track] | None = None,
    ):
        self.batch_size, self.file = batch_size, None
        self._tracks = dict(tracks or {})
        self._tracked: dict[str, pathlib.Path] = {}
        self._sums: list[tuple[int, Mapping[str, tf.Tensor]]] = []
        self._since = time.monotonic()
        if directory is not None:
            self.file = directory / "metrics.jsonl"
            self._tracked = {name: directory / name for name in self._tracks}
            self._summaries = Summaries(directory / "tensorboard")

    def truncate(self, step: int) -> None:
        """Drops lines of steps after the checkpoint from which training resumes."""
        for path in (self.file, *self._tracked.values()):
            if path is not None:
                _truncate(path, step)

    def last(self, step: int) -> dict[str, Any]:
        """Returns the last line of metrics.jsonl, or only the step if there is none."""
        lines = read_json_lines(self.file, {"step": int}) if self.file else []
        return lines[-1] if lines else {"step": step}

    def lines(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl that have what `curves` takes."""
        form = {"step": int, **dict.fromkeys(_CURVES, float)}
        return read_json_lines(self.file, form) if self.file else []

    def restart(self) -> None:
        """Forgets the steps since the last line."""
        self._sums, self._since = [], time.monotonic()

    def add(self, number: int, sums: Mapping[str, tf.Tensor]) -> None:
        """Adds what `TrainStep` returned for step `number`."""
        self._sums.append((number, sums))

    @property
    def steps(self) -> list[tuple[int, Mapping[str, tf.Tensor]]]:
        """The steps since the last line: their numbers and metrics."""
        return self._sums

    def write(self, done: int, more: dict[str, float], write: bool = True) -> dict[str, Any]:
        """Logs the means over the steps since the last line.

        Args:
            done: Steps done.
            more: Other numbers for the line, by name.
            write: False in workers that write no files.

        Returns:
            The line; empty if there was no step since the last one.
        """
        if not self._sums:
            return {}
        count, seconds = len(self._sums), time.monotonic() - self._since
        names = self._sums[0][1]
        means = {name: float(sum(sums[name] for _, sums in self._sums)) / count for name in names}
        rate = round(count * self.batch_size / seconds, 1)
        entry = {"step": done, **means, **more, "images_per_second": rate}
        tracked = {name: track(done) for name, track in self._tracks.items()}
        if self.file and write:
            append_line(self.file, json.dumps(entry))
            self._summaries.scalars(done, {k: v for k, v in entry.items() if k != "step"})
            for name, found in tracked.items():
                append_line(self._tracked[name], json.dumps({"step": done, **found}))
            if "decisions.jsonl" in tracked:
                self._summaries.decisions(done, tracked["decisions.jsonl"])
        self.restart()
        return entry


def _truncate(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    lines = read_json_lines(path, {"step": int})
    kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= step]
    write_atomically(path, lambda file: file.writelines(kept))


def words(entry: dict[str, Any]) -> str:
    """Returns the loss and accuracy of a line as text; an empty text for an empty line."""
    return f"loss {entry['loss']:.3f}, accuracy {entry['accuracy']:.3f}" if entry else ""


def curves(entry: dict[str, Any]) -> dict[str, float]:
    """Returns the loss and accuracy of a line, for curves; nothing for an empty line."""
    return {name: entry[name] for name in _CURVES} if entry else {}
