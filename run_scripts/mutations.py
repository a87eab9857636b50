"""Changes one file of a run directory and checks how a program handles it, for chaos.py.

A program must refuse the directory in one line, mend the file, or end with the result that it
gives on the unchanged directory. It must never print a traceback, hang, change another file
silently, or touch anything outside the run directory.
"""

import os
import pathlib
import re
import runpy
import shutil
import signal
import sys
import time

import numpy as np

PATIENCE = 120.0  # seconds until a program counts as hanging
# Files whose lines only plots show. The report must show a change of them.
_PLOTTED = ("metrics.jsonl", "tracked.jsonl", "events.out")


def _number(text: bytes, rng, replacement) -> bytes:
    """Replaces one number of a text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", text))
    if not found:
        return text + replacement
    match = found[rng.integers(len(found))]
    return text[: match.start()] + replacement + text[match.end() :]


def _flip(data, rng, _):
    if not data:
        return b"\x01"
    at = rng.integers(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :]


def _digit(data, rng, _):
    found = [i for i, byte in enumerate(data[: 2**16]) if 48 <= byte <= 57]
    if not found:
        return data + b"7"
    at = found[rng.integers(len(found))]
    return data[:at] + bytes([48 + (data[at] - 48 + rng.integers(1, 10)) % 10]) + data[at + 1 :]


def _out_of_range(data, rng, _):
    values = [b"-1", b"1e400", b"1" + b"0" * 400, b"NaN", b"Infinity", b"7.5", b"99999999999", b"0"]
    return _number(data, rng, values[rng.integers(len(values))])


def _lines(data, rng, change):
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        change(lines, rng.integers(len(lines)), rng.integers(len(lines)))
    return b"".join(lines)


def _swap(lines, one, other):
    lines[one], lines[other] = lines[other], lines[one]


CONTENTS = {
    "a flipped bit": _flip,
    "another digit": _digit,
    "a number out of range": _out_of_range,
    "cut": lambda data, rng, _: data[: rng.integers(len(data) + 1)],
    "empty": lambda data, rng, _: b"",
    "zeros": lambda data, rng, _: bytes(len(data)),
    "doubled": lambda data, rng, _: data + data,
    "a lost line": lambda data, rng, _: _lines(data, rng, lambda x, i, j: x.pop(i)),
    "swapped lines": lambda data, rng, _: _lines(data, rng, _swap),
    "carriage returns": lambda data, rng, _: data.replace(b"\n", b"\r\n"),
    "a byte-order mark": lambda data, rng, _: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data, rng, _: data.decode("latin-1").encode("utf-16"),
    "garbage": lambda data, rng, _: rng.bytes(max(1, len(data))),
    "that of another run": lambda data, rng, other: other,
}
KINDS = ("missing", "a folder", "a link to itself", "a FIFO", "a link to /dev/zero",
         "a link that leads out")  # fmt: skip


def mutate(path: pathlib.Path, rng, other: pathlib.Path, outside: pathlib.Path) -> str:
    """Changes a file in one of the ways above and returns the name of the way.

    Args:
        path: The file.
        rng: A NumPy random generator.
        other: The file of the same name in another run. It may be missing.
        outside: A folder outside the run directory.
    """
    names = [*CONTENTS, *KINDS]
    name = names[rng.integers(len(names))]
    data = path.read_bytes()
    if name in CONTENTS:
        path.write_bytes(CONTENTS[name](data, rng, other.read_bytes() if other.exists() else b""))
        return name
    path.unlink()
    if name == "a folder":
        path.mkdir()
    elif name == "a link to itself":
        path.symlink_to(path)
    elif name == "a FIFO":
        os.mkfifo(path)
    elif name == "a link to /dev/zero":
        path.symlink_to("/dev/zero")
    elif name == "a link that leads out":
        (outside / path.name).write_bytes(data)
        path.symlink_to(outside / path.name)
    return name


def run_forked(command: list[str], run: pathlib.Path, scratch: pathlib.Path) -> tuple[int, str]:
    """Runs a program in a forked process, in which TensorFlow is already imported.

    Args:
        command: The name of the program and its flags.
        run: The run directory.
        scratch: A folder for its standard error.

    Returns:
        The exit code, or None if the program hung, and its standard error.
    """
    kept = scratch / "stderr.txt"
    child = os.fork()
    if child == 0:
        _become(command, run, kept)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), kept.read_text(errors="replace")
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, kept.read_text(errors="replace")


def _become(command, run, kept):
    """Runs the program in this process and ends with its exit code."""
    code = 99
    try:
        for number, path in ((1, os.devnull), (2, kept)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.argv = [f"{command[0]}.py", *command[1:], f"--run_dir={run}"]
        runpy.run_module(f"oneshot_tf.{command[0]}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def differences(expected: dict, got: dict, changed: str) -> list[str]:
    """Returns the names of files that differ, except for the changed file and its plots."""
    names = [n for n in expected.keys() | got.keys() if expected.get(n) != got.get(n)]
    plotted = any(part in changed for part in _PLOTTED)
    return [n for n in names if n != changed and not (plotted and n.startswith("report/"))]


def judge(code, errors: str, differing: list[str], touched: bool) -> tuple[bool, str]:
    """Returns whether a program handled a change, and what it did."""
    lines = [line for line in errors.splitlines() if line.strip()]
    if touched:
        return False, "CHANGED a file outside the run directory"
    if code is None:
        return False, "HANGS"
    if "Traceback" in errors or code not in (0, 1):
        return False, f"ends with {code}: {lines[-1:]}"
    if code == 1:
        said = [line for line in lines if "error: " in line]
        return len(said) == 1, f"refused: {said[0][-160:]}" if said else f"silent: {lines[-1:]}"
    return not differing, f"CHANGES {differing}" if differing else "same result"


def forget(path: pathlib.Path) -> None:
    """Removes a folder with its contents."""
    shutil.rmtree(path, ignore_errors=True)


def pick(run: pathlib.Path, rng) -> pathlib.Path:
    """Returns a random file of a run directory outside of the SavedModel.

    Every name is equally likely; names that differ only in numbers count as one.
    """
    names: dict[str, list] = {}
    for path in sorted(run.rglob("*")):
        inside = path.relative_to(run).parts
        if path.is_file() and inside[0] != "export" and not path.name.startswith("."):
            names.setdefault(re.sub(r"\d+", "N", path.name), []).append(path)
    paths = names[list(names)[rng.integers(len(names))]]
    return paths[rng.integers(len(paths))]


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the contents of all files in a folder."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def generator(seed: int):
    """Returns the random generator of changes, which is independent of that of kills."""
    return np.random.default_rng([seed, 1])
