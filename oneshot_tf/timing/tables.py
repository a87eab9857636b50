"""Tables of measured costs in RUN_DIR/costs, and the estimates that come from them.

A table holds the times of all units, measured alone, and of a few whole nets. From the first of
the nets come the weights of an estimate, and from the others its error. The length of files is
estimated in the same way.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.cost.counts import unit_costs, usage
from oneshot_tf.cost.estimates import Estimate, fit
from oneshot_tf.cost.unit_names import num_steps, unit_names
from oneshot_tf.devices.threads import num_cores, processor
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.measured_costs import FORM
from oneshot_tf.settings.limits import LimitSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import make_folder
from oneshot_tf.system.json_files import check_form, check_run, read_json, write_json

# What decides a time besides the net. Times that differ in one of these are never mixed.
_DEVICE = {"processor": str, "cores": int, "tensorflow": str, "package": str}
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "ai-edge-litert"}
_FORM = {
    **FORM,
    "unit_milliseconds": (dict, None),
    "num_fitted": int,
    "device": _DEVICE,
    "runtime": str,
}


@dataclasses.dataclass(frozen=True)
class Place:
    """The table of one cost of the stand-alone models of one stack.

    Args:
        directory: The run.
        stack: The stack of the models.
        limits: The settings. They name the format, the runtime, and the numbers of images and
            threads.
        of_files: Whether the cost is the length of a file. Otherwise it is the latency.
    """

    directory: RunDirectory
    stack: Stack
    limits: LimitSettings
    of_files: bool = False

    @property
    def cost(self) -> str:
        """The name of the cost: "file_bytes" or "latency_ms"."""
        return "file_bytes" if self.of_files else "latency_ms"

    @property
    def path(self) -> pathlib.Path:
        """The file of the table."""
        settings, stack = self.limits, self.stack
        what = f"bytes_{settings.file_format}"
        if not self.of_files:
            what = (
                f"latency_{settings.latency_of}_batch{settings.latency_batch}_"
                f"threads{settings.latency_threads}"
            )
        name = f"{what}_cells{stack.num_cells}_filters{stack.filters}.json"
        return self.directory.path / "costs" / name

    def columns(self, unit_milliseconds: dict[str, float] | None) -> np.ndarray:
        """Returns the values of each unit that the cost depends on, float `[C, U]`.

        A latency depends on the times of the units and on their number. The length of a file
        depends on parameters, on the steps of the computation, and on the number of units.
        """
        space, facts = self.directory.space(), self.directory.facts()
        size, classes = facts["image_size"], len(facts["class_names"])
        names = unit_names(space, self.stack, size)
        if unit_milliseconds is None:
            parameters = unit_costs(space, self.stack, classes, size)[:, 0].astype(float)
            return np.stack([parameters, num_steps(names), np.ones(len(names))])
        missing = [name for name in names if name not in unit_milliseconds]
        if missing:
            raise InputError(
                f"The table of times has no time for {len(set(missing))} units, for example "
                f"'{missing[0]}'. It is for another net. Measure again with measure."
            )
        return np.stack([[unit_milliseconds[name] for name in names], np.ones(len(names))])

    def estimate(self, table: dict[str, Any]) -> Estimate:
        """Returns the estimate of a table, as `read` or `new_table` return it."""
        space = self.directory.space()
        nets = [Architecture.from_text(net["architecture"]) for net in table["nets"]]
        values = np.array([net["value"] for net in table["nets"]], float)
        columns = self.columns(table["unit_milliseconds"])
        if len(nets):
            used = usage(space, self.stack.num_cells, nets)
            # Alone, each unit takes a little longer or shorter than among others.
            any_sign = () if self.of_files else (1,)
            estimate = fit(columns, used, values, table["num_fitted"], any_sign)
        else:  # a table of another device, without whole nets: the sum of the units
            estimate = Estimate(columns[0], 0.0)
        known = {a: float(v) for a, v in zip(nets, values)}
        for net in table["measured"]:
            known[Architecture.from_text(net["architecture"])] = net["value"]
        return dataclasses.replace(estimate, known=known)

    @property
    def words(self) -> str:
        """What the table is about, for messages."""
        limits = self.limits
        if self.of_files:
            return f"length of {limits.file_format} files"
        images = f"{limits.latency_batch} image{'s' * (limits.latency_batch > 1)}"
        if limits.latency_table:
            return f"latency on another device, {images}"
        threads = f"{limits.latency_threads} thread{'s' * (limits.latency_threads > 1)}"
        return f"latency of {limits.latency_of}, {images}, {threads}"

    @property
    def title(self) -> str:
        """What the table is about, with the size of the models."""
        words, stack, part = self.words, self.stack, self.directory.space().part
        sizes = f"{stack.num_cells} {part}s, {stack.filters} filters"
        return f"{words[0].upper()}{words[1:]}, {sizes}"

    def described(self, table: dict[str, Any]) -> str:
        """Returns a sentence about the error of a table's estimate."""
        estimate, what = self.estimate(table), self.title
        if estimate.mean_error is None or estimate.worst_error is None:
            return f"{what}: no whole net checks the estimate, so its error is unknown."
        checked = len(table["nets"]) - table["num_fitted"]
        return (
            f"{what}: on {checked} other nets the estimate is off by {estimate.mean_error:.1%} on "
            f"average and by {estimate.worst_error:.1%} at worst. Limits keep this margin."
        )

    def shown(self, value: float) -> str:
        """Returns a cost as text."""
        return f"{value / 1000:,.1f} kB" if self.of_files else f"{value:.3f} ms"

    def read(self) -> dict[str, Any] | None:
        """Returns the table in the run directory; None if there is none.

        Raises:
            InputError: The table is damaged, or was measured on another device or with other
                versions.
        """
        if not self.path.exists():
            return None
        table = read_json(self.path)
        check_run(self.path, table, self.directory.run_id())
        check_form(self.path, table, _FORM)
        self._check_values(table)
        now = self.device()
        for name in () if self.of_files else _DEVICE:
            if table["device"][name] != now[name]:
                raise InputError(
                    f"{self.path} was measured with {name} {table['device'][name]}; here it is "
                    f"{now[name]}. Remove the file to measure anew."
                )
        return table

    def _check_values(self, table: dict[str, Any]) -> None:
        times = table["unit_milliseconds"] or {}
        values = [*times.values(), *(net["value"] for net in table["nets"] + table["measured"])]
        numbers = all(isinstance(v, (int, float)) and 0 <= v < 1e12 for v in values)
        positive = all(net["value"] > 0 for net in table["nets"] + table["measured"])
        if not numbers or not positive or not 0 <= table["num_fitted"] <= len(table["nets"]):
            raise InputError(f"{self.path} is damaged. Remove it to measure anew.")
        space = self.directory.space()
        for net in table["nets"] + table["measured"]:
            space.parse(net["architecture"])

    def device(self) -> dict[str, Any]:
        """Returns what decides a time besides the net: the processor and versions."""
        # `surroundings` would start TensorFlow, which several workers must do in their own way.
        around = {
            "processor": processor(),
            "cores": num_cores(),
            "tensorflow": tf.__version__,
        }
        package, version = _PACKAGES.get(self.limits.latency_of.partition("_")[0], ""), ""
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = f"{package} {metadata.version(package)}" if package else ""
        return {**around, "package": version}

    def write(self, table: dict[str, Any]) -> None:
        """Writes the table of this run and device."""
        make_folder(self.path.parent)
        about = {"cost": self.cost, "title": self.title, "run_id": self.directory.run_id()}
        write_json(self.path, {**table, **about, "device": self.device()})


def new_table(
    nets: Sequence[Architecture],
    values: Sequence[float],
    num_fitted: int,
    unit_milliseconds: dict[str, float] | None,
    runtime: str,
) -> dict[str, Any]:
    """Returns a table.

    Args:
        nets: The measured nets.
        values: Their milliseconds or bytes.
        num_fitted: Number of nets, the first ones, from which the weights come.
        unit_milliseconds: Time of each unit by name. None for lengths of files.
        runtime: Name and version of the runtime.
    """
    return {
        "unit_milliseconds": unit_milliseconds,
        "nets": [{"architecture": str(a), "value": v} for a, v in zip(nets, values)],
        "num_fitted": num_fitted,
        "measured": [],
        "runtime": runtime,
    }
