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
around   the share of wall time that training and search spend outside of the graphs: batches,
         logs, checkpoints, candidates.csv; on scikit-learn's digits, with a log line every
         10 steps and a checkpoint every 50.

Only ratios within one run mean something: machines are shared, clocks change.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
RAMPS = {"step, ramp at 0": 0.0, "step, ramp at half": 0.5, "step, ramp at its end": 1.0}


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
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--ghosts", type=int, default=2, help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- the work, in a process of its own -------------------------------------------------------


def rows_of(task, space, ghosts, count=8):
    """Masks `[count, ghosts, P]`: sampled architectures, or path dropout at a point of the ramp."""
    if task == "evaluate":
        rng = np.random.default_rng(1)
        return space.masks([space.sample(rng) for _ in range(count)])[:, None]
    from oneshot_tf import PathDropout

    sampler = PathDropout(space, 0.1, "linear", num_steps=1000)
    step = int(1000 * RAMPS[task])
    return np.stack([sampler.sample(ghosts, step, seed).numpy() for seed in range(count)])


def make_work(arguments):
    """`work(i)` of a task in one of the ways."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    threads = arguments.threads
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from oneshot_tf import Supernet, bender2018
    from oneshot_tf.learning.optimizers import NesterovSGD
    from oneshot_tf.learning.steps import TrainStep
    from oneshot_tf.settings import TrainSettings

    space, size = bender2018(), arguments.image_size
    rows = rows_of(arguments.task, space, arguments.ghosts)
    if arguments.worker == "torch":
        from benchmark_torch import make_work as make

        return make(arguments.task, space, arguments.cells, arguments.filters, size, rows, threads)
    skip = arguments.worker == "skip"
    net = Supernet(space, arguments.cells, arguments.filters, 10)
    if arguments.task == "evaluate":
        images = tf.random.stateless_normal([32, size, size, 3], [1, 2])
        logits = tf.function(lambda images, mask: net(images, mask, skip=skip), autograph=False)
        return lambda i: logits(images, tf.constant(rows[i % len(rows)])).numpy()

    class Given:
        """A sampler of the masks that all ways get."""

        def sample(self, num_ghosts, step, seed):
            return tf.gather(tf.constant(rows), step % len(rows))

    count = 32 * arguments.ghosts
    settings = TrainSettings(
        batch_size=count, device_batch_size=count, skip_paths="always" if skip else "never"
    )
    optimizer = NesterovSGD(0.01, momentum=0.9, nesterov=True)
    optimizer.build(net.trainable_variables)

    def prepare(images, *_):
        return tf.cast(images, tf.float32) / 128.0 - 1.0

    step = TrainStep(net, optimizer, Given(), prepare, settings, 0, size)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, [count, size, size, 3]), tf.uint8)
    labels = tf.constant(rng.integers(0, 10, count), tf.int32)
    return lambda i: step(images, labels, i)["loss"].numpy()


def serve(arguments):
    """Does the work of each number that comes in; answers with seconds and peak megabytes."""
    started = time.perf_counter()
    work = make_work(arguments)
    work(0)
    print(json.dumps({"first": time.perf_counter() - started}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        work(int(line))
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)


class Worker:
    """A process that does one task one way, when asked."""

    def __init__(self, arguments, worker, task, **changes):
        values = {"cells": arguments.cells, "filters": arguments.filters,
                  "image_size": arguments.image_size, "threads": arguments.threads,
                  "ghosts": arguments.ghosts, **changes}  # fmt: skip
        command = [sys.executable, __file__, f"--worker={worker}", f"--task={task}"]
        command += [f"--{name}={value}" for name, value in values.items()]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
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
    """Seconds `[workers, pairs]`, each turn one after another; the first turn isn't counted.

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

    from oneshot_tf import bender2018
    from oneshot_tf.space import cost

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
    for task in ("evaluate", *RAMPS):
        rows = rows_of(task, space, arguments.ghosts)
        each = cost.multiply_adds_of_masks(
            space, rows.reshape(-1, space.num_paths), arguments.cells, arguments.filters, 10,
            arguments.image_size,
        )  # fmt: skip
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


CANDIDATES = """
import json, resource, sys, time
import numpy as np, psutil, tensorflow as tf
import oneshot_tf as ost
from oneshot_tf import evaluation
from oneshot_tf.data import Split
cells, filters, size, ghosts, in_flight, count = map(int, sys.argv[1:])
net = ost.Supernet(ost.bender2018(), cells, filters, 10)
rng = np.random.default_rng(0)
split = Split(rng.integers(0, 256, [ghosts * 32, size, size, 3], np.uint8),
              rng.integers(0, 10, ghosts * 32).astype(np.int32))
evaluation.plan_parts = lambda *_: (ghosts, in_flight)
before = psutil.Process().memory_info().rss
evaluator = ost.CandidateEvaluator(net, split, lambda x: tf.cast(x, tf.float32) / 128 - 1)
every = [net.space.sample(rng) for _ in range(count)]
evaluator.outcomes(every)
seconds = []
for _ in range(5):
    started = time.perf_counter(); evaluator.outcomes(every)
    seconds.append(time.perf_counter() - started)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
bound = ghosts * in_flight * 32 * ost.space.cost.activation_bytes(net.space, cells, filters, size)
print(json.dumps({"rate": (count * len(split) / np.array(seconds)).tolist(),
                  "activations_mb": (peak - before) / 1e6, "bound_mb": bound / 1e6}))
"""


