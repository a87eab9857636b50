"""Plans a training: checks whether it fits on a machine, and bounds its speed, before you rent one.

Compiles the training step and the evaluation of candidates with the real TPU compiler. It needs the
extra 'plan' (JAX and libtpu) but no TPU. It takes the flags of train.
Example: python -m oneshot_tf.plan --flagfile=imagenet.flags --topology=v5e:2x4,v4:2x2x1
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

_PATIENCE = 3600.0  # seconds per compilation


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak rates of one device. A device is a core or a whole chip, as programs see it.

    Args:
        cores: Number of devices on a chip.
        memory: Memory of a device, in bytes.
        bandwidth: Memory bandwidth of a device, in bytes per second.
        flops: Operations of a device per second in bfloat16, its fastest type. A time computed
            from them is a lower bound for float32, too.
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
    """Target machine."""

    topology: str = setting(
        "v5e:2x4",
        "Machines, separated by commas. A TPU has its kind (v2, v3, v4, v5e, v5p or v6e) and its "
        "chips, for example v5e:2x4 or v4:2x2x1. A GPU has its kind and number, for example "
        "gpu:a100, gpu:h100 or gpu:h200x8. cpu is a CPU. For GPUs and the CPU, the memory is an "
        "estimate of XLA for a CPU, and there is no bound on the time.",
    )
    num_classes: int = setting(
        0, "Number of classes. 0: the known number of the named data set.", least=0
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
    """Compiles the graphs for each machine and prints a table."""
    train, one_shot = with_sizes(train, one_shot)
    known = KNOWN.get(data.dataset)
    classes = plan.num_classes or (known.num_classes if known else 0)
    size = data.image_size or (known.image_size if known else 0)
    if not classes or not size:
        raise InputError(
            f"--num_classes and --image_size must be set for --dataset={data.dataset}, because "
            "plan does not read the images."
        )
    targets = [_target(text) for text in plan.topology.split(",")]
    for target in targets:
        _share(target, train)
    if importlib.util.find_spec("jax") is None or importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "Planning needs the TPU compiler. Install it with pip install 'oneshot_tf[plan]' (JAX "
            "and libtpu, 1.1 GB; Python 3.11 or newer)."
        )
    graphs = _Graphs(model, train, one_shot, strategy, device, classes, size)
    _print_table([row for target in targets for row in _plan(target, train, graphs)])


def _target(text: str):
    """Returns a machine's name, kind of chip (None for a CPU) and number of devices."""
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
    """Returns the number of images that a device computes in a step."""
    name, _, devices = target
    if train.batch_size % (devices * train.ghost_batch_size):
        raise InputError(
            f"--batch_size must be a multiple of {devices * train.ghost_batch_size} for the "
            f"{devices} devices of {name} with --ghost_batch_size={train.ghost_batch_size}; got "
            f"{train.batch_size}."
        )
    return train.batch_size // devices


def _plan(target: tuple[str, str | None, int], train: TrainSettings, graphs: Any):
    """Compiles a step, with smaller micro-batches until it fits, and an evaluation."""
    name, kind, devices = target
    share = _share(target, train)
    most = max(train.ghost_batch_size, min(train.device_batch_size, share))
    sizes = range(train.ghost_batch_size, most + 1, train.ghost_batch_size)
    kinds = frozenset() if kind is None else {"TPU"} if kind[0] == "v" else {"GPU"}
    compiler = name if "TPU" in kinds else "cpu"
    print(f"{name}: {devices} device(s), {share} images per device and step.", flush=True)
    rows = []
    for micro_batch_size in reversed([n for n in sizes if share % n == 0]):
        micro_batches = share // micro_batch_size
        rows.append(_Row(name, kind, "training step", micro_batch_size, micro_batches))
        step = graphs.step(micro_batch_size, kinds)
        rows[-1].measure(compile_elsewhere(step, compiler, _PATIENCE))
        rows[-1].report()
        if rows[-1].fits or not rows[-1].too_large:
            break
    rows.append(_Row(name, kind, "evaluation", micro_batch_size, 1))
    evaluation = graphs.evaluation(micro_batch_size, kinds)
    rows[-1].measure(compile_elsewhere(evaluation, compiler, _PATIENCE))
    rows[-1].report()
    return rows


class _Graphs:
    """The graphs to compile, as serialized modules. All machines of a kind share a module."""

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
        self.sampler = make(model.search_space(), strategy, one_shot.train_steps)
        self.made: dict[Any, Any] = {}
        self.net = Supernet(model.search_space(), model.stack(), classes, dtype=device.dtype)

    def step(self, micro_batch_size: int, accelerators: Any) -> bytes:
        """Returns the training step of one device for one micro-batch."""
        return self._once(_training_module, micro_batch_size, accelerators, self.sampler)

    def evaluation(self, images: Any, accelerators: Any) -> bytes:
        """Returns the evaluation of one architecture."""
        return self._once(_evaluation_module, images, accelerators)

    def _once(self, make: Any, images: Any, accelerators: Any, *rest: Any):
        key = (make, images, *accelerators)
        if key not in self.made:
            with assumed(accelerators):
                self.made[key] = make(self.net, self.train, images, self.size, *rest)
        return self.made[key]


