"""Measures on this device how long stand-alone models take, or how long their files are.

It times each unit of a model alone, and a few whole models. From these, search, retrain and export
estimate the latency of any architecture. They call this program when they first need it. The table
is in RUN_DIR/costs.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from oneshot_tf import settings
from oneshot_tf.analysis.live import live_page
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.serving.formats import check_formats
from oneshot_tf.settings import LimitSettings, Settings, command_line, setting
from oneshot_tf.settings.limits import RUNTIMES
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import read_text, user_path
from oneshot_tf.system.locks import locked
from oneshot_tf.timing.measuring import Workshop
from oneshot_tf.timing.other_device import read_csv, write_files
from oneshot_tf.timing.tables import Place


@dataclasses.dataclass(frozen=True)
class MeasureSettings(Settings):
    """Measuring."""

    cost: str = setting(
        "latency",
        "What to measure. latency: milliseconds for --latency_batch images. file: the length of "
        "the exported file.",
        choices=("latency", "file"),
        common=True,
    )
    filters: int = setting(
        0,
        "Number of filters of the models. 0: the same as the one-shot model.",
        least=0,
        most=4096,
        common=True,
    )
    num_cells: int = setting(
        0, "Number of cells. 0: the same as the one-shot model.", least=0, most=64
    )
    architectures: str = setting(
        "",
        "Text file with architectures to measure, one on each line, written as in candidates.csv.",
    )
    write_units: str = setting(
        "",
        "Folder to write the units and a few whole models to, as TensorFlow Lite files, for timing "
        "them on another device. latency.csv in it is for the times. Fill it in, and give it as "
        "--latency_table to search, retrain and export.",
    )


def main(run: settings.RunSettings, measure: MeasureSettings, limits: LimitSettings) -> None:
    """Measures a table, unless it is there, and the given architectures."""
    directory = RunDirectory(run.run_dir)
    directory.config()  # refuses a folder without a run
    stack = directory.stack(measure.num_cells, measure.filters)
    place = Place(directory, stack, limits, measure.cost == "file")
    nets = _given(measure.architectures, place)
    check_formats([limits.file_format if place.of_files else RUNTIMES[limits.latency_of]])
    tf.config.set_visible_devices([], "GPU")
    if measure.write_units:
        write_files(place, user_path(measure.write_units))
        return
    if limits.latency_table:
        table = read_csv(user_path(limits.latency_table), place)
        print(place.described(table), flush=True)
        return
    # Other programs may work in the run directory. This one only adds files of its own.
    with locked(directory.path, name=".costs.lock"), live_page(directory, "measure"):
        table = _table(place)
        print(place.described(table), flush=True)
        if nets:
            _measure(place, table, nets)


def _given(path: str, place: Place) -> list[Architecture]:
    """Reads the architectures of a text file."""
    if not path:
        return []
    lines = map(str.strip, read_text(user_path(path)).splitlines())
    space = place.directory.space()
    nets = [space.parse(line) for line in lines if line]
    if not nets:
        raise InputError(f"--architectures={path} has no architecture. Write one on each line.")
    return list(dict.fromkeys(nets))


def _table(place: Place) -> dict[str, Any]:
    table = place.read()
    if table is None:
        table = Workshop(place).table()
        place.write(table)
    return table


def _measure(place: Place, table: dict[str, Any], nets: list[Architecture]) -> None:
    """Measures the nets that the table does not know, and prints all of them."""
    estimate = place.estimate(table)
    new = [net for net in nets if net not in estimate.known]
    values = Workshop(place).measured(new, table) if new else []
    table["measured"] += [
        {"architecture": str(net), "value": value} for net, value in zip(new, values)
    ]
    if new:
        place.write(table)
    known = place.estimate(table).known
    space, cells = place.directory.space(), place.stack.num_cells
    print("  measured  estimated  architecture")
    for net, guess in zip(nets, estimate.of(space, cells, nets)):
        print(f"{place.shown(known[net]):>10} {place.shown(guess):>10}  {net}", flush=True)


if __name__ == "__main__":
    command_line.run(main, settings.RunSettings, MeasureSettings, LimitSettings)
