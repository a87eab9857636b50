"""Times files in a fresh process, where no GPU is seen and the number of threads can be set.

    python -m oneshot_tf.timing.clock ORDER.json ANSWER.json

`timed` writes the order and reads the answer.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oneshot_tf.serving.runtimes import RUNTIMES, in_turn, tensorflow_with
from oneshot_tf.system.errors import InputError, plain

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Order:
    """What to time.

    Args:
        threads: Number of threads of the runtime.
        batch: Number of images.
        shape: Height, width and channels of the images.
        files: For each file its runtime, a name in `runtimes.RUNTIMES`, and its path.
        units: Folder of the SavedModel that `write_units` wrote. Empty: no units.
        copies: Number of copies in its longer signatures.
        num_units: Number of units in it.
    """

    threads: int
    batch: int
    shape: tuple[int, int, int]
    files: Sequence[tuple[str, str]] = ()
    units: str = ""
    copies: int = 0
    num_units: int = 0


@dataclasses.dataclass(frozen=True)
class Times:
    """What was timed.

    Args:
        files: Milliseconds for a batch, for each file.
        units: Milliseconds for a batch, for each unit.
        apart: Largest relative disagreement of two halves of the measurements of the files.
        runtime: Name and version of the runtime of the first file.
    """

    files: Sequence[float]
    units: Sequence[float]
    apart: float
    runtime: str


def timed(order: Order, scratch: pathlib.Path) -> Times:
    """Times files and units in a fresh process.

    Args:
        order: What to time.
        scratch: A folder for temporary files.

    Raises:
        InputError: A file does not run.
    """
    given, answer = scratch / "order.json", scratch / "answer.json"
    given.write_text(json.dumps(dataclasses.asdict(order)))
    answer.unlink(missing_ok=True)
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(_ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "oneshot_tf.timing.clock", str(given), str(answer)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": path},
        capture_output=True,
    )
    if done.returncode or not answer.exists():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = plain(said[-1]) if said else f"exit code {done.returncode}"
        raise InputError(f"The nets cannot be timed, because one does not run: {why}.")
    return Times(**json.loads(answer.read_text()))


def main(order_file: str, answer_file: str) -> None:
    """Times what an order names, and writes the answer."""
    order = Order(**json.loads(pathlib.Path(order_file).read_text()))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [order.batch, *order.shape], np.uint8)
    opened = [RUNTIMES[runtime](path, order.threads) for runtime, path in order.files]
    calls = [functools.partial(classify, images) for classify, _ in opened]
    files, apart = in_turn(calls) if calls else ([], 0.0)
    units = _units(order, rng) if order.units else []
    times = Times(files, units, apart, opened[0][1] if opened else "")
    pathlib.Path(answer_file).write_text(json.dumps(dataclasses.asdict(times)))


def _units(order: Order, rng: np.random.Generator) -> list[float]:
    """Returns the milliseconds of each unit, without what a call costs.

    A signature with one unit and one with several copies of it differ by the copies.
    """
    tf = tensorflow_with(order.threads)
    model = tf.saved_model.load(order.units)
    calls: list[Callable[[], Any]] = []
    for index in range(order.num_units):
        for copies in (1, order.copies):
            signature = model.signatures[f"unit_{index}_{copies}"]
            (spec,) = signature.structured_input_signature[1].values()
            x = tf.constant(rng.normal(size=spec.shape).astype(np.float32))
            calls.append(functools.partial(signature, x=x))
    times, _ = in_turn(calls)
    pairs = zip(times[::2], times[1::2])
    return [max(0.0, (many - one) / (order.copies - 1)) for one, many in pairs]


if __name__ == "__main__":
    main(*sys.argv[1:])
