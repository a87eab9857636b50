"""The work that benchmark.py measures. benchmark.py starts a process for each task.

With --task=around and --task=candidates, the process measures by itself and prints its results as
JSON. With another task, it prints the seconds of the first piece of work. Then it reads one number
per line, does this piece of work and prints its seconds.
"""

import functools
import json
import os
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np

RAMPS = {"step, ramp at 0": 0.0, "step, ramp at half": 0.5, "step, ramp at its end": 1.0}


def run(arguments) -> None:
    """Does the work of --task in the way --way."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    if arguments.task == "around":
        print(json.dumps(around(arguments)), flush=True)
    elif arguments.task == "candidates":
        print(json.dumps(candidates(arguments)), flush=True)
    else:
        serve(arguments)


def serve(arguments):
    """Reads numbers, does the work of each, and answers with seconds and peak megabytes."""
    started = time.perf_counter()
    work = make_work(arguments)
    work(0)
    print(json.dumps({"first": time.perf_counter() - started}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        work(int(line))
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "peak_mb": peak_bytes() / 1e6}), flush=True)


def peak_bytes() -> int:
    """Returns the largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rows_of(task, space, ghosts, count=8):
    """Returns masks `[count, ghosts, P]`: sampled architectures, or path dropout on the ramp."""
    if task == "evaluate":
        rng = np.random.default_rng(1)
        return space.masks([space.sample(rng) for _ in range(count)])[:, None]
    from oneshot_tf import PathDropout

    sampler = PathDropout(space, 0.1, "linear", num_steps=1000)
    step = int(1000 * RAMPS[task])
    return np.stack([sampler.sample(ghosts, step, seed).numpy() for seed in range(count)])


def make_work(arguments):
    """Returns `work(i)` of a task in one of the ways: skip, dense or torch."""
    import tensorflow as tf

    import oneshot_tf as ost

    space, size, skip = ost.bender2018(), arguments.image_size, arguments.way == "skip"
    rows = rows_of(arguments.task, space, arguments.ghosts)
    if arguments.way == "torch":
        from benchmark_torch import make_work as make

        return make(
            arguments.task, space, arguments.cells, arguments.filters, size, rows,
            arguments.threads,
        )  # fmt: skip
    net = ost.Supernet(space, ost.Stack(arguments.cells, arguments.filters), 10)
    if arguments.task == "evaluate":
        images = tf.random.stateless_normal([32, size, size, 3], [1, 2])
        logits = tf.function(lambda images, mask: net(images, mask, skip=skip), autograph=False)
        return lambda i: logits(images, tf.constant(rows[i % len(rows)])).numpy()
    return make_step(net, rows, 32 * arguments.ghosts, size, skip)


def make_step(net, rows, count, size, skip, xla=False):
    """Returns `work(i)`: a training step on `count` random images, with masks from `rows`."""
    import tensorflow as tf

    from oneshot_tf.learning.optimizers import NesterovSGD
    from oneshot_tf.learning.steps import TrainStep
    from oneshot_tf.settings import TrainSettings

    class Given:
        """A sampler that gives all ways the same masks."""

        def sample(self, num_ghosts, step, seed):
            return tf.gather(tf.constant(rows), step % len(rows))

    def prepare(images, *_):
        return tf.cast(images, tf.float32) / 128.0 - 1.0

    settings = TrainSettings(
        batch_size=count, device_batch_size=count, skip_paths="always" if skip else "never"
    )
    optimizer = NesterovSGD(0.01, momentum=0.9, nesterov=True)
    optimizer.build(net.trainable_variables)
    step = TrainStep(net, optimizer, Given(), prepare, settings, 0, size)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, [count, size, size, 3]), tf.uint8)
    labels = tf.constant(rng.integers(0, 10, count), tf.int32)
    if xla:
        compiled = tf.function(step.dense, autograph=False, jit_compile=True)
        return lambda i: compiled(images, labels, tf.constant(i))["loss"].numpy()
    return lambda i: step(images, labels, i)["loss"].numpy()


def candidates(arguments) -> dict:
    """Measures the rate and the memory of evaluating many architectures."""
    import psutil
    import tensorflow as tf

    import oneshot_tf as ost
    from oneshot_tf.cost import counts
    from oneshot_tf.data.dataset import Split
    from oneshot_tf.evaluation import shared_weights

    size, ghosts, in_flight = arguments.image_size, arguments.ghosts, arguments.in_flight
    net = ost.Supernet(ost.bender2018(), ost.Stack(arguments.cells, arguments.filters), 10)
    rng = np.random.default_rng(0)
    split = Split(
        rng.integers(0, 256, [ghosts * 32, size, size, 3], np.uint8),
        rng.integers(0, 10, ghosts * 32).astype(np.int32),
    )
    shared_weights.plan_chunks = lambda *_: (
        ghosts,
        in_flight,
    )  # the sizes to measure
    before = psutil.Process().memory_info().rss
    evaluator = ost.CandidateEvaluator(net, split, lambda x: tf.cast(x, tf.float32) / 128 - 1)
    every = [net.space.sample(rng) for _ in range(arguments.count)]
    evaluator.outcomes(every)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        evaluator.outcomes(every)
        seconds.append(time.perf_counter() - started)
    images = 32 * ghosts * in_flight
    each = counts.activation_bytes(net.space, net.stack, size)
    return {
        "rate": (len(every) * len(split) / np.array(seconds)).tolist(),
        "activations_mb": (peak_bytes() - before) / 1e6,
        "bound_mb": images * each / 1e6,
    }


