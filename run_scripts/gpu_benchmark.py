"""Measures training and evaluation on the accelerator of this machine, in one call.

    python run_scripts/gpu_benchmark.py --json=gpu.json
    python run_scripts/gpu_benchmark.py --npz=cifar.npz --steps=10000 --out=runs/gpu

It needs TensorFlow, Keras, absl-py, psutil and NumPy, and TensorBoard for --npz. It needs no
network and no tensorflow-datasets. It prints each result as soon as it is known, the most important
ones first:

1. The rates of the machine: copying (bytes) and matrix products (float32, TF32, bfloat16).
2. A training step at the paper's size, at the start and the end of the dropout ramp. There are
   three ways: everything computed and masked, the same compiled by XLA, and dropped paths skipped,
   each in float32, TF32 and bfloat16. The ways are interleaved. The results are images per second,
   median (least-most), and the share of the time that moving each activation once would take at
   the rate of copying.
3. The evaluation of architectures in the same ways.
4. With --npz: the protocol on real images with the programs train, search, retrain and export. The
   file has train_images, train_labels, test_images, test_labels (--dataset=npz:FILE).
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

PRECISIONS = ("float32", "tf32", "bfloat16")
WAYS = ("dense", "xla", "skip")


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=6, help="Number of cells.")
    parser.add_argument("--filters", type=int, default=16, help="Filters of the first convolution.")
    parser.add_argument(
        "--image_size", type=int, default=32, help="Height and width of the images."
    )
    parser.add_argument("--batch", type=int, default=64, help="Images per device and step.")
    parser.add_argument("--evaluate", type=int, default=1024, help="Images per evaluation.")
    parser.add_argument("--pairs", type=int, default=7, help="Measured rounds, after one warm-up.")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="Precisions to measure.")
    parser.add_argument("--ways", default=",".join(WAYS), help="Ways to measure.")
    parser.add_argument("--json", help="JSON file for all numbers, written after each task.")
    parser.add_argument("--npz", help="File with the images of the protocol.")
    parser.add_argument("--steps", type=int, default=10_000, help="Training steps of the protocol.")
    parser.add_argument("--flags", default="", help="Further flags for train.")
    parser.add_argument("--retrain_flags", default="", help="Further flags for retrain.")
    parser.add_argument("--candidates", type=int, default=1000, help="Candidates in the protocol.")
    parser.add_argument("--out", default="runs/gpu", help="Run directory of the protocol.")
    return parser.parse_args()


def spread(values) -> str:
    """Formats the median and the range of values."""
    return f"{np.median(values):,.0f} ({np.min(values):,.0f}-{np.max(values):,.0f})"


def timed(work) -> float:
    """Returns the seconds of a call, including the transfer of its result."""
    started = time.perf_counter()
    np.asarray(work())
    return time.perf_counter() - started


def machine_rates(precisions) -> dict:
    """Returns bytes per second of copies, and multiply-adds per second of matrix products."""
    import tensorflow as tf

    gpu = bool(tf.config.list_logical_devices("GPU"))
    size, repeats = (2**28, 50) if gpu else (2**24, 3)
    x = tf.zeros([size], tf.float32)

    @tf.function(autograph=False)
    def copies(x):
        return tf.while_loop(lambda i, _: i < repeats, lambda i, y: (i + 1, y + 1.0), (0, x))[1][0]

    side = 8192 if gpu else 1024
    rates = {"copy": best_rate(lambda: copies(x), 8.0 * size * repeats)}
    for precision in precisions:
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
        kind = tf.bfloat16 if precision == "bfloat16" else tf.float32
        a = tf.ones([side, side], kind)
        product = tf.function(lambda a: tf.cast(tf.matmul(a, a)[0, 0], tf.float32))
        rates[precision] = best_rate(functools.partial(product, a), float(side) ** 3)
    return rates


def best_rate(work, amount) -> float:
    """Returns the best rate of five calls after a warm-up."""
    timed(work)
    return amount / min(timed(work) for _ in range(5))


def traffic(space, masks, stack, size) -> float:
    """Returns the least number of elements that the forward pass of one image reads and writes.

    Each convolution, pool and BN-ReLU reads its input and writes its output once. The result is a
    mean over rows of masks.
    """
    per_row = np.zeros(len(masks))
    for plan in stack.plans(space):
        pixels = (-(-size // plan.divisor)) ** 2
        outer = sum(i.width for i in plan.inputs)
        per_row += 2 * pixels * (outer + (space.num_blocks - 1) * plan.width)  # BN-ReLUs
        for block in range(space.num_blocks):
            widths = [i.width for i in plan.inputs] + [plan.width] * block
            for path, width in zip(space.input_paths(block), widths):
                per_row += (masks[:, path] != 0) * pixels * (width + plan.width)
            for path, name in zip(space.operation_paths(block), space.operations):
                passes = {"identity": 0, "conv1x7_7x1": 4}.get(name, 6 if "sep" in name else 1)
                per_row += (masks[:, path] != 0) * pixels * plan.width * 2 * passes
    return float(per_row.mean())


def make_work(arguments, task, precision, way):
    """Returns `work(i)`, its images per call, and the least number of bytes that it moves."""
    import tensorflow as tf
    from benchmark_work import make_step, rows_of

    import oneshot_tf as ost

    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    space, size = ost.bender2018(), arguments.image_size
    dtype = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    net = ost.Supernet(space, ost.Stack(arguments.cells, arguments.filters), 10, dtype=dtype)
    width = 2 if precision == "bfloat16" else 4
    if task == "evaluate":
        count = arguments.evaluate
        rows = rows_of("evaluate", space, 1)
        images = tf.random.stateless_normal([count, size, size, 3], [1, 2])
        logits = tf.function(
            lambda images, mask: net(images, mask, skip=way == "skip", num_ghosts=count // 32),
            autograph=False, jit_compile=way == "xla",
        )  # fmt: skip
        moved = traffic(space, rows[:, 0], net.stack, size)
        work = functools.partial(evaluate_row, logits, images, rows)
        return work, count, moved * count * width
    rows = rows_of(task, space, arguments.batch // 32)
    work = make_step(net, rows, arguments.batch, size, way == "skip", xla=way == "xla")
    moved = traffic(space, rows.reshape(-1, space.num_paths), net.stack, size)
    # In the backward pass, each convolution reads its input and a gradient twice and writes one.
    return work, arguments.batch, 3.0 * moved * arguments.batch * width


def evaluate_row(logits, images, rows, i):
    """Returns the logits of the i-th architecture."""
    import tensorflow as tf

    return logits(images, tf.constant(rows[i % len(rows)]))


def measure(arguments, task, rates, results):
    """Measures all ways and precisions of a task, interleaved."""
    works = {}
    for precision, way in itertools.product(
        arguments.precisions.split(","), arguments.ways.split(",")
    ):
        name = f"{task} {precision} {way}"
        started = time.perf_counter()
        try:
            work, images, moved = make_work(arguments, task, precision, way)
            np.asarray(work(0))
        except Exception as error:  # the other ways still run
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}", flush=True)
            continue
        works[name] = work, images, moved, precision
        print(f"{name}: first call {time.perf_counter() - started:.1f} s", flush=True)
    import tensorflow as tf

    rounds = {name: [] for name in works}
    for turn in range(1, arguments.pairs + 1):
        for name, (work, images, _, precision) in works.items():
            tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
            rounds[name].append(images / timed(functools.partial(work, turn)))
    for name, values in rounds.items():
        _, images, moved, _ = works[name]
        floor = moved / rates["copy"] / (images / np.median(values))
        results[name] = {"images_per_second": values, "share_of_copying_floor": floor}
        print(
            f"{name:40} {spread(values)} images/s; {floor:.1%} of its time is the floor", flush=True
        )


def protocol(arguments):
    """Runs the programs one after another on real images."""
    program = [sys.executable, "-m"]
    run = f"--run_dir={arguments.out}"
    data = f"--dataset=npz:{pathlib.Path(arguments.npz).resolve()}"
    for command in (
        ["oneshot_tf.train", "--flagfile=cifar.flags", data, run,
         f"--train_steps={arguments.steps}", *arguments.flags.split()],
        ["oneshot_tf.search", run, f"--num_candidates={arguments.candidates}"],
        ["oneshot_tf.retrain", run, "--flagfile=cifar_retrain_28.flags", "--select=stratified",
         "--count=32", "--repeats=1", *arguments.retrain_flags.split()],
        ["oneshot_tf.export", run],
    ):  # fmt: skip
        started = time.perf_counter()
        code = subprocess.run([*program, *command]).returncode
        print(
            f"{' '.join(command)}: {time.perf_counter() - started:.0f} s, code {code}", flush=True
        )
        if code:
            raise SystemExit(code)


def main():
    """Measures all tasks and runs the protocol."""
    arguments = parse_arguments()
    if set(arguments.precisions.split(",")) - set(PRECISIONS) or set(
        arguments.ways.split(",")
    ) - set(WAYS):
        raise SystemExit(
            f"--precisions must be among {', '.join(PRECISIONS)}; --ways among {', '.join(WAYS)}."
        )
    if arguments.batch % 32 or arguments.evaluate % 32:
        raise SystemExit("--batch and --evaluate must be multiples of 32, the ghost batch.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if arguments.npz:  # first, because a process keeps the memory of a GPU until it ends
        code = subprocess.run([sys.executable, *sys.argv, "--npz="]).returncode
        protocol(arguments)
        raise SystemExit(code)
    import tensorflow as tf

    devices = [device.name for device in tf.config.list_logical_devices()]
    print(f"TensorFlow {tf.__version__}, {', '.join(devices)}", flush=True)
    rates = machine_rates(arguments.precisions.split(","))
    print(", ".join(f"{name} {rate / 1e9:,.0f} G/s" for name, rate in rates.items()), flush=True)
    results = {"devices": devices, "rates": rates}
    for task in ("step, ramp at 0", "step, ramp at its end", "evaluate"):
        measure(arguments, task, rates, results)
        if arguments.json:
            pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