def candidates_once(arguments, ghosts, in_flight, count, filters=None):
    """Rate and memory of evaluating many architectures, in a process of its own."""
    values = [arguments.cells, filters or arguments.filters, arguments.image_size]
    values += [ghosts, in_flight, count]
    environment = {**os.environ, "PYTHONPATH": sys.path[0], "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", CANDIDATES, *map(str, values)], env=environment, text=True,
        capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure_candidates(arguments):
    """What a call should hold; that memory doesn't grow with the candidates."""
    print("\ncandidates: images a second, median (least-most) of n = 5; memory in MB")
    print("ghost batches a call, in flight, candidates:  rate; memory added to that of the first")
    print("line, and planned for that")
    table = []
    for ghosts, in_flight, count in (
        (1, 1, 16), (1, 2, 16), (1, 4, 16), (2, 2, 16), (4, 2, 16), (8, 2, 16), (1, 2, 64),
    ):  # fmt: skip
        result = candidates_once(arguments, ghosts, in_flight, count)
        table.append({"ghosts": ghosts, "in_flight": in_flight, "count": count, **result})
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
        result = candidates_once(arguments, 1, os.cpu_count(), 16, filters)
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


AROUND = """
import json, pathlib, sys, tempfile, time
import oneshot_tf as ost
from oneshot_tf import evaluation, search, settings
from oneshot_tf.learning import checkpoints, loop, steps
cells, filters, num_steps, count = map(int, sys.argv[1:])
spent = {"step": 0.0, "save": 0.0, "log": 0.0, "evaluate": 0.0}
def timed(owner, name, key, finish=lambda result: None):
    original = getattr(owner, name)
    def wrapper(*args, **kwargs):
        started = time.perf_counter()
        result = original(*args, **kwargs)
        finish(result)
        spent[key] += time.perf_counter() - started
        return result
    setattr(owner, name, wrapper)
timed(steps.TrainStep, "__call__", "step", lambda sums: sums["loss"].numpy())
timed(checkpoints.Checkpoints, "save", "save")
timed(loop._Loop, "_log", "log")
data = ost.load_data("digits", num_validation=400)
space = ost.bender2018()
net = ost.Supernet(space, cells, filters, 10)
sampler = ost.PathDropout(space, 0.1, "constant")
train = ost.TrainSettings(batch_size=128, device_batch_size=128)
device = settings.DeviceSettings(log_steps=10, checkpoint_steps=50)
folder = tempfile.mkdtemp()
ost.fit_supernet(net, data, sampler, 1, train, 0, folder, device)  # not counted: tracing
fitting = loop._Loop(net, data, sampler, num_steps, train, 0, pathlib.Path(folder) / "again")
first = fitting.data.train.batch(0, 128, 0)
fitting.step(*loop.local_batch(*first), 0)
for key in spent: spent[key] = 0.0
started = time.perf_counter()
fitting.run(device, "training")
whole = time.perf_counter() - started
print(json.dumps({"training": 1 - spent["step"] / whole, "checkpoints": spent["save"] / whole,
                  "logs": spent["log"] / whole, "seconds": whole}))
evaluator = ost.CandidateEvaluator(net, data.validation, data.normalize)
evaluator([space.all_on()])
class Fixed:
    def __init__(self, *args): pass
graph = evaluator._log_probabilities
def call(*args):
    started = time.perf_counter()
    result = graph(*args).numpy()
    spent["evaluate"] += time.perf_counter() - started
    class Ready:
        def numpy(self): return result
    return Ready()
evaluator._log_probabilities = call
file = search.CandidateFile(pathlib.Path(folder) / "candidates.csv", space)
work = search._Search.__new__(search._Search)
work.space, work.supernet, work.dataset, work.wanted = space, net, data, count
work.file, work.done, work.proposer = file, {}, ost.RandomSearch(space, 0)
work._evaluator, work._begin = (lambda: evaluator), (lambda: file.write([]))
started = time.perf_counter()
work.evaluate_all()
whole = time.perf_counter() - started
print(json.dumps({"search": 1 - spent["evaluate"] / whole, "seconds": whole}))
"""


def measure_around(arguments):
    """What is not computing."""
    environment = {**os.environ, "PYTHONPATH": sys.path[0], "TF_CPP_MIN_LOG_LEVEL": "3"}
    values = [str(v) for v in (arguments.cells, arguments.filters, 100, 100)]
    done = subprocess.run(
        [sys.executable, "-c", AROUND, *values], env=environment, text=True, capture_output=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    training, search = lines
    print(
        f"\naround: outside the graphs {training['training']:.2%} of {training['seconds']:.0f} s "
        f"of training (checkpoints {training['checkpoints']:.2%}, logs {training['logs']:.2%}) and "
        f"{search['search']:.2%} of {search['seconds']:.0f} s of search",
        flush=True,
    )
    return lines


def main():
    """Prints the tables chosen."""
    arguments = parse_arguments()
    if arguments.worker:
        serve(arguments)
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
