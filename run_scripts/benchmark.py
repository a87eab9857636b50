"""Measures how fast oneshot_tf is on this machine, beside the alternatives, as ratios.

    python run_scripts/benchmark.py                       # about 15 minutes
    python run_scripts/benchmark.py --only=work,start --json=benchmark.json
    python run_scripts/benchmark.py --filters=8 --cells=3 --image_size=16 --pairs=5

work     one architecture on a ghost batch of 32, and a training step of two ghost batches
         at the start, the middle and the end of the dropout ramp: dropped paths skipped,
         everything computed and masked, and eager PyTorch that runs only what is chosen
         (if PyTorch is installed). A process each, taken in turn; the ratio of each
         turn; median, least and most of them.
floor    multiply-adds of that work, and the time that they take at the rate of a matrix
         product measured in the same process.
start    seconds to the first step, tracing included, in a new process; twice.
threads  evaluating, and a step at the end of the ramp, on 1 and on 2 threads, in turn.
candidates  images a second by candidates in flight and by images a call; peak memory.
scaling  images a second of training and evaluation by F and by batch.
input    images a second that come from JPEG files on disk, cropped as for ImageNet, beside
         decoding them alone (tf.io.decode_jpeg): --only=input --images=DIR, a folder of
         classes; every processor.
around   the share of wall time that training and search spend outside of the graphs: batches,
         logs, checkpoints, candidates.csv; on scikit-learn's digits, with a log line every
         10 steps and a checkpoint every 50.

Only ratios within one run mean something: machines are shared, clocks change.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import benchmark_work
from benchmark_work import RAMPS, rows_of


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="work,floor,start,threads,candidates,scaling,around")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1, help="for work and floor")
    parser.add_argument("--pairs", type=int, default=9, help="turns that count, after a first one")
    parser.add_argument("--json", help="file for all numbers")
    parser.add_argument("--images", help="for input: a folder with a sub-folder of JPEGs a class")
    for name in ("way", "task"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name, default in (("ghosts", 2), ("in_flight", 1), ("count", 16)):
        parser.add_argument(f"--{name}", type=int, default=default, help=argparse.SUPPRESS)
    return parser.parse_args()


def command(arguments, task, **changes):
    """The command of a process that does a task, with other sizes than the arguments say."""
    values = {"cells": arguments.cells, "filters": arguments.filters,
              "image_size": arguments.image_size, "threads": arguments.threads,
              "ghosts": arguments.ghosts, "task": task, **changes}  # fmt: skip
    return [sys.executable, __file__] + [f"--{name}={value}" for name, value in values.items()]


def measured(arguments, task, **changes):
    """What a process finds out by itself."""
    line = command(arguments, task, **changes)
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"benchmark: {' '.join(line)} failed.\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Worker:
    """A process that does one task one way, when asked."""

    def __init__(self, arguments, way, task, **changes):
        self.process = subprocess.Popen(
            command(arguments, task, way=way, **changes),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.first = self._answer()["first"]

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: {' '.join(self.process.args)} failed; run it to see why.")
        return json.loads(line)

    def work(self, i):
        """Seconds."""
        self.process.stdin.write(f"{i}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak_mb = answer["peak_mb"]
        return answer["seconds"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def in_turn(workers, pairs):
    """Seconds `[workers, pairs]`, each turn one after another; the first turn is not counted.

    A turn takes all eight sets of masks where they are quick, so that turns are alike.
    """
    once = max(1, round(2.0 / max(workers[0].work(0), 0.01)))
    size = min(8, once)
    seconds = np.zeros([len(workers), pairs + 1])
    for pair in range(pairs + 1):
        for w, worker in enumerate(workers):
            seconds[w, pair] = sum(worker.work(pair * size + i) for i in range(size)) / size
    return seconds[:, 1:]


def spread(values, digits=2):
    """Median (least to most)."""
    return (
        f"{np.median(values):.{digits}f} ({np.min(values):.{digits}f}-{np.max(values):.{digits}f})"
    )


# ---- the tables ------------------------------------------------------------------------------


def has_torch():
    """Whether PyTorch can be imported."""
    return (
        subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0
    )


def measure_work(arguments):
    """Ours skipping, ours dense, PyTorch."""
    ways = ["skip", "dense"] + (["torch"] if has_torch() else [])
    if len(ways) < 3:
        print("PyTorch is not installed: its column is left out (pip install torch).")
    print(f"\nwork: ms, median (least-most) of n = {arguments.pairs} turns; then the turns' ratios")
    print(f"{'':24}" + "".join(f"{way:>24}" for way in ways) + "   skip/dense         skip/torch")
    table = {}
    for task in ("evaluate", *RAMPS):
        workers = [Worker(arguments, way, task) for way in ways]
        seconds = in_turn(workers, arguments.pairs)
        for worker in workers:
            worker.stop()
        ratios = [seconds[0] / other for other in seconds[1:]]
        table[task] = {way: s.tolist() for way, s in zip(ways, seconds)}
        print(
            f"{task:24}"
            + "".join(f"{spread(1e3 * s, 0):>24}" for s in seconds)
            + "   "
            + "  ".join(spread(r) for r in ratios),
            flush=True,
        )
    return table


def measure_floor(arguments):
    """Multiply-adds, forward; a step is three times that: forward, and two gradients."""
    import tensorflow as tf

    from oneshot_tf import Stack, bender2018
    from oneshot_tf.cost import counts

    space = bender2018()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    a, b = tf.random.normal([1024, 1024]), tf.random.normal([1024, 1024])
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, b)))
    product()
    times = []
    for _ in range(30):
        started = time.perf_counter()
        product().numpy()
        times.append(time.perf_counter() - started)
    rate = 1024**3 / np.median(times)
    print(f"\nfloor: a matrix product does {rate / 1e9:.0f} billion multiply-adds a second")
    table = {"multiply_adds_per_second": rate}
    stack = Stack(arguments.cells, arguments.filters)
    for task in ("evaluate", *RAMPS):
        rows = rows_of(task, space, arguments.ghosts)
        each = counts.multiply_adds_of_masks(
            space, rows.reshape(-1, space.num_paths), stack, 10, arguments.image_size
        )
        images = 32 * each.mean() * rows.shape[1] * (1 if task == "evaluate" else 3)
        table[task] = {"multiply_adds": images, "seconds": images / rate}
        print(f"{task:24}{images / 1e9:8.2f} billion {1e3 * images / rate:8.0f} ms", flush=True)
    return table


def measure_start(arguments):
    """Seconds to the first step, in two processes one after the other."""
    task = "step, ramp at its end"
    threads = os.cpu_count()
    seconds = []
    for _ in range(2):
        worker = Worker(arguments, "skip", task, threads=threads)
        seconds.append(worker.first)
        worker.stop()
    print(
        f"\nstart: first step, with building, tracing and compiling, {threads} threads: "
        f"{seconds[0]:.1f} s; in a second process {seconds[1]:.1f} s",
        flush=True,
    )
    return seconds


def measure_threads(arguments):
    """One thread against two."""
    print(f"\nthreads: 1 against 2, ms, median (least-most) of n = {arguments.pairs} turns")
    table = {}
    for task in ("evaluate", "step, ramp at 0", "step, ramp at its end"):
        workers = [Worker(arguments, "skip", task, threads=n) for n in (1, 2)]
        seconds = in_turn(workers, arguments.pairs)
        for worker in workers:
            worker.stop()
        table[task] = seconds.tolist()
        print(
            f"{task:24}{spread(1e3 * seconds[0], 0):>24}{spread(1e3 * seconds[1], 0):>24}   "
            f"speed-up {spread(seconds[0] / seconds[1])}",
            flush=True,
        )
    return table


def measure_candidates(arguments):
    """What a call should hold; that memory does not grow with the candidates."""
    print("\ncandidates: images a second, median (least-most) of n = 5; memory in MB")
    print("ghost batches a call, in flight, candidates:  rate; memory added to that of the first")
    print("line, and planned for that")
    table = []
    for ghosts, in_flight, count in (
        (1, 1, 16), (1, 2, 16), (1, 4, 16), (2, 2, 16), (4, 2, 16), (8, 2, 16), (1, 2, 64),
    ):  # fmt: skip
        sizes = {"ghosts": ghosts, "in_flight": in_flight, "count": count}
        result = measured(arguments, "candidates", threads=os.cpu_count(), **sizes)
        table.append({**sizes, **result})
        more = [result[name] - table[0][name] for name in ("activations_mb", "bound_mb")]
        print(
            f"{ghosts:4} {in_flight:4} {count:4}:  {spread(result['rate'], 0):>22} "
            f"{more[0]:8.0f} {more[1]:8.0f}",
            flush=True,
        )
    return table


def measure_scaling(arguments):
    """With F and with the batch."""
    print("\nscaling: images a second, all threads: evaluating; a step at the end of the ramp")
    table = []
    for filters in (8, 16, 32):
        threads = os.cpu_count()
        sizes = {"filters": filters, "ghosts": 1, "in_flight": threads, "threads": threads}
        result = measured(arguments, "candidates", **sizes)
        table.append({"filters": filters, "evaluate": result["rate"]})
        print(f"F = {filters:3}            evaluating {spread(result['rate'], 0)}", flush=True)
    for filters, ghosts in ((8, 2), (16, 2), (16, 4), (16, 8)):
        worker = Worker(
            arguments, "skip", "step, ramp at its end", filters=filters, ghosts=ghosts,
            threads=os.cpu_count(),
        )  # fmt: skip
        worker.work(0)
        rate = 32 * ghosts / np.array([worker.work(i) for i in range(5)])
        worker.stop()
        table.append({"filters": filters, "batch": 32 * ghosts, "train": rate.tolist(),
                      "peak_mb": worker.peak_mb})  # fmt: skip
        print(
            f"F = {filters:3}, batch {32 * ghosts:4} training {spread(rate, 0)}, "
            f"peak {worker.peak_mb:,.0f} MB",
            flush=True,
        )
    return table


def measure_input(arguments):
    """How much of the decoder's own rate is left of it in a training's input."""
    if not arguments.images:
        print("\ninput: not measured; give --images=DIR")
        return None
    work = benchmark_work.input_work(arguments)
    rates = {name: [] for name in work}
    for turn in range(arguments.pairs + 1):
        for name, images_per_second in work.items():
            rate = images_per_second()
            if turn:
                rates[name].append(rate)
    ratios = np.array(rates["batches"]) / np.array(rates["decoding alone"])
    print(f"\ninput: images/s of {arguments.image_size}x{arguments.image_size}, in turn")
    for name, values in rates.items():
        print(f"{name:15} {spread(values, 0)}", flush=True)
    print(f"ratio           {spread(ratios, 2)}", flush=True)
    return rates


def measure_around(arguments):
    """What is not computing."""
    table = measured(arguments, "around", threads=os.cpu_count())
    print("\naround: share of wall time outside the graphs, the start not counted; n = 1")
    for program, shares in table.items():
        seconds, outside = shares.pop("seconds"), shares.pop("outside")
        parts = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
        print(f"{program:10}{outside:7.2%} of {seconds:.0f} s; of that {parts}", flush=True)
        shares |= {"seconds": seconds, "outside": outside}
    return table


def main():
    """Prints the tables chosen."""
    arguments = parse_arguments()
    if arguments.task:
        benchmark_work.run(arguments)
        return
    measures = {name.removeprefix("measure_"): value for name, value in globals().items()
                if name.startswith("measure_")}  # fmt: skip
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(measures):
        raise SystemExit(f"--only={arguments.only}: unknown is {', '.join(sorted(unknown))}; "
                         f"known are {', '.join(measures)}.")  # fmt: skip
    print(
        f"{arguments.cells} cells, F = {arguments.filters}, {arguments.image_size}x"
        f"{arguments.image_size}; {os.cpu_count()} processors",
        flush=True,
    )
    results = {}
    for name in chosen:
        results[name] = measures[name](arguments)
        if arguments.json:
            pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
