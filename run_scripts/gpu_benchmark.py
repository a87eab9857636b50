"""Measures training and evaluation on the accelerator of this machine, in one call.

    python run_scripts/gpu_benchmark.py --json=gpu.json
    python run_scripts/gpu_benchmark.py --npz=cifar.npz --steps=10000 --out=runs/gpu

Needs TensorFlow, Keras, absl-py, psutil and NumPy, with --npz TensorBoard too: no network, no
tensorflow-datasets. In this order, what is most wanted first, each as soon as it is known:

1. the rates of the machine: copying (bytes), matrix products (float32, TF32, bfloat16);
2. a training step at the paper's size, at the start and the end of the dropout ramp: everything
   computed and masked, the same compiled by XLA, dropped paths skipped; in float32, TF32 and
   bfloat16: images a second, in turn, median (least-most), and the share of the time that moving
   each activation once takes at the rate of 1;
3. evaluating architectures, the same ways;
4. with --npz: the protocol on real images, by the programs: train, search, retrain, export. The
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
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64, help="images a device: the paper's 64")
    parser.add_argument("--evaluate", type=int, default=1024, help="images an evaluation")
    parser.add_argument("--pairs", type=int, default=7, help="turns that count, after a first one")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--json", help="file for all numbers, written after each")
    parser.add_argument("--npz", help="images for the protocol")
    parser.add_argument("--steps", type=int, default=10_000, help="of the protocol's training")
    parser.add_argument("--flags", default="", help="more flags for the protocol's training")
    parser.add_argument("--retrain_flags", default="", help="more flags for its retraining")
    parser.add_argument("--candidates", type=int, default=1000, help="of the protocol's search")
    parser.add_argument("--out", default="runs/gpu", help="run directory of the protocol")
    return parser.parse_args()


def spread(values) -> str:
    """Median (least-most)."""
    return f"{np.median(values):,.0f} ({np.min(values):,.0f}-{np.max(values):,.0f})"


def timed(work) -> float:
    """Seconds that a call takes, its result fetched."""
    started = time.perf_counter()
    np.asarray(work())
    return time.perf_counter() - started


def machine_rates(precisions) -> dict:
    """Bytes a second of a copy; multiply-adds a second of matrix products."""
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
    """The best of five, after one that does not count."""
    timed(work)
    return amount / min(timed(work) for _ in range(5))


def traffic(space, masks, stack, size) -> float:
    """Elements that one image's forward pass reads and writes at least, a mean over rows of masks.

    Each convolution, pool and BN-ReLU reads its input and writes its output, once.
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
    """`work(i)`, its images a call, and the bytes that it moves at least."""
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
    # Backwards each convolution reads its input and a gradient twice, and writes one.
    return work, arguments.batch, 3.0 * moved * arguments.batch * width


def evaluate_row(logits, images, rows, i):
    """The i-th architecture's logits."""
    import tensorflow as tf

    return logits(images, tf.constant(rows[i % len(rows)]))


def measure(arguments, task, rates, results):
    """All ways and precisions of a task, in turn."""
    works = {}
    for precision, way in itertools.product(
        arguments.precisions.split(","), arguments.ways.split(",")
    ):
        name = f"{task} {precision} {way}"
        started = time.perf_counter()
        try:
            work, images, moved = make_work(arguments, task, precision, way)
            np.asarray(work(0))
        except Exception as error:  # one way that fails mustn't cost the others
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
    """The programs, one after another, on real images."""
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
    """Measures."""
    arguments = parse_arguments()
    if set(arguments.precisions.split(",")) - set(PRECISIONS) or set(
        arguments.ways.split(",")
    ) - set(WAYS):
        raise SystemExit(
            f"--precisions are of {', '.join(PRECISIONS)}, --ways of {', '.join(WAYS)}."
        )
    if arguments.batch % 32 or arguments.evaluate % 32:
        raise SystemExit("--batch and --evaluate are multiples of 32, the ghost batch.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if arguments.npz:  # in turn: a process keeps the memory of a GPU until it ends
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