def _training_module(
    net: Supernet, train: TrainSettings, micro_batch_size: int, size: int, sampler: Any
) -> bytes:
    """Returns the step for one micro-batch: masks, augmentation, gradients, L2 and update."""
    train = dataclasses.replace(
        train, batch_size=micro_batch_size, device_batch_size=micro_batch_size
    )
    optimizer = NesterovSGD(train.learning_rate, momentum=train.momentum, nesterov=True)
    optimizer.build(net.trainable_variables)

    def prepare(images: Any, first: Any, batch_size: int, step: Any):
        change = AUGMENTATIONS[train.augmentation]
        images = change(images, first, batch_size, seed=0, step=step)
        return normalize(images, np.float32(0.5), np.float32(0.25))

    step = TrainStep(net, optimizer, sampler, prepare, train, 0, size)
    images = tf.zeros([micro_batch_size, size, size, 3], tf.uint8)
    return _module(
        lambda images, labels, number: step.dense(images, labels, number),
        images, tf.zeros([micro_batch_size], tf.int32), tf.constant(0),
    )  # fmt: skip


def _evaluation_module(net: Supernet, train: TrainSettings, images: Any, size: int) -> bytes:
    """Returns the evaluation of one architecture on `images` images."""
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
        raise InputError(f"TensorFlow cannot convert the graph for XLA: {plain(error)}") from None


class _Row:
    """One compiled graph on one kind of device.

    Args:
        name: Name of the machine.
        kind: Kind of chip, or None for a CPU.
        what: Name of the graph.
        images: Number of images in a micro-batch.
        micro_batches: Number of micro-batches in a step.
    """

    def __init__(self, name: str, kind: str | None, what: str, images: Any, micro_batches: int):
        self.name, self.what, self.images, self.micro_batches = name, what, images, micro_batches
        self.chip = None if kind is None else CHIPS[kind]

    def measure(self, answer: Any):
        """Stores the answer of the compiler and decides whether the graph fits."""
        self.answer, self.error = answer, answer.get("error")
        memory = answer.get("hbm_bytes")
        fits = memory is not None and (self.chip is None or memory <= self.chip.memory)
        self.fits = fits
        # A graph can be too large for the main memory, and a kernel for the memory on the chip.
        self.too_large = not fits and (self.error is None or "RESOURCE_EXHAUSTED" in self.error)

    @property
    def floor(self) -> float | None:
        """Lower bound on the seconds of a step. None for GPUs and CPUs.

        For those, XLA's counts for a CPU bound nothing.
        """
        if self.error or self.chip is None or self.answer["memory_bytes"] is None:
            return None
        arithmetic = self.answer["flops"] / self.chip.flops
        traffic = self.answer["memory_bytes"] / self.chip.bandwidth
        return self.micro_batches * max(arithmetic, traffic)

    def report(self):
        """Prints the memory and the bound on the time."""
        count = f"{self.micro_batches} micro-batch(es)"
        print(f"  {self.what}, {count} of {self.images} images:", flush=True)
        if self.error:
            reason = "does not fit" if self.too_large else "does not compile"
            print(f"    {reason}: {' '.join(self.error.split())[:300]}", flush=True)
            return
        a = self.answer
        parts = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in a["parts"].items())
        of = "" if self.chip is None else f" of {self.chip.memory / 2**20:,.0f}"
        verdict = "fits" if self.fits else "does not fit"
        outside = ""
        if a["memory_bytes"] is not None:
            outside = f", {a['memory_bytes'] / 1e9:,.2f} GB in main memory"
        print(
            f"    {verdict}: {a['hbm_bytes'] / 2**20:,.0f}{of} MiB per device ({parts}); "
            f"{a['flops'] / 1e9:,.1f} GFLOP, {a['bytes_accessed'] / 1e9:,.2f} GB read and written"
            f"{outside}, per micro-batch; compiled in {a['seconds']} s",
            flush=True,
        )
        if self.floor:
            print(
                f"    at least {1e3 * self.floor:,.1f} ms per step, so at most "
                f"{self.images * self.micro_batches / self.floor:,.0f} images/s per device",
                flush=True,
            )


def _print_table(rows: Any):
    print(
        "topology      graph          images  MiB / device  GFLOP  GB in main memory  "
        "least ms per step",
        flush=True,
    )
    for row in rows:
        if row.error:
            cells = "does not fit" if row.too_large else "does not compile"
        else:
            floor = "-" if row.floor is None else f"{1e3 * row.floor:,.1f}"
            moved = row.answer["memory_bytes"]
            moved = "-" if moved is None else f"{moved / 1e9:,.2f}"
            cells = (
                f"{row.answer['hbm_bytes'] / 2**20:12,.0f}  {row.answer['flops'] / 1e9:5,.0f}  "
                f"{moved:>17}  {floor:>17}"
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
