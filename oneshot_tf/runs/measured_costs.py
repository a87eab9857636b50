"""Costs of architectures that were measured on a device: RUN_DIR/costs."""

import dataclasses

from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.json_files import check_form, check_run, read_json

_NET = {"architecture": str, "value": float}
# "nets" were measured for the estimate, "measured" because somebody asked for them.
FORM = {"cost": str, "title": str, "nets": [_NET], "measured": [_NET]}
# The costs, and the units of their values.
COSTS = {"latency_ms": "milliseconds", "file_bytes": "bytes"}


@dataclasses.dataclass(frozen=True)
class MeasuredCosts:
    """The measured values of one cost.

    Args:
        name: Name of the file, without its ending.
        title: What was measured, in words.
        cost: The attribute of a candidate that it is.
        unit: Unit of the values.
        values: The value of each measured architecture.
    """

    name: str
    title: str
    cost: str
    unit: str
    values: dict[Architecture, float]


def measured_costs(directory: RunDirectory) -> list[MeasuredCosts]:
    """Returns what was measured of a run, by name of the file.

    Raises:
        InputError: A file is damaged or belongs to another run.
    """
    found = []
    for path in sorted(directory.path.glob("costs/*.json")):
        table = read_json(path)
        check_run(path, table, directory.run_id())
        check_form(path, table, FORM)
        values = {
            Architecture.from_text(net["architecture"]): float(net["value"])
            for net in table["nets"] + table["measured"]
        }
        if table["cost"] not in COSTS:
            raise InputError(f"{path} is damaged: its cost is {short(table['cost'])}. Remove it.")
        unit = COSTS[table["cost"]]
        found.append(MeasuredCosts(path.stem, table["title"], table["cost"], unit, values))
    return found
