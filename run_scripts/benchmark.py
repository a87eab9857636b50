"""Measures the speed of oneshot_tf on this machine, as ratios to alternatives.

    python run_scripts/benchmark.py                       # about 15 minutes
    python run_scripts/benchmark.py --only=work,start --json=benchmark.json
    python run_scripts/benchmark.py --filters=8 --cells=3 --image_size=16 --pairs=5

work     Time of one architecture on a ghost batch of 32, and of a training step of two ghost
         batches at the start, the middle and the end of the dropout ramp. There are three ways:
         dropped paths skipped, everything computed and masked, and eager PyTorch that runs only
         the chosen paths (if PyTorch is installed). Each way runs in its own process. The
         processes work one after another in each round, and each round gives a ratio. The table
         shows the median, least and largest ratio.
floor    Multiply-adds of this work, and the time that they take at the rate of a matrix product
         in the same process.
start    Seconds to the first step in a new process, tracing included; measured twice.
threads  Time of an evaluation, and of a step at the end of the ramp, on 1 and on 2 threads,
         interleaved.
candidates  Images per second for several numbers of candidates in flight and of images per call,
         and peak memory.
scaling  Images per second of training and evaluation for several F and batch sizes.
input    Images per second that come from JPEG files on disk, cropped as for ImageNet, next to
         the rate of decoding alone (tf.io.decode_jpeg), on all processors. It needs
         --only=input --images=DIR, a folder with one folder per class.
around   Share of wall time that training and search spend outside of the graphs, for batches,
         logs, checkpoints and candidates.csv. It uses scikit-learn's digits, with a log line
         every 10 steps and a checkpoint every 50.

Compare only numbers of one run, because machines are shared and clock rates change.
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
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = "work,floor,start,threads,candidates,scaling,around"
    parser.add_argument("--only", default=every, help="Measurements, separated by commas.")
    parser.add_argument("--cells", type=int, default=6, help="Number of cells.")
    parser.add_argument("--filters", type=int, default=16, help="Filters of the first convolution.")
    parser.add_argument(
        "--image_size", type=int, default=32, help="Height and width of the images."
    )
    parser.add_argument("--threads", type=int, default=1, help="Threads for work and floor.")
    parser.add_argument("--pairs", type=int, default=9, help="Measured rounds, after one warm-up.")
    parser.add_argument("--json", help="JSON file for all numbers.")
    parser.add_argument("--images", help="For input: folder with one folder of JPEGs per class.")
    for name in ("way", "task"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name, default in (("ghosts", 2), ("in_flight", 1), ("count", 16)):
        parser.add_argument(f"--{name}", type=int, default=default, help=argparse.SUPPRESS)
    return parser.parse_args()


def command(arguments, task, **changes):
    """Returns the command that does a task. `changes` overrides sizes of the arguments."""
    values = {"cells": arguments.cells, "filters": arguments.filters,
              "image_size": arguments.image_size, "threads": arguments.threads,
              "ghosts": arguments.ghosts, "task": task, **changes}  # fmt: skip
    return [sys.executable, __file__] + [f"--{name}={value}" for name, value in values.items()]


def measured(arguments, task, **changes):
    """Runs a task in its own process and returns the result that it prints."""
    line = command(arguments, task, **changes)
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"benchmark: {' '.join(line)} failed.\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Worker:
    """A process that does one task in one way on request."""

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
        """Does the i-th piece of work and returns its seconds."""
        self.process.stdin.write(f"{i}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak_mb = answer["peak_mb"]
        return answer["seconds"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def in_turn(workers, pairs):
    """Returns seconds `[workers, pairs]`. In each round, all workers work one after another.

    The first round is a warm-up and does not count. If work is quick, a round uses all eight sets
    of masks, so that rounds are alike.
    """
    once = max(1, round(2.0 / max(workers[0].work(0), 0.01)))
    size = min(8, once)
    seconds = np.zeros([len(workers), pairs + 1])
    for pair in range(pairs + 1):
        for w, worker in enumerate(workers):
            seconds[w, pair] = sum(worker.work(pair * size + i) for i in range(size)) / size
    return seconds[:, 1:]


def spread(values, digits=2):
    """Formats the median and the range of values."""
    return (
        f"{np.median(values):.{digits}f} ({np.min(values):.{digits}f}-{np.max(values):.{digits}f})"
    )


# ---- the tables ------------------------------------------------------------------------------


def has_torch():
    """Returns whether PyTorch can be imported."""
    return (
        subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0
    )


def measure_work(arguments):
    """Measures skipping, dense and PyTorch work."""
    ways = ["skip", "dense"] + (["torch"] if has_torch() else [])
    if len(ways) < 3:
        print("PyTorch is not installed. Its column is left out (pip install torch).")
    print(f"\nwork: ms, median (least-most) of n = {arguments.pairs} rounds; then the ratios")
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
    """Counts multiply-adds. A step has three times those of its forward pass."""
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
    print(f"\nfloor: a matrix product does {rate / 1e9:.0f} billion multiply-adds per second")
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
    """Measures the seconds to the first step in two processes, one after the other."""
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
    """Compares one thread with two."""
    print(f"\nthreads: 1 against 2, ms, median (least-most) of n = {arguments.pairs} rounds")
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
    """Measures rate and memory by the size of a call and by the number of candidates."""
    print("\ncandidates: images per second, median (least-most) of n = 5; memory in MB")
    print("ghost batches per call, in flight, candidates:  rate; memory beyond that of the first")
    print("line, measured and planned")
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
    """Measures rates by F and by batch size."""
    print("\nscaling: images per second, all threads: evaluating; a step at the end of the ramp")
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
    """Compares the rate of a training's input with the rate of the decoder alone."""
    if not arguments.images:
        print("\ninput: not measured. Set --images=DIR.")
        return None
    work = benchmark_work.input_work(arguments)
    rates = {name: [] for name in work}
    for turn in range(arguments.pairs + 1):
        for name, images_per_second in work.items():
            rate = images_per_second()
            if turn:
                rates[name].append(rate)
    ratios = np.array(rates["batches"]) / np.array(rates["decoding alone"])
    print(f"\ninput: images/s of {arguments.image_size}x{arguments.image_size}, interleaved")
    for name, values in rates.items():
        print(f"{name:15} {spread(values, 0)}", flush=True)
    print(f"ratio           {spread(ratios, 2)}", flush=True)
    return rates


def measure_around(arguments):
    """Measures the share of time outside of the graphs."""
    table = measured(arguments, "around", threads=os.cpu_count())
    print("\naround: share of wall time outside the graphs, without the start; n = 1")
    for program, shares in table.items():
        seconds, outside = shares.pop("seconds"), shares.pop("outside")
        parts = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
        print(f"{program:10}{outside:7.2%} of {seconds:.0f} s, including {parts}", flush=True)
        shares |= {"seconds": seconds, "outside": outside}
    return table


def main():
    """Prints the chosen tables."""
    arguments = parse_arguments()
    if arguments.task:
        benchmark_work.run(arguments)
        return
    measures = {name.removeprefix("measure_"): value for name, value in globals().items()
                if name.startswith("measure_")}  # fmt: skip
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(measures):
        raise SystemExit(f"--only must be among {', '.join(measures)}; got "
                         f"{', '.join(sorted(unknown))}.")  # fmt: skip
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
