"""Measures what a training step and an architecture update cost, for each strategy.

    python run_scripts/learner_cost.py --dataset=digits
    python run_scripts/learner_cost.py --dataset=cifar10 --data_dir=DATA --num_cells=6 --filters=16

All strategies run in one process, in turns, so that a slow machine slows all of them. Times are
medians over the rounds. Ratios are medians of the ratios within a round. Multiply-adds are counted:
those of a forward pass with the masks, times the passes. A training step has 3 passes (forward, and
backward for activations and for weights). An update has 2 with the gradient by the masks, 1 with
scores alone, and 10 with --order=2. Memory is the peak of a process of its own that does three
steps with updates.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

import oneshot_tf as ost
from oneshot_tf.cost import counts
from oneshot_tf.learning.loop import Loop
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.strategies import STRATEGIES

# Name: strategy, settings, forward passes that an update costs.
_KINDS = {
    "path_dropout": ("path_dropout", {"drop_schedule": "constant"}, 0),
    "single_path": ("single_path", {}, 0),
    "darts": ("darts", {}, 2),
    "darts --order=2": ("darts", {"order": 2}, 10),
    "gumbel --masks=hard": ("gumbel", {"masks": "hard"}, 2),
    "gumbel --masks=soft": ("gumbel", {"masks": "soft"}, 2),
    "enas": ("enas", {"phase_steps": 1, "phase_updates": 1}, 1),
}


class Kind:
    """A training with one strategy, whose steps and updates can be timed one by one."""

    def __init__(self, name: str, arguments: argparse.Namespace, data):
        strategy, values, self.passes = _KINDS[name]
        self.space = ost.bender2018(num_blocks=arguments.num_blocks)
        self.stack = ost.Stack(arguments.num_cells, arguments.filters)
        entry = STRATEGIES[strategy]
        self.sampler = entry.make(self.space, entry.settings(**values), 1000)
        net = ost.Supernet(self.space, self.stack, num_classes=data.num_classes)
        settings = ost.TrainSettings(
            batch_size=arguments.batch_size, ghost_batch_size=arguments.ghost_batch_size
        )
        self.loop = Loop(net, data, self.sampler, 1000, settings, 0, None)
        self.loop.device = DeviceSettings()
        self.loop._open(None)
        self.done, self.image_size = 0, data.image_size
        self.ghosts = arguments.batch_size // arguments.ghost_batch_size

    def step(self) -> float:
        """Makes a training step. Returns its seconds."""
        batch = self.loop.batches.own(self.done)
        begin = time.perf_counter()
        float(self.loop.step(*batch, self.done)["loss"])
        return time.perf_counter() - begin

    def update(self) -> float:
        """Makes the architecture updates that follow the last step. Returns their seconds."""
        begin = time.perf_counter()
        if self.loop.updates:
            for metrics in self.loop.updates.after(self.done):
                float(metrics["held_out_loss"])
        self.done += 1
        return time.perf_counter() - begin

    def multiply_adds(self) -> float:
        """Returns the multiply-adds of a step and an update, for one image."""
        masks = np.concatenate([self.sampler.sample(64, step, 0).numpy() for step in range(20)])
        dense = not self.loop.step.skips(0)
        everything = np.ones((1, self.space.num_paths), np.float32)
        size = (self.stack, self.loop.data.num_classes, self.image_size)
        forward = counts.multiply_adds_of_masks(
            self.space, everything if dense else masks, *size
        ).mean()
        trial = everything if self.passes > 1 else masks
        update = counts.multiply_adds_of_masks(self.space, trial, *size).mean()
        return 3 * float(forward) + self.passes * float(update)


def peak_memory(name: str, argv: list[str]) -> float:
    """Returns the peak memory in GB of a process that does three steps."""
    command = [sys.executable, __file__, *argv, f"--memory_of={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def parsed() -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--image_size", type=int, default=0)
    parser.add_argument("--num_blocks", type=int, default=4)
    parser.add_argument("--num_cells", type=int, default=3)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--ghost_batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default=",".join(_KINDS), help="Names, with commas.")
    parser.add_argument("--memory_of", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def load(arguments: argparse.Namespace):
    """Loads the images."""
    location = {"data_dir": arguments.data_dir} if arguments.data_dir else {}
    return ost.load_data(arguments.dataset, image_size=arguments.image_size, **location)


def main() -> None:
    """Times all kinds in turns and prints the table."""
    arguments = parsed()
    data = load(arguments)
    if arguments.memory_of:
        kind = Kind(arguments.memory_of, arguments, data)
        for _ in range(3):
            kind.step(), kind.update()
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))
        return
    names = [name for name in _KINDS if name in arguments.only.split(",")]
    kinds = {name: Kind(name, arguments, data) for name in names}
    for kind in kinds.values():
        kind.step(), kind.update()  # traces
    seconds = np.array(
        [[(k.step(), k.update()) for k in kinds.values()] for _ in range(arguments.rounds)]
    )
    totals = seconds.sum(axis=2)
    ratios = totals / totals[:, :1]
    first = kinds[names[0]].multiply_adds()
    print(
        "| strategy | step, s | update, s | both, relative (quartiles) | multiply-adds, relative "
        "| peak memory, GB |\n|---|---|---|---|---|---|"
    )
    for i, name in enumerate(names):
        step, update = np.median(seconds[:, i], axis=0)
        low, middle, high = np.quantile(ratios[:, i], [0.25, 0.5, 0.75])
        memory = peak_memory(name, sys.argv[1:])
        print(
            f"| `{name}` | {step:.3f} | {update:.3f} | {middle:.2f} ({low:.2f} to {high:.2f}) "
            f"| {kinds[name].multiply_adds() / first:.2f} | {memory:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
