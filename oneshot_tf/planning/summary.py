"""The sentences at the end: what was found, what it costs, and how to serve it."""

import math
import pathlib

from oneshot_tf.planning.contest import winner
from oneshot_tf.planning.job import Job
from oneshot_tf.serving.folder import TABLE
from oneshot_tf.system.json_files import check_form, read_json
from oneshot_tf.system.printable import command
from oneshot_tf.system.versions import newest

_FORM = {"formats": [{"format": str, "bytes": int, "one_ms": float}]}


def sentences(job: Job) -> list[str]:
    """Returns the sentences about a run that is finished."""
    outcomes, final = job.outcomes(), job.result("final")
    best = winner(outcomes, job.balanced)
    net, count = final["nets"][0], final["num_images"]
    accuracy = net["accuracies"][0]
    error = math.sqrt(accuracy * (1 - accuracy) / count)
    found = (
        f"Found: the {best.contender.kind} {best.contender.net}. Of {len(outcomes)} nets it had "
        f"the best validation accuracy. It classifies {accuracy:.4f} of {count:,} test images "
        f"correctly (standard error {error:.4f}; balanced accuracy "
        f"{net['balanced_accuracies'][0]:.4f})."
    )
    folder = job.directory.path / "export"
    cost = (
        f"Cost: {net['parameters']:,} parameters, {net['multiply_adds']:,} multiply-adds"
        f"{_measured(newest(folder))}."
    )
    serve = f"Serve it: {command('predict', f'--saved_model={folder}', 'photo.jpg')}"
    return [found, cost, serve]


def _measured(export: pathlib.Path | None) -> str:
    """Returns bytes and latencies of the exported files as words."""
    if export is None or not (export / TABLE).exists():
        return ""
    table = read_json(export / TABLE)
    check_form(export / TABLE, table, _FORM)
    parts = [
        f"as {row['format']} {row['bytes'] / 1e3:,.0f} kB and {row['one_ms']:.2f} ms for an image"
        for row in table["formats"]
    ]
    return "".join(f", {part}" for part in parts) + " (one thread, measured here)" * bool(parts)
