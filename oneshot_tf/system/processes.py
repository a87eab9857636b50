"""The environment of a fresh Python process of this package."""

import os
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def fresh_environment() -> dict[str, str]:
    """Returns environment variables with which a process finds this package and sees no GPU."""
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(_ROOT)])
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": path}
