"""Runs many architectures through the one-shot model in one call."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.devices.accelerators import accelerators
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError

_TPU_BLOCK = 16  # architectures per call and replica


class NotFinite(InputError):
    """Raised if the outcome of an architecture is not finite."""


def _outcomes(
    supernet: Supernet,
    normalize: Callable[[tf.Tensor], tf.Tensor],
    num_images: int,
    ghosts: int,
    in_flight: int,
    skip: bool,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the function that `log_probabilities` runs on one replica."""

    def outcomes(images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        stem = supernet.stem_of(normalize(images), ghosts)

        def one(mask: tf.Tensor) -> tf.Tensor:
            mask = mask[tf.newaxis]
            logits = supernet(stem, mask, num_ghosts=ghosts, skip=skip, after_stem=True)
            return tf.nn.log_softmax(logits)

        signature = tf.TensorSpec([num_images, supernet.num_classes], tf.float32)
        return tf.map_fn(one, masks, fn_output_signature=signature, parallel_iterations=in_flight)

    return outcomes


def log_probabilities(
    supernet: Supernet,
    normalize: Callable[[tf.Tensor], tf.Tensor],
    num_images: int,
    image_size: int,
    ghosts: int,
    in_flight: int,
):
    """Returns a function that computes log-probabilities `[A, B, K]`.

    The function takes uint8 images `[B, H, W, 3]` and masks `[A, P]`. It normalises the images
    and computes the stem once for all architectures. Each replica of the current strategy takes
    its share of the architectures.

    Args:
        supernet: A trained `Supernet`.
        normalize: Converts uint8 images to float images.
        num_images: The number B of images per call.
        image_size: Height and width of the images.
        ghosts: The number of ghost batches in the B images.
        in_flight: How many architectures are computed at the same time.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    skip = "TPU" not in accelerators()  # a TPU needs shapes and work that do not depend on values
    # A TPU needs one fixed shape. Other devices take any multiple of the number of replicas.
    block = None if skip else _TPU_BLOCK * replicas
    outcomes = _outcomes(supernet, normalize, num_images, ghosts, in_flight, skip)
    alone = replicas == 1 and skip
    on_all = outcomes if alone else _on_replicas(strategy, outcomes, block)
    graph = tf.function(on_all, autograph=False).get_concrete_function(
        tf.TensorSpec([num_images, image_size, image_size, 3], tf.uint8),
        tf.TensorSpec([block, supernet.space.num_paths], tf.float32),
    )
    return graph if alone else _filled_up(strategy, graph, block)


def _on_replicas(
    strategy: tf.distribute.Strategy, outcomes: Callable, block: int | None
) -> Callable[[tf.Tensor, tf.Tensor], Any]:
    """Returns a function that runs `outcomes` on all replicas, each with its own rows of masks."""
    replicas, several = strategy.num_replicas_in_sync, _several_workers(strategy)

    def of_replica(images: tf.Tensor, masks: tf.Tensor):
        count = tf.shape(masks)[0] // replicas if block is None else block // replicas
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * count
        own = masks[first : first + count]
        found = outcomes(images, own if block is None else tf.ensure_shape(own, [count, None]))
        return tf.distribute.get_replica_context().all_gather(found, axis=0) if several else found

    return lambda images, masks: strategy.run(of_replica, args=(images, masks))


def _filled_up(
    strategy: tf.distribute.Strategy, graph: Callable, block: int | None
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function for any number of masks. It repeats rows until a graph's shape is full."""
    replicas, several = strategy.num_replicas_in_sync, _several_workers(strategy)

    def together(results: Any):
        results = strategy.experimental_local_results(results)
        return results[0] if several else tf.concat(results, axis=0)

    def filled_up(images: tf.Tensor, masks: tf.Tensor):
        count, size = masks.shape[0], block or -(-masks.shape[0] // replicas) * replicas
        rows = [
            np.resize(np.arange(first, min(first + size, count)), size)
            for first in range(0, count, size)
        ]
        found = [together(graph(images, tf.gather(masks, each))) for each in rows]
        return tf.concat(found, axis=0)[:count]

    return filled_up


def _several_workers(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def check_finite(values: np.ndarray, architectures: Sequence[Architecture], what: str) -> None:
    """Makes sure that all measured values are finite.

    Args:
        values: Float `[A, ...]`, the values measured for each architecture.
        architectures: The A architectures.
        what: The name of the values for the message, for example "cross-entropy".

    Raises:
        NotFinite: A value is not finite. The message names an architecture.
    """
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        worst = int(np.argmin(finite))
        raise NotFinite(
            f"{int((~finite).sum())} of {len(finite)} architectures have a {what} that is not "
            f"finite with the shared weights, for example {architectures[worst]}. The one-shot "
            "model cannot rank them. Train it again with a lower --learning_rate."
        )
