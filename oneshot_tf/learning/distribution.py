"""Which devices train: strategies by name, and each replica's part of a batch."""

import json
import os

import tensorflow as tf

from oneshot_tf.errors import InputError


def make_strategy(name: str, num_ghosts: int) -> tf.distribute.Strategy:
    """The tf.distribute strategy for `--distribution`.

    Args:
        name: "auto": as many GPUs of this machine as divide the ghost batches, else
            the CPU; "cpu"; "mirrored": all GPUs of this machine; "multi_worker": the
            processes named in TF_CONFIG; "tpu": the local TPU.
        num_ghosts: ghost batches in the global batch.

    Raises:
        InputError: the devices aren't there.
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
        if not tf.config.list_logical_devices("GPU"):
            raise InputError(
                "--distribution=mirrored needs a GPU and none was found; use auto or cpu."
            )
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        _check_tf_config()
        return tf.distribute.MultiWorkerMirroredStrategy()
    return _tpu_strategy()


def _check_tf_config():
    try:
        workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    except (KeyError, TypeError, ValueError):
        workers = None
    if not workers:
        raise InputError(
            "--distribution=multi_worker needs the environment variable TF_CONFIG, such as "
            '\'{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
            '"task": {"type": "worker", "index": 0}}\'; on one machine use mirrored or auto.'
        )


def _tpu_strategy():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            "--distribution=tpu found no TPU on this machine; run it on a TPU VM with the extra "
            f"'tpu' installed, or use auto. ({str(error).splitlines()[0]})"
        ) from None


def is_chief(strategy=None) -> bool:
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


def local_batch(images, labels):
    """This process's part of the global batch, one slice for each of its replicas.

    Args:
        images: uint8 `[B, H, W, 3]`, the global batch.
        labels: int32 `[B]`.

    Returns:
        What `TrainStep` takes.
    """
    strategy = tf.distribute.get_strategy()
    share = len(images) // strategy.num_replicas_in_sync

    def of_replica(x):
        def rows(context):
            first = context.replica_id_in_sync_group * share
            return tf.convert_to_tensor(x[first : first + share])

        return strategy.experimental_distribute_values_from_function(rows)

    if strategy.num_replicas_in_sync == 1:
        return tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    return of_replica(images), of_replica(labels)
