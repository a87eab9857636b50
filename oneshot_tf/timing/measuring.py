"""Measures costs of nets: writes them as files, and times the files in turn."""

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.candidates import spread
from oneshot_tf.serving.formats import FORMATS, SAVED_MODEL
from oneshot_tf.serving.runtimes import APART
from oneshot_tf.serving.saved_model import Preprocessing
from oneshot_tf.settings.limits import RUNTIMES as FORMAT_OF
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.system.files import writing
from oneshot_tf.system.progress import Progress
from oneshot_tf.timing.clock import Order, Times, timed
from oneshot_tf.timing.nets import write_net
from oneshot_tf.timing.tables import Place, new_table
from oneshot_tf.timing.unit_files import write_units
from oneshot_tf.timing.units import units_of

_OF_LATENCY, _OF_FILES = (8, 8), (6, 4)  # nets that give the weights, nets that give the error
_COPIES = {1: 9}  # of a unit, by the number of images
_COPIES_OTHERS = 3  # larger batches take longer and more memory
_TRIES = 1000
_REFERENCES = 5  # nets of a table that are timed again beside other nets


def _by_value(nets: Sequence[Any]) -> list[Any]:
    return sorted(nets, key=lambda net: net["value"])


def sampled(space: Space, count: int) -> list[Architecture]:
    """Returns distinct architectures, always the same ones; fewer if the space has fewer."""
    rng = np.random.default_rng(0)
    found: dict[Architecture, None] = {}
    for _ in range(_TRIES):
        if len(found) < min(count, space.num_architectures):
            found[space.sample(rng)] = None
    return list(found)


class Workshop:
    """Builds and measures the nets of one table.

    Args:
        place: The table.
    """

    def __init__(self, place: Place):
        self.place, self.space = place, place.directory.space()
        facts = place.directory.facts()
        self.size, self.classes = facts["image_size"], len(facts["class_names"])
        mean, std = (np.array(facts[name], np.float32) for name in ("mean", "std"))
        self.preprocessing = Preprocessing(
            self.size, mean, std, "stretch", tuple(facts["class_names"])
        )
        limits = place.limits
        self.format = limits.file_format if place.of_files else FORMAT_OF[limits.latency_of]

    def table(self) -> dict[str, Any]:
        """Measures a new table."""
        fitted, checked = _OF_FILES if self.place.of_files else _OF_LATENCY
        nets = sampled(self.space, fitted + checked)
        fitted = min(fitted, -(-2 * len(nets) // 3))  # a small space
        with self.scratch() as folder:
            if self.place.of_files:
                values, runtime, units = *self._measure(nets, folder), None
            else:
                values, runtime, units = self._with_units(nets, folder)
        return new_table(nets, values, fitted, units, runtime)

    def _with_units(
        self, nets: Sequence[Architecture], folder: pathlib.Path
    ) -> tuple[list[float], str, dict[str, float]]:
        """Returns the latencies of nets, the runtime, and the time of each unit."""
        copies = _COPIES.get(self.place.limits.latency_batch, _COPIES_OTHERS)
        if self.format == SAVED_MODEL:  # nothing is written
            print(f"Timing units and {len(nets)} nets in TensorFlow, in turn.", flush=True)
            configs = [self._config(a) for a in nets]
            units = self._config(self.space.all_on())
            times = self._timed(folder, nets=configs, units=units, copies=copies)
        else:
            parts = units_of(self.net(self.space.all_on()), self.size)
            unit_files = write_units(parts, self.format, copies, folder)
            files = self._files(nets, folder)
            print(f"Timing units and {len(nets)} nets in turn.", flush=True)
            times = self._timed(folder, files=files, unit_files=unit_files, copies=copies)
        return list(times.nets), times.runtime, dict(times.units)

    def measured(
        self, architectures: Sequence[Architecture], table: Mapping[str, Any]
    ) -> list[float]:
        """Measures nets: milliseconds for a batch, or bytes.

        A machine is not equally fast at all times. So a few nets of the table are timed again, in
        turn with the others, and all times are divided by how much slower these nets are now.

        Args:
            architectures: The nets.
            table: The table, as `table` returns it.
        """
        known = [] if self.place.of_files else spread(_by_value(table["nets"]), _REFERENCES)
        again = [self.space.parse(net["architecture"]) for net in known]
        with self.scratch() as folder:
            values, _ = self._measure([*again, *architectures], folder)
        now, found = values[: len(again)], values[len(again) :]
        if not again:
            return found
        slower = float(np.median([value / net["value"] for value, net in zip(now, known)]))
        if abs(np.log(slower)) > np.log(1 + APART):
            print(
                f"{len(again)} nets of the table take {slower:.2f} times as long as when it was "
                "measured. All times are divided by this.",
                flush=True,
            )
        return [value / slower for value in found]

    def _measure(
        self, architectures: Sequence[Architecture], folder: pathlib.Path
    ) -> tuple[list[float], str]:
        """Returns the costs of nets, and the runtime."""
        if self.place.of_files:
            return [float(length) for _, length in self._written(architectures, folder)], ""
        if self.format == SAVED_MODEL:
            print(f"Timing {len(architectures)} nets in TensorFlow, in turn.", flush=True)
            nets = [self._config(a) for a in architectures]
            times = self._timed(folder, nets=nets)
        else:
            files = self._files(architectures, folder)
            print(f"Timing {len(files)} nets in turn.", flush=True)
            times = self._timed(folder, files=files)
        return list(times.nets), times.runtime

    def _files(
        self, architectures: Sequence[Architecture], folder: pathlib.Path
    ) -> list[tuple[str, str]]:
        """Writes nets. Returns the runtime and the path of each."""
        runtime = FORMATS[self.format].runtime
        return [(runtime, str(path.resolve())) for path, _ in self._written(architectures, folder)]

    def _written(
        self, architectures: Sequence[Architecture], folder: pathlib.Path
    ) -> list[tuple[pathlib.Path, int]]:
        """Writes nets. Returns what the runtime opens, and the length in bytes."""
        written = []
        progress = Progress(f"Writing {self.format} files", len(architectures), "nets")
        for index, architecture in enumerate(architectures):
            (folder / f"net_{index}").mkdir()
            written.append(
                write_net(
                    self.net(architecture), self.preprocessing, self.format,
                    folder / f"net_{index}", whole=self.place.of_files,
                )
            )  # fmt: skip
            progress.update(index + 1)
        return written

    def _timed(self, folder: pathlib.Path, **what: Any) -> Times:
        limits = self.place.limits
        shape = (self.size, self.size)
        order = Order(limits.latency_threads, limits.latency_batch, shape, **what)
        times = timed(order, folder)
        if times.apart > APART:
            print(
                f"Warning: two halves of the measurements differ by up to {times.apart:.0%}, "
                "because other programs use the machine.",
                flush=True,
            )
        return times

    def _config(self, architecture: Architecture) -> dict[str, Any]:
        """Returns the configuration of a net without building it; see `Standalone.from_config`."""
        return {
            "space": self.space.to_dict(),
            "stack": dataclasses.asdict(self.place.stack),
            "architecture": str(architecture),
            "num_classes": self.classes,
            "dtype": "float32",
        }

    def net(self, architecture: Architecture) -> Standalone:
        """Returns the untrained net of an architecture."""
        with tf.device("/cpu:0"):
            return Standalone(
                self.space, architecture, self.place.stack, self.classes, dtype="float32"
            )

    @contextlib.contextmanager
    def scratch(self) -> Iterator[pathlib.Path]:
        """A temporary folder for the files."""
        with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder)
