"""provenance.jsonl: the command, versions and machine of each start, one line per start."""

import json
import pathlib
import platform
import subprocess
import sys
import time
from importlib import metadata

from oneshot_tf.devices.threads import FORM, going_on, surroundings
from oneshot_tf.system.files import append_line
from oneshot_tf.system.json_files import read_json_lines

_PACKAGES = ("oneshot_tf", "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy",
             "tensorflow-datasets", "scikit-learn")  # fmt: skip


def note_provenance(path: pathlib.Path, work: str) -> None:
    """Appends a line about this start of a program.

    Prints a line if the same work began with other threads or TensorFlow settings, which may give
    other results.

    Args:
        path: Path of provenance.jsonl.
        work: Name of the program's work, for example "train" or "retrain/top".
    """
    around = surroundings()
    starts = read_json_lines(path, {"work": str, **FORM})
    begun = next((start for start in starts if start["work"] == work), None)
    if line := going_on(begun, around) if begun else "":
        print(line, flush=True)
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
        "commit": _commit(),
        "host": platform.node(),
        "machine": platform.platform(),
        "work": work,
        **around,
    }
    append_line(path, json.dumps(start))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Returns the commit of the checkout that the package runs from, if there is one."""
    folder = pathlib.Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
