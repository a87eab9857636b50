"""Trains one-shot models and stand-alone models."""

import os
from collections.abc import Callable
from typing import Any

from oneshot_tf.learning.defaults import default_batch_size
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.metrics_log import Track
from oneshot_tf.settings import DeviceSettings, FinalSettings, TrainSettings
from oneshot_tf.strategies.protocols import Sampler
from oneshot_tf.system.errors import InputError


def fit_supernet(
    supernet: Any,
    data: Any,
    sampler: Sampler,
    num_steps: int,
    settings: TrainSettings | None = None,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    *,
    device: DeviceSettings | None = None,
    track: Track | None = None,
    owner: str | None = None,
) -> dict[str, Any]:
    """Trains a one-shot model with masks that a sampler draws (section 3.2).

    Example:

        >>> space = bender2018(num_blocks=1)
        >>> supernet = Supernet(space, Stack(1, 4), num_classes=10)
        >>> sampler = PathDropout(space, 0.1, num_steps=2)
        >>> fit_supernet(supernet, digits, sampler, 2, TrainSettings(batch_size=64))["step"]
        one-shot training: 2 steps (the first one takes a while) ...
        2

    Args:
        supernet: A `Supernet`, made in the scope of the distribution strategy in force, if any.
        data: A `Dataset`. Its training images are used; a `Learner` also uses its validation
            images.
        sampler: Draws the masks of each step, for example `PathDropout`, or learns them, for
            example `Darts`. A learner has variables, so it must be made in the scope, too.
        num_steps: Length of the training, at least 1.
        settings: How to train. The default batch size depends on the number of images.
        seed: The seed of dropped paths, data order and augmentation.
        directory: Where checkpoints and metrics.jsonl go. A training found there resumes. None
            keeps nothing.
        device: Intervals of logs and checkpoints, and what to do if the loss is not finite.
            `threads` must be 0 or the number that TensorFlow started with.
        track: Called as `track(step)` at each line of metrics.jsonl. The dict that it returns
            becomes a line of tracked.jsonl in `directory`.
        owner: A text that marks this training. Its checkpoints carry it.

    Returns:
        The last line of metrics: step, loss, cross_entropy, l2, accuracy, …

    Raises:
        InputError: Sizes do not fit the data, TensorFlow started with another number of threads,
            or a loss is not finite.
        KeyboardInterrupt: The training was interrupted. The state was saved in `directory`.
    """
    if not isinstance(sampler, Sampler):
        raise InputError(
            "sampler must be a Sampler, for example PathDropout(space, 0.1, num_steps=100); got "
            f"{type(sampler).__name__}. Derive your own class from oneshot_tf.Sampler."
        )
    settings = settings or TrainSettings(batch_size=default_batch_size(len(data.train)))
    loop = Loop(supernet, data, sampler, num_steps, settings, seed, directory, track=track)
    return loop.run(device or DeviceSettings(), "one-shot training", owner)


def fit_standalone(
    net: Any,
    data: Any,
    num_steps: int,
    settings: TrainSettings | None = None,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    *,
    device: DeviceSettings | None = None,
    owner: str | None = None,
    final: FinalSettings | None = None,
    before_write: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Trains a stand-alone model from scratch (section 3.4), as `fit_supernet`.

    `final` adds tools of final training: warm-up, averaged weights, ScheduledDropPath and class
    weights. With `weight_average`, the net has the averaged weights in the end. `before_write` is
    called before each write to `directory`. It may raise `ClaimLost`, which ends the training.

    Example:

        >>> cell = Architecture.from_text("prev1:max3x3")
        >>> net = Standalone(bender2018(num_blocks=1), cell, Stack(1, 4), num_classes=10)
        >>> fit_standalone(net, digits, 1, TrainSettings(batch_size=64))["step"]
        stand-alone training: 1 steps (the first one takes a while) ...
        1
    """
    settings = settings or TrainSettings()
    loop = Loop(net, data, None, num_steps, settings, seed, directory, final=final)
    loop.before_write = before_write or loop.before_write
    last = loop.run(device or DeviceSettings(), "stand-alone training", owner)
    if loop.tools.averages:
        loop.tools.averages.use()
    return last
