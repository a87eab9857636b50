"""Which devices train: strategies by name, and each replica's part of a batch."""

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
_TPU_ANSWERS, _TPU_STARTS = 20.0, 600.0  # seconds that a TPU may take
_PROCESSES_START = 120.0  # seconds, once all have met
_ENDS = ("AbortedError", "CancelledError", "DeadlineExceededError", "InternalError",
         "UnavailableError")  # of TensorFlow, when a process is gone  # fmt: skip
_SAME = ("oneshot_tf", "tensorflow", "tensorflow-cpu", "keras", "numpy")


def make_strategy(
    name: str, num_ghosts: int, started_with: Iterable[Any] = ()
) -> tf.distribute.Strategy:
    """The tf.distribute strategy for `--distribution`.

    Args:
        name: "auto": as many GPUs of this machine as divide the ghost batches, else
            the CPU; "cpu"; "mirrored": all GPUs of this machine (or its logical CPUs, where
            there are several and no GPU); "multi_worker": the processes named in TF_CONFIG;
            "tpu": the local TPU.
        num_ghosts: ghost batches in the global batch.
        started_with: objects of `settings`, which must be the same in all processes.

    Raises:
        InputError: the devices or processes are not there, or do not go together.
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
                "--distribution=mirrored needs a GPU and none was found; use auto or cpu."
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
        f"Another process of TF_CONFIG went away, or cannot be reached: after "
        f"{_PROCESSES_START:.0f} s TensorFlow still waits for it. Start all of them again."
    )
    try:
        with ending_after(_PROCESSES_START, message):
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise InputError(f"The processes of TF_CONFIG cannot be joined: {plain(error)}") from None


def _versions():
    found = {}
    for package in _SAME:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return {"TensorFlow": tf.__version__, **found}


@contextlib.contextmanager
def watch_workers(strategy: tf.distribute.Strategy | None):
    """Turns the end of another process into one line, within about half a minute.

    Raises:
        InputError: instead of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1 or type(error).__name__ not in _ENDS:
            raise
        raise InputError(
            "Another process of TF_CONFIG has stopped, or cannot be reached. What was saved is "
            "kept; to go on, start all of them again with the same commands. "
            f"({type(error).__name__}: {plain(error)})"
        ) from None


def num_workers(strategy: tf.distribute.Strategy | None = None) -> int:
    """How many processes train together.

    Args:
        strategy: None for the one in force.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values())


def of_all_workers(value: int) -> list[int]:
    """The number that each process of the strategy in force gives: a collective operation."""
    strategy = tf.distribute.get_strategy()
    if num_workers(strategy) == 1:
        return [value]
    own = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant([value], tf.int32)
    )
    replicas = strategy.num_replicas_in_sync // num_workers(strategy)
    return np.asarray(strategy.gather(own, axis=0))[::replicas].tolist()


def check_alike(what: str, *values: object) -> None:
    """Makes sure that the processes of the strategy in force found the same.

    A collective operation: all of them call it.

    Args:
        what: they found, for the message.
        values: that JSON can hold.

    Raises:
        InputError: in all processes alike.
    """
    text = json.dumps(values, sort_keys=True)
    if len(set(of_all_workers(zlib.crc32(text.encode()) >> 1))) > 1:
        raise InputError(
            f"The processes of TF_CONFIG find different {what}; they must be the same for all."
        )


def _tpu_strategy():
    name = os.environ.get("TPU_NAME", "local")
    where = "on this machine" if name == "local" else f"called {short(name)} (TPU_NAME)"
    message = (
        f"--distribution=tpu found no TPU {where}; run it on a TPU VM with the extra 'tpu' "
        "installed, or use auto."
    )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            for address in resolver.cluster_spec().as_dict().get("worker", []):
                host, port = address.rsplit(":", 1)
                socket.create_connection((host, int(port)), timeout=_TPU_ANSWERS).close()
        # TensorFlow waits for a TPU without end.
        with ending_after(_TPU_STARTS, f"{message} (It did not answer in {_TPU_STARTS:.0f} s.)"):
            if name != "local":
                tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(f"{message} ({plain(error)})") from None


def is_chief(strategy: tf.distribute.Strategy | None = None) -> bool:
    """Whether this process writes files: the only one, the chief, or worker 0 where there is none.

    Args:
        strategy: None for the one in force.
    """
    resolver = (strategy or tf.distribute.get_strategy()).cluster_resolver
    if resolver is None or not getattr(resolver, "task_type", None):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def own_rows(batch_size: int) -> range:
    """Which rows of the global batch this process computes."""
    workers = num_workers()
    if workers == 1:
        return range(batch_size)
    first = Cluster.from_tf_config(os.environ["TF_CONFIG"]).index * (batch_size // workers)
    return range(first, first + batch_size // workers)


def local_batch(images: np.ndarray, labels: np.ndarray):
    """This process's rows of the global batch, one slice for each of its replicas.

    Args:
        images: uint8 `[b, H, W, 3]`, the rows that `own_rows` says.
        labels: int32 `[b]`.

    Returns:
        What `TrainStep` takes.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync // num_workers()  # of this process
    share = len(images) // replicas

    def of_replica(x: np.ndarray):
        def rows(context: Any):
            first = context.replica_id_in_sync_group % replicas * share
            return tf.convert_to_tensor(x[first : first + share])

        return strategy.experimental_distribute_values_from_function(rows)

    if strategy.num_replicas_in_sync == 1:
        return tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    return of_replica(images), of_replica(labels)
