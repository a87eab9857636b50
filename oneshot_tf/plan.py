"""Says, before a machine is rented, whether a training fits on it, and how fast it can be at best.

Compiles the very training step, and the evaluation of candidates, with the TPU's real compiler
(the extra 'plan': JAX and libtpu; no TPU is needed). Takes the flags that train takes:
python -m oneshot_tf.plan --flagfile=imagenet.flags --topology=v5e:2x4,v4:2x2x1
"""

import dataclasses
import importlib.util
import math
import re
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf import settings
from oneshot_tf.cost.compiled_graphs import compile_elsewhere
from oneshot_tf.data.augmentation import AUGMENTATIONS, normalize
from oneshot_tf.data.known import KNOWN
from oneshot_tf.devices.accelerators import assumed
from oneshot_tf.learning.defaults import with_sizes
from oneshot_tf.learning.optimizers import NesterovSGD
from oneshot_tf.learning.steps import TrainStep
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    OneShotSettings,
    Settings,
    StrategySettings,
    TrainSettings,
    command_line,
    setting,
)
from oneshot_tf.strategies import DEFAULT_STRATEGY, STRATEGIES
from oneshot_tf.system.errors import InputError, plain

_PATIENCE = 3600.0  # seconds a compilation


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak figures of one device, as programs see it (a core, or a whole chip).

    Args:
        cores: Devices a chip.
        memory, bandwidth: Of a device, in bytes and bytes a second.
        flops: Of a device a second, multiplying in bfloat16, its fastest: a floor for float32.
    """

    cores: int
    memory: float
    bandwidth: float
    flops: float


CHIPS = {
    "v2": Chip(2, 8 * 2**30, 350e9, 22.5e12),
    "v3": Chip(2, 16 * 2**30, 450e9, 61.5e12),
    "v4": Chip(1, 32 * 2**30, 1200e9, 275e12),
    "v5e": Chip(1, 16 * 2**30, 819e9, 197e12),
    "v5p": Chip(1, 95 * 2**30, 2765e9, 459e12),
    "v6e": Chip(1, 32 * 2**30, 1638e9, 918e12),
    "a100": Chip(1, 80e9, 2039e9, 312e12),
    "h100": Chip(1, 80e9, 3350e9, 989e12),
    "h200": Chip(1, 141e9, 4800e9, 989e12),
}


@dataclasses.dataclass(frozen=True)
class PlanSettings(Settings):
    """For which machine."""

    topology: str = setting(
        "v5e:2x4",
        "Machines, separated by commas: a TPU's kind and chips (v2, v3, v4, v5e, v5p, v6e: "
        "v5e:2x4, v4:2x2x1), GPUs (gpu:a100, gpu:h100, gpu:h200, gpu:h200x8) or cpu. For GPUs and "
        "the CPU there is no least time, and memory is what XLA's analysis for a CPU says.",
    )
    num_classes: int = setting(
        0, "Classes, for a data set that is not read for this; 0: known by its name.", least=0
    )


def main(
    plan: PlanSettings,
    data: DataSettings,
    model: ModelSettings,
    train: TrainSettings,
    one_shot: OneShotSettings,
    strategy: StrategySettings,
    device: DeviceSettings,
) -> None:
    """Plans; each argument is the object of `settings` of that kind."""
    train, one_shot = with_sizes(train, one_shot)
    known = KNOWN.get(data.dataset)
    classes = plan.num_classes or (known.num_classes if known else 0)
    size = data.image_size or (known.image_size if known else 0)
    if not classes or not size:
        raise InputError(
            f"--dataset={data.dataset}: its classes and image size are not known without reading "
            "it; give --num_classes and --image_size."
        )
    targets = [_target(text) for text in plan.topology.split(",")]
    for target in targets:
        _share(target, train)
    if importlib.util.find_spec("jax") is None or importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "Planning needs the TPU's compiler: pip install 'oneshot_tf[plan]' (JAX and libtpu, "
            "1.1 GB; Python 3.11 or newer)."
        )
    graphs = _Graphs(model, train, one_shot, strategy, device, classes, size)
    _print_table([row for target in targets for row in _plan(target, train, graphs)])


def _target(text: str):
    """Name, kind of chip, number of devices."""
    if text == "cpu":
        return text, None, 1
    match = re.fullmatch(r"gpu:(\w+?)(?:x([1-9]\d*))?", text)
    if match and match[1] in CHIPS and match[1][0] != "v":
        return text, match[1], int(match[2] or 1)
    match = re.fullmatch(r"(v\d\w?):([1-9]\d*(?:x[1-9]\d*){1,2})", text)
    if match and match[1] in CHIPS:
        chips = math.prod(int(n) for n in match[2].split("x"))
        return text, match[1], chips * CHIPS[match[1]].cores
    tpus = ", ".join(name for name in CHIPS if name[0] == "v")
    gpus = ", ".join(f"gpu:{name}" for name in CHIPS if name[0] != "v")
    raise InputError(
        f"--topology must be a TPU with its chips, for example v5e:2x4 or v4:2x2x1 ({tpus}), GPUs, "
        f"for example gpu:h200x8 ({gpus}), or cpu; got {text}."
    )


def _share(target: tuple[str, str | None, int], train: TrainSettings) -> int:
    """Images of a device in a step."""
    name, _, devices = target
    if train.batch_size % (devices * train.ghost_batch_size):
        raise InputError(
            f"--batch_size must be a multiple of {devices * train.ghost_batch_size} for the "
            f"{devices} devices of {name} and ghost batches of {train.ghost_batch_size}; got "
            f"{train.batch_size}."
        )
    return train.batch_size // devices


def _plan(target: tuple[str, str | None, int], train: TrainSettings, graphs: Any):
    """Compiles a step, with fewer images at once as long as it does not fit, and an evaluation."""
    name, kind, devices = target
    share = _share(target, train)
    most = max(train.ghost_batch_size, min(train.device_batch_size, share))
    turns = range(train.ghost_batch_size, most + 1, train.ghost_batch_size)
    kinds = frozenset() if kind is None else {"TPU"} if kind[0] == "v" else {"GPU"}
    compiler = name if "TPU" in kinds else "cpu"
    print(f"{name}: {devices} device(s), {share} images each a step.", flush=True)
    rows = []
    for turn in reversed([n for n in turns if share % n == 0]):
        rows.append(_Row(name, kind, "training step", turn, share // turn))
        rows[-1].measure(compile_elsewhere(graphs.step(turn, kinds), compiler, _PATIENCE))
        rows[-1].report()
        if rows[-1].fits or not rows[-1].too_large:
            break
    rows.append(_Row(name, kind, "evaluation", turn, 1))
    rows[-1].measure(compile_elsewhere(graphs.evaluation(turn, kinds), compiler, _PATIENCE))
    rows[-1].report()
    return rows


class _Graphs:
    """What is compiled, as serialized modules, each made once for all machines of a kind."""

    def __init__(
        self,
        model: ModelSettings,
        train: TrainSettings,
        one_shot: OneShotSettings,
        strategy: StrategySettings,
        device: DeviceSettings,
        classes: int,
        size: int,
    ):
        self.train, self.size = train, size
        make = STRATEGIES[strategy.strategy].make
        self.sampler = make(model.space(), strategy, one_shot.train_steps)
        self.made: dict[Any, Any] = {}
        self.net = Supernet(model.space(), model.stack(), classes, dtype=device.dtype)

    def step(self, turn: int, accelerators: Any) -> bytes:
        """The training step of one device, of one turn."""
        return self._once(_training_module, turn, accelerators, self.sampler)

    def evaluation(self, images: Any, accelerators: Any) -> bytes:
        """The evaluation of one architecture."""
        return self._once(_evaluation_module, images, accelerators)

    def _once(self, make: Any, images: Any, accelerators: Any, *rest: Any):
        key = (make, images, *accelerators)
        if key not in self.made:
            with assumed(accelerators):
                self.made[key] = make(self.net, self.train, images, self.size, *rest)
        return self.made[key]


def _training_module(
    net: Supernet, train: TrainSettings, turn: int, size: int, sampler: Any
) -> bytes:
    """The step of one device for one turn: masks, augmentation, gradients, L2, the update."""
    train = dataclasses.replace(train, batch_size=turn, device_batch_size=turn)
    optimizer = NesterovSGD(train.learning_rate, momentum=train.momentum, nesterov=True)
    optimizer.build(net.trainable_variables)

    def prepare(images: Any, first: Any, batch_size: int, step: Any):
        change = AUGMENTATIONS[train.augmentation]
        images = change(images, first, batch_size, seed=0, step=step)
        return normalize(images, np.float32(0.5), np.float32(0.25))

    step = TrainStep(net, optimizer, sampler, prepare, train, 0, size)
    images = tf.zeros([turn, size, size, 3], tf.uint8)
    return _module(
        lambda images, labels, number: step.dense(images, labels, number),
        images, tf.zeros([turn], tf.int32), tf.constant(0),
    )  # fmt: skip


def _evaluation_module(net: Supernet, train: TrainSettings, images: Any, size: int) -> bytes:
    """One architecture on `images` images."""
    ghosts = images // train.ghost_batch_size
    return _module(
        lambda images, mask: net(images, mask, num_ghosts=ghosts, skip=False),
        tf.zeros([images, size, size, 3]), tf.ones([1, net.space.num_paths]),
    )  # fmt: skip


def _module(function: Any, *arguments: Any) -> bytes:
    compiled = tf.function(function, jit_compile=True, autograph=False)
    try:
        return compiled.experimental_get_compiler_ir(*arguments)(stage="hlo_serialized")
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise InputError(f"TensorFlow cannot hand the graph to XLA: {plain(error)}") from None


class _Row:
    """One compiled graph on one kind of device.

    Args:
        name: The topology.
        kind: Of chip; None for a CPU.
        what: The graph.
        images: That it takes at once.
        turns: How often a step does it.
    """

    def __init__(self, name: str, kind: str | None, what: str, images: Any, turns: int):
        self.name, self.what, self.images, self.turns = name, what, images, turns
        self.chip = None if kind is None else CHIPS[kind]

    def measure(self, answer: Any):
        """Takes what the compiler says."""
        self.answer, self.error = answer, answer.get("error")
        memory = answer.get("hbm_bytes")
        fits = memory is not None and (self.chip is None or memory <= self.chip.memory)
        self.fits = fits
        # Of its main memory, or of that on the chip, which a kernel can be too large for.
        self.too_large = not fits and (self.error is None or "RESOURCE_EXHAUSTED" in self.error)

    @property
    def floor(self) -> float | None:
        """Seconds that a step takes at least; XLA's counts for a CPU bound nothing elsewhere."""
        if self.error or self.chip is None or self.answer["memory_bytes"] is None:
            return None
        arithmetic = self.answer["flops"] / self.chip.flops
        traffic = self.answer["memory_bytes"] / self.chip.bandwidth
        return self.turns * max(arithmetic, traffic)

    def report(self):
        """Prints what is known."""
        print(f"  {self.what}, {self.images} images at once, {self.turns} turn(s):", flush=True)
        if self.error:
            reason = "does not fit" if self.too_large else "is not compiled"
            print(f"    {reason}: {' '.join(self.error.split())[:300]}", flush=True)
            return
        a = self.answer
        parts = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in a["parts"].items())
        of = "" if self.chip is None else f" of {self.chip.memory / 2**20:,.0f}"
        verdict = "fits" if self.fits else "does not fit"
        outside = ""
        if a["memory_bytes"] is not None:
            outside = f", {a['memory_bytes'] / 1e9:,.2f} GB of it in main memory"
        print(
            f"    {verdict}: {a['hbm_bytes'] / 2**20:,.0f}{of} MiB a device ({parts}); "
            f"{a['flops'] / 1e9:,.1f} GFLOP, {a['bytes_accessed'] / 1e9:,.2f} GB read and written"
            f"{outside}, a turn; compiled in {a['seconds']} s",
            flush=True,
        )
        if self.floor:
            print(
                f"    at least {1e3 * self.floor:,.1f} ms, so at most "
                f"{self.images * self.turns / self.floor:,.0f} images/s a device",
                flush=True,
            )


def _print_table(rows: Any):
    print(
        "topology      graph          images  MiB a device  GFLOP  GB of main memory  "
        "at least ms a step",
        flush=True,
    )
    for row in rows:
        if row.error:
            cells = "does not fit" if row.too_large else "is not compiled"
        else:
            floor = "-" if row.floor is None else f"{1e3 * row.floor:,.1f}"
            moved = row.answer["memory_bytes"]
            moved = "-" if moved is None else f"{moved / 1e9:,.2f}"
            cells = (
                f"{row.answer['hbm_bytes'] / 2**20:12,.0f}  {row.answer['flops'] / 1e9:5,.0f}  "
                f"{moved:>17}  {floor:>18}"
            )
        print(f"{row.name:12s}  {row.what:13s}  {row.images:6d}  {cells}", flush=True)


if __name__ == "__main__":
    command_line.run(
        main,
        PlanSettings,
        settings.DataSettings,
        settings.ModelSettings,
        settings.TrainSettings(batch_size=0),
        settings.OneShotSettings(train_steps=0),
        command_line.strategy(STRATEGIES, DEFAULT_STRATEGY),
        settings.DeviceSettings,
    )
