"""Times nets and units in a fresh process, without a GPU and with a given number of threads.

    python -m oneshot_tf.timing.clock ORDER.json ANSWER.json

`timed` writes the order and reads the answer.
"""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.serving.runtimes import RUNTIMES, in_turn, tensorflow_with
from oneshot_tf.serving.saved_model import Preprocessing, classify_fixed
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.processes import fresh_environment
from oneshot_tf.timing.unit_files import UnitFile
from oneshot_tf.timing.units import Unit, units_of


@dataclasses.dataclass(frozen=True)
class Order:
    """What to time.

    Args:
        threads: Number of threads of the runtime.
        batch: Number of images.
        shape: Height and width of the images. Nets and units take square ones.
        files: For each file its runtime, a name in `runtimes.RUNTIMES`, and its path.
        nets: Configurations of stand-alone models, as `get_config` returns them. TensorFlow runs
            them as it runs the signature `fixed` of a SavedModel, which takes longer to write.
        units: Configuration of the model of All On whose units are timed in TensorFlow. None: no
            such units.
        unit_files: Units that are timed in another runtime, each a `UnitFile`.
        copies: Number of copies of a unit in the longer of its two functions or files.
    """

    threads: int
    batch: int
    shape: tuple[int, int]
    files: Sequence[tuple[str, str]] = ()
    nets: Sequence[Mapping[str, Any]] = ()
    units: Mapping[str, Any] | None = None
    unit_files: Sequence[Any] = ()
    copies: int = 3


@dataclasses.dataclass(frozen=True)
class Times:
    """What was timed.

    Args:
        nets: Milliseconds for a batch, for each file, then for each net.
        units: Milliseconds for a batch, for each name of a unit.
        apart: Largest relative disagreement of two halves of the measurements of the nets.
        runtime: Name and version of the runtime.
    """

    nets: Sequence[float]
    units: Mapping[str, float]
    apart: float
    runtime: str


def timed(order: Order, scratch: pathlib.Path) -> Times:
    """Times nets and units in a fresh process.

    Args:
        order: What to time.
        scratch: A folder for temporary files.

    Raises:
        InputError: A file does not run.
    """
    given, answer = scratch / "order.json", scratch / "answer.json"
    given.write_text(json.dumps(dataclasses.asdict(order)))
    answer.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "oneshot_tf.timing.clock", str(given), str(answer)],
        env=fresh_environment(),
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
    tensorflow_with(order.threads)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [order.batch, *order.shape, 3], np.uint8)
    opened = [RUNTIMES[runtime](path, order.threads) for runtime, path in order.files]
    calls: list[Callable[[], Any]] = [functools.partial(each, images) for each, _ in opened]
    calls += [_net(config, images) for config in order.nets]
    nets, apart = in_turn(calls) if calls else ([], 0.0)
    units = _in_tensorflow(order, rng) if order.units else {}
    if order.unit_files:
        units = _in_files(order, rng)
    runtime = opened[0][1] if opened else f"TensorFlow {tf.__version__}"
    times = Times(nets, units, apart, runtime)
    pathlib.Path(answer_file).write_text(json.dumps(dataclasses.asdict(times)))


def _net(config: Mapping[str, Any], images: np.ndarray) -> Callable[[], Any]:
    """Returns a function that runs a net as `runtimes.open_saved_model` does."""
    net, size = Standalone.from_config(dict(config)), images.shape[1]
    ones = np.ones(3, np.float32)
    given = Preprocessing(size, 0 * ones, ones, "stretch", ("",) * net.num_classes)
    fixed = classify_fixed(net, given).get_concrete_function()

    def run() -> Any:
        return fixed(images=tf.constant(images))["probabilities"].numpy()

    return run


def _in_tensorflow(order: Order, rng: np.random.Generator) -> dict[str, float]:
    """Returns the milliseconds of each unit as a function of TensorFlow."""
    units = units_of(Standalone.from_config(dict(order.units or {})), order.shape[0])
    calls: list[Callable[[], Any]] = []
    for unit in units:
        for copies in (1, order.copies):
            x = rng.normal(size=[copies * order.batch, *unit.shape]).astype(np.float32)
            calls.append(functools.partial(_repeated(unit, x.shape, copies), tf.constant(x)))
    return _by_difference([unit.name for unit in units], calls, order.copies)


def _in_files(order: Order, rng: np.random.Generator) -> dict[str, float]:
    """Returns the milliseconds of each unit in the runtime of its files."""
    files = [UnitFile(**each) for each in order.unit_files]
    calls: list[Callable[[], Any]] = []
    for file in files:
        height, width, channels = file.shape
        for copies, path in zip((1, order.copies), file.paths):
            run, _ = RUNTIMES[file.runtime](path, order.threads)
            x = rng.integers(0, 256, [order.batch, height, width, copies * channels])
            calls.append(functools.partial(run, x.astype(file.dtype)))
    return _by_difference([file.name for file in files], calls, order.copies)


def _by_difference(
    names: Sequence[str], calls: Sequence[Callable[[], Any]], copies: int
) -> dict[str, float]:
    """Returns the milliseconds of units, without what a call costs.

    Args:
        names: Names of the units.
        calls: For each unit a function with one copy of it, and one with several. They differ by
            the copies.
        copies: Number of copies in the second function.
    """
    times, _ = in_turn(calls, attempts=1)  # their sum matters, not each one
    pairs = zip(names, times[::2], times[1::2])
    return {name: max(0.0, (many - one) / (copies - 1)) for name, one, many in pairs}


def _repeated(unit: Unit, shape: Sequence[int], copies: int) -> Callable[[tf.Tensor], Any]:
    """Returns a function that runs copies of a unit.

    Each copy has its own input, so that TensorFlow cannot merge them.
    """

    def run(x: tf.Tensor) -> tf.Tensor:
        parts = tf.split(x, copies) if copies > 1 else [x]
        return tf.add_n([unit.function(part) for part in parts])

    return tf.function(run, autograph=False).get_concrete_function(tf.TensorSpec(shape))


if __name__ == "__main__":
    main(*sys.argv[1:])
