"""Units of a net as files of a format, to be timed in its runtime."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from oneshot_tf.serving.formats import FORMATS
from oneshot_tf.serving.source import Frozen, freeze
from oneshot_tf.system.progress import Progress
from oneshot_tf.timing.units import Unit

_CALIBRATION = 8  # inputs of noise; they change the numbers in a file, not their count


@dataclasses.dataclass(frozen=True)
class UnitFile:
    """A unit in two files: once, and several times.

    Args:
        name: Name of the unit.
        runtime: A name in `runtimes.RUNTIMES`.
        shape: Height, width and channels of the input of one copy.
        dtype: Type of the input: "float32" or "uint8".
        paths: Path of the file with one copy, and of the file with several copies.
    """

    name: str
    runtime: str
    shape: Sequence[int]
    dtype: str
    paths: Sequence[str]


class UnitGraphs:
    """Graphs of several copies of a unit, for converters. The copies share the channels.

    Args:
        unit: The unit.
        copies: Number of copies. Their inputs are different channels, so that no converter can
            merge them, and their outputs are added.
        calibrates: Whether the format needs inputs to measure ranges with.
    """

    def __init__(self, unit: Unit, copies: int = 1, calibrates: bool = False):
        self.unit, self.copies = unit, copies
        height, width, channels = unit.shape
        self.shape = (height, width, channels * copies)
        self.calibration: np.ndarray | None = None
        if calibrates:
            noise = np.random.default_rng(0).normal(size=[_CALIBRATION, *self.shape])
            self.calibration = noise.astype(np.float32)

    def frozen(self, batch: int | None = None, floats: bool = False) -> Frozen:
        """Returns the graph. Its input is always float32, whatever `floats` is."""
        return freeze(self._run, (batch, *self.shape), tf.float32)

    def _run(self, x: tf.Tensor) -> tf.Tensor:
        parts = tf.split(x, self.copies, axis=-1) if self.copies > 1 else [x]
        outputs = [self.unit.function(part) for part in parts]
        return tf.add_n(outputs) if self.copies > 1 else outputs[0]


def write_units(
    units: Sequence[Unit], format: str, copies: int, folder: pathlib.Path
) -> list[UnitFile]:
    """Writes units, each one in a file with one copy and in a file with several.

    Args:
        units: The units.
        format: A name in `formats.FORMATS` with a converter.
        copies: Number of copies in the second file.
        folder: An existing folder for the files.

    Raises:
        InputError: A unit cannot be converted.
    """
    chosen, files = FORMATS[format], []
    progress = Progress(f"Writing units as {format} files", len(units), "units")
    for index, unit in enumerate(units):
        paths = []
        for number in (1, copies):
            place = folder / f"unit_{index}_{number}"
            place.mkdir()
            chosen.write(UnitGraphs(unit, number, chosen.calibrates), place)
            paths.append(str((place / chosen.files[0]).resolve()))
        dtype = "uint8" if chosen.calibrates else "float32"
        files.append(UnitFile(unit.name, chosen.runtime, unit.shape, dtype, paths))
        progress.update(index + 1)
    return files
