"""Runs the programs as a user does, each in a fresh process."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(program, *flags, cwd, code=0):
    """Starts a program in a fresh process; returns its output and its errors."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", f"oneshot_tf.{program}", *flags],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def error_of(program, *flags, cwd, code=1):
    """The one line that a mistake gets."""
    _, errors = run(program, *flags, cwd=cwd, code=code)
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1, errors
    return lines[0]
