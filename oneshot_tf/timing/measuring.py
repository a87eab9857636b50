"""Measures costs of nets: writes them as files, and times the files in turn."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.serving.formats import FORMATS, SAVED_MODEL
from oneshot_tf.serving.runtimes import APART, RUNTIMES
from oneshot_tf.serving.saved_model import Preprocessing
from oneshot_tf.settings.limits import RUNTIMES as FORMAT_OF
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.system.files import writing
from oneshot_tf.system.progress import Progress
from oneshot_tf.timing.clock import Order, Times, timed
from oneshot_tf.timing.nets import write_net, write_units
from oneshot_tf.timing.tables import Place, new_table
from oneshot_tf.timing.units import units_of

# Nets that give the weights, and nets that give the error. Units are timed in TensorFlow, so other
# runtimes need more.
_OF_TENSORFLOW, _OF_OTHERS, _OF_FILES = (8, 8), (16, 8), (6, 4)
_COPIES = {1: 9}  # of a unit, by the number of images
_COPIES_OTHERS = 3  # larger batches take longer and more memory
_TRIES = 1000


def sampled(space: CellSpace, count: int) -> list[Architecture]:
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
        fitted, checked = _OF_TENSORFLOW if self.format == SAVED_MODEL else _OF_OTHERS
        if self.place.of_files:
            fitted, checked = _OF_FILES
        nets = sampled(self.space, fitted + checked)
        fitted = min(fitted, -(-2 * len(nets) // 3))  # a small space
        with self.scratch() as folder:
            units = {} if self.place.of_files else self._time_units(folder)
            values, runtime = self._measure(nets, folder)
        times = None if self.place.of_files else units
        return new_table(nets, values, fitted, times, runtime)

    def measured(self, architectures: Sequence[Architecture]) -> list[float]:
        """Measures nets: milliseconds for a batch, or bytes."""
        with self.scratch() as folder:
            return self._measure(architectures, folder)[0]

    def _measure(
        self, architectures: Sequence[Architecture], folder: pathlib.Path
    ) -> tuple[list[float], str]:
        files, lengths = [], []
        progress = Progress(f"Writing {self.format} files", len(architectures), "nets")
        for index, architecture in enumerate(architectures):
            (folder / f"net_{index}").mkdir()
            opened, length = write_net(
                self.net(architecture), self.preprocessing, self.format,
                folder / f"net_{index}", whole=self.place.of_files,
            )  # fmt: skip
            files.append(opened)
            lengths.append(length)
            progress.update(index + 1)
        if self.place.of_files:
            return [float(n) for n in lengths], ""
        times = self._timed(folder, files)
        if times.apart > APART:
            print(
                f"Warning: two halves of the measurements differ by up to {times.apart:.0%}, "
                "because other programs use the machine.",
                flush=True,
            )
        return list(times.files), times.runtime

    def _timed(self, folder: pathlib.Path, files: Sequence[pathlib.Path]) -> Times:
        runtime, limits = FORMATS[self.format].runtime, self.place.limits
        assert runtime in RUNTIMES
        print(f"Timing {len(files)} nets in turn.", flush=True)
        order = Order(
            threads=limits.latency_threads,
            batch=limits.latency_batch,
            shape=(self.size, self.size, 3),
            files=[(runtime, str(path.resolve())) for path in files],
        )
        return timed(order, folder)

    def _time_units(self, folder: pathlib.Path) -> dict[str, float]:
        limits = self.place.limits
        net = self.net(self.space.all_on())
        units = units_of(net, self.size)
        print(f"Timing {len(units)} kinds of units with TensorFlow.", flush=True)
        copies = _COPIES.get(limits.latency_batch, _COPIES_OTHERS)
        write_units(net, units, limits.latency_batch, copies, folder / "units")
        order = Order(
            threads=limits.latency_threads,
            batch=limits.latency_batch,
            shape=(self.size, self.size, 3),
            units=str(folder / "units"),
            copies=copies,
            num_units=len(units),
        )
        times = timed(order, folder).units
        return {unit.name: value for unit, value in zip(units, times)}

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