class Clock:
    """Times of the calls of watched functions: `spans[key]` is a list of (start, end)."""

    def __init__(self):
        self.spans = {}

    def watch(self, key, function, finish=lambda result: result):
        """Returns `function` with its calls timed until `finish(result)` ends."""
        spans = self.spans.setdefault(key, [])

        @functools.wraps(function)
        def timed(*args, **kwargs):
            started = time.perf_counter()
            result = function(*args, **kwargs)
            finish(result)
            spans.append((started, time.perf_counter()))
            return result

        return timed

    def shares(self, graphs, others, warm: int) -> dict:
        """Returns shares of the time after the first `warm` calls of graphs.

        The first calls trace graphs and import TensorBoard, so they do not count.
        """
        start = self.spans[graphs][warm - 1][1]
        whole = max(end for spans in self.spans.values() for _, end in spans) - start
        spent = {
            key: sum(end - began for began, end in self.spans[key] if began >= start) / whole
            for key in (graphs, *others)
        }
        outside = 1 - spent.pop(graphs)
        return {"seconds": whole, "outside": outside, **spent}


def around(arguments) -> dict:
    """Measures the time that train and search spend outside of the graphs."""
    from oneshot_tf import search, settings, train
    from oneshot_tf.evaluation import shared_weights
    from oneshot_tf.learning import loop
    from oneshot_tf.learning.checkpoints import Checkpoints
    from oneshot_tf.learning.steps import TrainStep
    from oneshot_tf.runs.candidate_file import CandidateFile
    from oneshot_tf.strategies import PathDropoutSettings, RandomSearchSettings

    clock = Clock()
    TrainStep.__call__ = clock.watch("step", TrainStep.__call__, lambda sums: sums["loss"].numpy())
    Checkpoints.save = clock.watch("checkpoints", Checkpoints.save)
    loop.Loop._report = clock.watch("logs", loop.Loop._report)
    CandidateFile.append = clock.watch("candidates.csv", CandidateFile.append)
    build = shared_weights.log_probabilities

    def built(*args):
        return clock.watch("evaluation", build(*args), lambda result: result.numpy())

    shared_weights.log_probabilities = built
    with tempfile.TemporaryDirectory() as folder:
        run = settings.RunSettings(str(pathlib.Path(folder) / "run"))
        train.main(
            run,
            settings.DataSettings(dataset="digits", num_validation=400),
            settings.ModelSettings(num_cells=arguments.cells, filters=arguments.filters),
            settings.TrainSettings(batch_size=128, device_batch_size=128),
            settings.OneShotSettings(train_steps=101),
            PathDropoutSettings(drop_schedule="constant"),
            settings.DeviceSettings(log_steps=10, checkpoint_steps=50),
        )
        training = clock.shares("step", ["checkpoints", "logs"], warm=11)
        search.main(
            run,
            search.SearchSettings(num_candidates=100),
            RandomSearchSettings(),
            settings.LocationSettings(),
            settings.DistributionSettings(),
        )
    return {"training": training, "search": clock.shares("evaluation", ["candidates.csv"], warm=4)}


def input_work(arguments) -> dict:
    """Returns functions that measure images per second, of decoding alone and of batches."""
    import itertools
    import pathlib

    import tensorflow as tf

    import oneshot_tf as ost

    data = ost.load_data(
        f"folder:{arguments.images}", image_size=arguments.image_size, storage="files", fit="center"
    )
    paths = sorted(str(path) for path in pathlib.Path(arguments.images).glob("*/*"))
    paths = [path for path in paths if path.lower().endswith((".jpg", ".jpeg"))]
    count, rows, first = 1024, range(64), 4  # images, rows of a batch, batches before the clock

    def decoding():
        files = tf.data.Dataset.from_tensor_slices(paths).repeat()
        sizes = files.map(
            lambda path: tf.size(tf.io.decode_jpeg(tf.io.read_file(path), channels=3)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return rate(sizes.batch(len(rows)).prefetch(2))

    def batches():
        return rate(data.train.batches(0, len(rows), 0, rows, distort=True))

    def rate(steps):
        """Measures in the steady state, with as much decoded ahead at the start as at the end."""
        steps = iter(steps)
        for _ in range(first):
            next(steps)
        started = time.perf_counter()
        for _ in itertools.islice(steps, count // len(rows)):
            pass
        return count / (time.perf_counter() - started)

    return {"decoding alone": decoding, "batches": batches}
