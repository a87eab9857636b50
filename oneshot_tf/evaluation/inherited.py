"""Stand-alone models that keep the shared weights, for users who cannot train from scratch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.nn.ghost_batch_norm import GhostBatchNorm
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError


def with_shared_weights(supernet: Supernet, architecture: Architecture) -> Standalone:
    """Returns the stand-alone model of an architecture, with the weights of the one-shot model.

    Its batch norms have no averages yet: see `recalibrate`. In training mode, the model gives the
    logits of the one-shot model under the architecture's masks.

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> net = with_shared_weights(supernet, Architecture.from_text("prev1:sep3x3"))
        >>> recalibrate(net, digits.train, digits.normalize, num_images=320)
        320

    Args:
        supernet: A trained `Supernet`.
        architecture: An architecture of its space, or All On.
    """
    net = Standalone(
        supernet.space, architecture, supernet.stack, supernet.num_classes, dtype="float32"
    )
    shared = {variable.path: variable for variable in supernet.trainable_variables}
    for variable in net.trainable_variables:
        variable.assign(shared[variable.path].value)
    return net


def recalibrate(
    net: Standalone,
    split: Any,
    normalize: Callable[[Any], tf.Tensor],
    num_images: int = 2_000,
    ghost_batch_size: int = 32,
) -> int:
    """Measures the averages of all batch norms of a model anew.

    The one-shot model normalises every ghost batch with its own statistics. A model that is served
    cannot do this, because an image must get the same answer alone and in a batch. So each moving
    average becomes the mean of the statistics of all ghost batches. All ghost batches weigh the
    same, in contrast to averages during training. Images are not augmented.

    Args:
        net: The model. Only its moving averages change.
        split: Training images, a `Split`. Random ones are taken, always the same.
        normalize: Converts uint8 images to float images, for example `dataset.normalize`.
        num_images: The number of images. It is rounded down to whole ghost batches.
        ghost_batch_size: Images in a ghost batch. The size used in training is best.

    Returns:
        The number of images that were used.

    Raises:
        InputError: There are no images, or a number is below 1.
    """
    if min(len(split), num_images, ghost_batch_size) < 1:
        raise InputError(
            "There must be at least 1 image, and num_images and ghost_batch_size must be at least "
            f"1; got {len(split)}, {num_images} and {ghost_batch_size}."
        )
    count = min(num_images, len(split))
    size = min(ghost_batch_size, count)
    ghosts = count // size
    # In random order, because the images of a folder are sorted by class.
    order = np.random.default_rng(0).permutation(len(split))[: ghosts * size]
    norms = [layer for layer in net._flatten_layers() if isinstance(layer, GhostBatchNorm)]
    momenta = [norm.momentum for norm in norms]

    def measure(images: tf.Tensor, micro_batch: tf.Tensor):
        net(normalize(images), training=True, micro_batch=micro_batch)

    graph = None
    try:
        # With a momentum of 0, all micro-batches of one step weigh the same; see `GhostBatchNorm`.
        for norm in norms:
            norm.momentum = 0.0
        for index, rows in enumerate(np.split(order, ghosts)):
            images = tf.constant(split.take(rows).in_memory().images)
            given = images, tf.constant([index, ghosts])
            if graph is None:  # one graph for all ghost batches
                graph = tf.function(measure, autograph=False).get_concrete_function(*given)
            graph(*given)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
    return len(order)
