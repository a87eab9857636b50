"""Sets the number of threads, and records the environment that affects rounding.

TensorFlow splits an operation into as many parts as threads may share it, and adds up the results
of the parts. A floating-point sum depends on its order. So another number of threads changes the
last digits, and training makes the difference grow. The number of cores that run the threads does
not matter.
"""

import contextlib
import os
import pathlib
import platform
import re

import tensorflow as tf

from oneshot_tf.system.errors import InputError, short

# `_KEPT` matches the environment variables that are recorded. Each is named, because those of
# Terraform begin with TF_, too, and some of them are secrets. `_HARMLESS` matches the recorded
# variables that change no result, or whose effect `num_threads` covers.
_KEPT = re.compile(
    r"TF_(AUTOTUNE|CONFIG|CPP|CUBLAS|CUDA|CUDNN|DETERMINISTIC|DISABLE|ENABLE|FORCE|GPU|GRAPPLER|"
    r"JIT|LAYOUT|MKL|NUM|ONEDNN|OVERRIDE|USE|XLA)(_\w+)?|(DNNL|ONEDNN|TF2)_\w+|OMP_NUM_THREADS"
)
_HARMLESS = re.compile(
    r"TF_(CPP_\w+|CONFIG|NUM_INTRAOP_THREADS|NUM_INTEROP_THREADS)|OMP_NUM_THREADS"
)
_SHOWN = 6  # differences named in a message
_INSTRUCTIONS = re.compile(r"avx\w*|fma|amx\w*|sve\w*")
# The entries of `surroundings` that `differences` needs.
FORM = {"intra_op_threads": int, "processor": str, "devices": [str], "tensorflow": str,
        "variables": dict}  # fmt: skip


def set_threads(number: int) -> None:
    """Sets the number of threads that share each operation, on any number of cores.

    Args:
        number: The number of threads, at least 1. 0 leaves the choice to TensorFlow.

    Raises:
        InputError: TensorFlow has already started with another number.
    """
    if not number:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(number)
    except RuntimeError:
        raise InputError(
            f"--threads={number} must be set before TensorFlow starts, but in this process it "
            f"has started with {num_threads()}. Start a new process; in Python, begin it with "
            f"tf.config.threading.set_intra_op_parallelism_threads({number})."
        ) from None


def num_threads() -> int:
    """Returns how many threads may share one operation (TensorFlow's intra-op threads)."""
    asked = tf.config.threading.get_intra_op_parallelism_threads()
    return asked or _number("TF_NUM_INTRAOP_THREADS") or num_cores()


def _num_operations() -> int:
    """Returns how many operations may run at once (TensorFlow's inter-op threads)."""
    asked = tf.config.threading.get_inter_op_parallelism_threads()
    return asked or _number("TF_NUM_INTEROP_THREADS") or num_cores()


def _number(variable: str) -> int:
    """Reads a whole number from an environment variable, as TensorFlow does; 0 if there is none."""
    value = os.environ.get(variable, "").strip()
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0


def num_cores() -> int:
    """Returns how many cores the system lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_cores(
    groups: pathlib.Path = pathlib.Path("/proc/self/cgroup"),
    root: pathlib.Path = pathlib.Path("/sys/fs/cgroup"),
) -> float | None:
    """Returns the processor time that the control groups of this process allow, in cores.

    Args:
        groups: The file that names the process's groups (versions 1 and 2).
        root: The folder of all groups.

    Returns:
        The lowest limit of the group and its parents; None if there is no limit.
    """
    limits = []
    with contextlib.suppress(OSError, ValueError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / controllers if controllers else root
            inside = pathlib.PurePosixPath(path.lstrip("/"))
            limits += [_limit(top / folder) for folder in (inside, *inside.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(folder: pathlib.Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        if float(quota) > 0:  # no limit: -1 in version 1; "max" in version 2 is no number
            return float(quota) / float(period)
    return None


def processor() -> str:
    """Returns the processor's model and the instructions that decide which kernels run."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    model = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    words = sorted(flag for flag in flags if _INSTRUCTIONS.fullmatch(flag))
    return f"{model} ({' '.join(words)})" if words else model


def surroundings() -> dict:
    """Returns the facts on machine and environment for provenance.jsonl, as JSON can hold them."""
    return {
        "cores": num_cores(),
        "cgroup_cores": cgroup_cores(),
        "intra_op_threads": num_threads(),
        "inter_op_threads": _num_operations(),
        "processor": processor(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "tensorflow": tf.__version__,
        "variables": {k: v for k, v in sorted(os.environ.items()) if _KEPT.fullmatch(k)},
    }


def differences(before: dict, now: dict) -> list[str]:
    """Returns the differences between two `surroundings` that may change results, as texts."""
    names = {
        "intra_op_threads": "threads",
        "processor": "the processor",
        "tensorflow": "TensorFlow",
    }
    pairs = [(name, before[key], now[key]) for key, name in names.items()]
    pairs.append(("devices", len(before["devices"]), len(now["devices"])))
    old, new = before["variables"], now["variables"]
    for name in sorted({*old, *new}):
        if not _HARMLESS.fullmatch(name):
            pairs.append((short(name), old.get(name, "not set"), new.get(name, "not set")))
    return [f"{name}: {short(a)} then, {short(b)} now" for name, a, b in pairs if a != b]


def going_on(before: dict, now: dict) -> str:
    """Returns a warning for work that resumes in another environment; empty if nothing differs.

    Args:
        before: The `surroundings` in which the work began, of the form `FORM`.
        now: The `surroundings` of this process.
    """
    found = differences(before, now)
    if not found:
        return ""
    if len(found) > _SHOWN:
        found[_SHOWN:] = [f"{len(found) - _SHOWN} more"]
    threads = before["intra_op_threads"]
    way_out = (
        f" To use as many threads as before, give --threads={short(threads)}."
        if threads != now["intra_op_threads"]
        else ""
    )
    return (
        f"This work began in another environment ({'; '.join(found)}). Results may differ from "
        "those of an uninterrupted run. Only the last digits differ at first, but training makes "
        f"the difference grow (to 0.21 in a weight of a small net after 60 steps).{way_out}"
    )
