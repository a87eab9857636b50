"""Distribution strategies by name, and each replica's part of a batch."""

import contextlib
import json
import os
import socket
import zlib
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.devices.cluster import Cluster
from oneshot_tf.system.errors import InputError, plain, short
from oneshot_tf.system.interrupts import ending_after

_LOCAL = {"run_dir", "data_dir", "download"}  # may differ between machines
_TPU_ANSWERS, _TPU_STARTS = 20.0, 600.0  # seconds that a TPU may take to answer and to start
_PROCESSES_START = 120.0  # seconds that TensorFlow may take once all workers have met
_ENDS = ("AbortedError", "CancelledError", "DeadlineExceededError", "InternalError",
         "UnavailableError")  # TensorFlow's errors when a worker is gone  # fmt: skip
_SAME = ("oneshot_tf", "tensorflow", "tensorflow-cpu", "keras", "numpy")


def make_strategy(
    name: str, num_ghosts: int, started_with: Iterable[Any] = ()
) -> tf.distribute.Strategy:
    """Returns the tf.distribute strategy for `--distribution`.

    Args:
        name: One of five names. "auto" takes as many GPUs of this machine as divide the number of
            ghost batches, or else the CPU. "cpu" takes the CPU. "mirrored" takes all GPUs of this
            machine, or its logical CPUs if there are several and no GPU. "multi_worker" takes the
            workers in TF_CONFIG. "tpu" takes the local TPU, or the one in TPU_NAME.
        num_ghosts: Ghost batches in the global batch.
        started_with: Objects of `settings` that must be the same in all workers.

    Raises:
        InputError: The devices or workers are missing, or the workers were started differently.
    """
    if name == "auto":
        gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
        while gpus and num_ghosts % len(gpus):
            gpus.pop()
        several = len(gpus) > 1
        return tf.distribute.MirroredStrategy(gpus) if several else tf.distribute.get_strategy()
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if name == "mirrored":
        gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
        if not gpus and len(cpus) < 2:
            raise InputError(
                "--distribution=mirrored needs a GPU, but none was found. Use auto or cpu."
            )
        return tf.distribute.MirroredStrategy([device.name for device in gpus or cpus])
    if name == "multi_worker":
        return _multi_worker_strategy(started_with)
    return _tpu_strategy()


def _multi_worker_strategy(started_with: Iterable[Any]):
    cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG"))
    flags = {
        f"--{name}": value
        for settings in started_with
        for name, value in settings.to_dict().items()
        if name not in _LOCAL
    }
    addresses = json.loads(os.environ["TF_CONFIG"])["cluster"]
    gpus = {"GPUs": len(tf.config.list_physical_devices("GPU"))}
    cluster.meet(
        {
            "the flag": flags,
            "the package": _versions(),
            "the addresses of": addresses,
            "the number of": gpus,
        }
    )
    message = (
        f"Another worker in TF_CONFIG has stopped or cannot be reached: TensorFlow has waited "
        f"{_PROCESSES_START:.0f} s for it. Start all workers again."
    )
    try:
        with ending_after(_PROCESSES_START, message):
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise InputError(f"The workers in TF_CONFIG cannot be connected: {plain(error)}") from None


def _versions():
    found = {}
    for package in _SAME:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return {"TensorFlow": tf.__version__, **found}


@contextlib.contextmanager
def watch_workers(strategy: tf.distribute.Strategy | None):
    """Reports the end of another worker in one line, within about half a minute.

    Raises:
        InputError: Another worker has stopped. It replaces TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1 or type(error).__name__ not in _ENDS:
            raise
        raise InputError(
            "Another worker in TF_CONFIG has stopped or cannot be reached. Saved work is kept. To "
            "resume, start all workers again with the same commands. "
            f"({type(error).__name__}: {plain(error)})"
        ) from None


def num_workers(strategy: tf.distribute.Strategy | None = None) -> int:
    """Returns how many workers train together.

    Args:
        strategy: A strategy; None for the current one.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values())


def of_all_workers(value: int) -> list[int]:
    """Returns the values that all workers pass. All of them must call it."""
    strategy = tf.distribute.get_strategy()
    if num_workers(strategy) == 1:
        return [value]
    own = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant([value], tf.int32)
    )
    replicas = strategy.num_replicas_in_sync // num_workers(strategy)
    return np.asarray(strategy.gather(own, axis=0))[::replicas].tolist()


def check_alike(what: str, *values: object) -> None:
    """Makes sure that all workers see the same values. All of them must call it.

    Args:
        what: A plural noun for the values, for the message.
        values: Values that JSON can hold.

    Raises:
        InputError: The values differ. Every worker raises it.
    """
    text = json.dumps(values, sort_keys=True)
    if len(set(of_all_workers(zlib.crc32(text.encode()) >> 1))) > 1:
        raise InputError(
            f"The workers in TF_CONFIG see different {what}. Every worker must see the same."
        )


def _tpu_strategy():
    name = os.environ.get("TPU_NAME", "local")
    where = "on this machine" if name == "local" else f"called {short(name)} (TPU_NAME)"
    message = (
        f"--distribution=tpu found no TPU {where}. Run it on a TPU VM with the extra 'tpu' "
        "installed, or use auto."
    )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            for address in resolver.cluster_spec().as_dict().get("worker", []):
                host, port = address.rsplit(":", 1)
                socket.create_connection((host, int(port)), timeout=_TPU_ANSWERS).close()
        # TensorFlow would wait for a TPU for ever.
        with ending_after(_TPU_STARTS, f"{message} (It did not answer in {_TPU_STARTS:.0f} s.)"):
            if name != "local":
                tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(f"{message} ({plain(error)})") from None


def is_chief(strategy: tf.distribute.Strategy | None = None) -> bool:
    """Returns whether this process writes files.

    One process always does. Of several workers, only the chief does, or worker 0 if TF_CONFIG
    names no chief.

    Args:
        strategy: A strategy; None for the current one.
    """
    resolver = (strategy or tf.distribute.get_strategy()).cluster_resolver
    if resolver is None or not getattr(resolver, "task_type", None):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def own_rows(batch_size: int) -> range:
    """Returns the rows of the global batch that this worker computes."""
    workers = num_workers()
    if workers == 1:
        return range(batch_size)
    first = Cluster.from_tf_config(os.environ["TF_CONFIG"]).index * (batch_size // workers)
    return range(first, first + batch_size // workers)


def local_batch(images: np.ndarray, labels: np.ndarray):
    """Cuts this worker's rows of the global batch into one slice per replica.

    Args:
        images: Uint8 `[b, H, W, 3]`, the rows of `own_rows`.
        labels: Int32 `[b]`.

    Returns:
        Images and labels for `TrainStep`.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync // num_workers()  # of this worker
    share = len(images) // replicas

    def of_replica(x: np.ndarray):
        def rows(context: Any):
            first = context.replica_id_in_sync_group % replicas * share
            return tf.convert_to_tensor(x[first : first + share])

        return strategy.experimental_distribute_values_from_function(rows)

    if strategy.num_replicas_in_sync == 1:
        return tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    return of_replica(images), of_replica(labels)
