"""The net that the first screen of the report is about, and what is known of its cost."""

import dataclasses
import pathlib
from typing import Any

from oneshot_tf.runs.baselines import is_baseline
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.final_nets import final_nets
from oneshot_tf.runs.measured_costs import measured_costs
from oneshot_tf.runs.results import read_results
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.json_files import check_form, check_run, read_json
from oneshot_tf.system.versions import newest

_FORMAT = {
    "format": str, "bytes": int, "accuracy": float, "largest_difference": float,
    "same_classes": float, "one_ms": float, "batch_ms": float, "runtime": str,
}  # fmt: skip
_FORMATS = {"images": str, "how": str, "net": str, "formats": [_FORMAT]}


@dataclasses.dataclass(frozen=True)
class Export:
    """The newest version of the export.

    Args:
        folder: The folder of the version.
        number: The number of the version; empty for an export without versions.
        net: The folder of its net below retrain/; another text if no net was retrained for it.
        formats: formats.json, or None if only a SavedModel was exported.
    """

    folder: pathlib.Path
    number: str
    net: str
    formats: dict[str, Any] | None


def read_export(directory: RunDirectory) -> Export | None:
    """Returns the newest version of the export, or None if nothing was exported.

    Raises:
        InputError: A file is damaged or belongs to another run.
    """
    root = directory.path / "export"
    version = None if (root / "architecture.json").exists() else newest(root)
    folder, formats, net = version or root, None, ""
    path = folder / "formats.json"
    if path.exists():
        formats = read_json(path)
        check_form(path, formats, _FORMATS)
        check_run(path, formats, directory.run_id())
        net = formats["net"]
    path = folder / "architecture.json"
    if path.exists():
        facts = read_json(path)
        check_run(path, facts, directory.run_id())
        net = str(facts.get("net", net))
    elif formats is None:
        return None
    return Export(folder, "" if version is None else version.name, net, formats)


def served_net(
    directory: RunDirectory, export: Export | None
) -> tuple[dict[str, Any], dict[str, Any], str] | None:
    """Returns the result, the net and the folder of the model that is or would be exported.

    Returns None if no net was retrained.
    """
    for result in read_results(directory, baselines=True) if export else []:
        for net in result["nets"]:
            if export and export.net in net["folder"]:
                return result, net, export.net
    for result, net in final_nets(directory)[:1]:
        return result, net, net["folder"][0]
    return None


def cost_words(directory: RunDirectory, net: dict[str, Any], export: Export | None) -> str:
    """Returns a sentence on what a net costs: counted, and measured where it was."""
    words = f"It has {net['parameters']:,} parameters and {net['multiply_adds']:,} multiply-adds."
    rows = export.formats["formats"] if export and export.formats else []
    if rows and export and export.net in net["folder"]:
        small = min(rows, key=lambda row: row["bytes"])
        fast = min(rows, key=lambda row: row["one_ms"])
        between = " and" if small is fast else f", and as {fast['format']} it"
        return (
            f"{words[:-1]}; as {small['format']} it takes {small['bytes']:,} bytes{between} needs "
            f"{fast['one_ms']:.3g} ms for an image, measured with one CPU thread in "
            f"{fast['runtime']}."
        )
    for costs in [] if is_baseline(net) else measured_costs(directory):
        value = costs.values.get(Architecture.from_text(net["architecture"]))
        if value is not None:
            return f"{words[:-1]}; measured: {value:.4g} {costs.unit} ({costs.title})."
    return f"{words[:-1]}; its latency was not measured."
