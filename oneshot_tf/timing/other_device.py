"""Times that were measured on another device, for example on a phone."""

import csv
import io
import math
import pathlib
from typing import Any

from oneshot_tf.serving.formats import FORMATS
from oneshot_tf.serving.tflite import write_tflite
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import make_folder, read_text, write_atomically, writing
from oneshot_tf.system.progress import Progress
from oneshot_tf.timing.measuring import Workshop, sampled
from oneshot_tf.timing.nets import write_net
from oneshot_tf.timing.tables import Place, new_table
from oneshot_tf.timing.unit_files import UnitGraphs
from oneshot_tf.timing.units import units_of

TABLE = "latency.csv"
_COLUMNS = ["file", "kind", "name", "milliseconds"]
_WHOLE = 16  # whole nets; half of them give the weights, the others the error
_MOST_MS = 1e9


def write_files(place: Place, folder: pathlib.Path) -> None:
    """Writes TensorFlow Lite files of all units and of 16 whole nets, and an empty table.

    Args:
        place: The table that the times are for.
        folder: A new or empty folder.

    Raises:
        InputError: The folder cannot be written, or is not empty.
    """
    make_folder(folder)
    with writing(folder):
        if any(folder.iterdir()):
            raise InputError(f"--write_units={folder} must be a new or an empty folder.")
    workshop = Workshop(place)
    space, size = workshop.space, workshop.size
    net = workshop.net(space.all_on())
    units, nets = units_of(net, size), sampled(space, _WHOLE)
    rows = []
    progress = Progress("Writing TensorFlow Lite files", len(units) + len(nets), "files")
    for index, unit in enumerate(units):
        rows.append([f"unit_{index:03d}.tflite", "unit", unit.name, ""])
        with workshop.scratch() as scratch:
            write_tflite(UnitGraphs(unit), scratch)
            _copy(scratch / FORMATS["tflite"].files[0], folder / rows[-1][0])
        progress.update(len(rows))
    for index, architecture in enumerate(nets):
        rows.append([f"net_{index:02d}.tflite", "net", str(architecture), ""])
        with workshop.scratch() as scratch:
            made, _ = write_net(
                workshop.net(architecture), workshop.preprocessing, "tflite", scratch
            )
            _copy(made, folder / rows[-1][0])
        progress.update(len(rows))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_atomically(folder / TABLE, lambda file: file.write(text.getvalue()))
    print(
        f"Time each of the {len(rows)} files on the device, for example with benchmark_model of "
        f"TensorFlow Lite, and write the milliseconds into {folder / TABLE}. Then give it as "
        "--latency_table."
    )


def _copy(source: pathlib.Path, path: pathlib.Path) -> None:
    content = source.read_bytes()
    with writing(path):
        path.write_bytes(content)


def read_csv(path: pathlib.Path, place: Place) -> dict[str, Any]:
    """Reads a table of another device.

    Args:
        path: CSV file with the columns kind, name and milliseconds; others are not read. `kind` is
            "unit" or "net". The name of a net is its architecture. Lines of nets may be missing;
            then the error is unknown.
        place: The table that the file shall replace.

    Raises:
        InputError: The file cannot be read, a line is wrong, or a unit is missing.
    """
    if not path.is_file():
        raise InputError(f"--latency_table={path} is not a file.")
    rows = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff")), strict=True)
    try:
        lines = list(rows)
    except csv.Error as error:
        raise InputError(f"--latency_table={path} is no CSV file: {error}.") from None
    missing = {"kind", "name", "milliseconds"} - set(rows.fieldnames or [])
    if missing:
        raise InputError(
            f"--latency_table={path} must have the columns kind, name and milliseconds; "
            f"{', '.join(sorted(missing))} is missing."
        )
    units: dict[str, float] = {}
    nets: dict[Architecture, float] = {}
    space = place.directory.space()
    for number, line in enumerate(lines, 2):
        where = f"--latency_table={path}, line {number}"
        value = _milliseconds(line["milliseconds"], where)
        kind, name = line["kind"], line["name"] or ""
        if kind == "unit":
            _add(units, name, value, where)
        elif kind == "net" and value > 0:
            _add(nets, space.parse(name), value, where)
        else:
            raise InputError(
                f"{where}: kind must be unit, or net with a time above 0; got {short(kind)}."
            )
    fitted = (len(nets) + 1) // 2
    if 0 < fitted < 3:
        raise InputError(
            f"--latency_table={path} has {len(nets)} whole nets. Give at least 5, or none."
        )
    table = new_table(list(nets), list(nets.values()), fitted, units, "another device")
    place.columns(units)  # refuses a table without all units
    return table


def _add(known: dict, name: Any, value: float, where: str) -> None:
    if name in known:
        raise InputError(f"{where}: '{name}' has two lines. Leave one of them out.")
    known[name] = value


def _milliseconds(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value < _MOST_MS:
        raise InputError(
            f"{where}: milliseconds must be a number of at least 0; got {short(text or '')}. "
            "Time the file on the device and fill in its time."
        )
    return value
