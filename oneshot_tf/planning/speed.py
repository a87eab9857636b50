"""Times a training for a few steps on this machine, with images of noise."""

import dataclasses
import time
from typing import Any

import numpy as np

from oneshot_tf.data.dataset import Dataset, from_splits
from oneshot_tf.data.in_memory import Split
from oneshot_tf.learning.batches import Batches
from oneshot_tf.learning.loop import Loop
from oneshot_tf.learning.not_finite import Rollbacks
from oneshot_tf.settings import TrainSettings

_SECONDS, _MOST_STEPS, _LEAST_STEPS = 2.0, 50, 3


@dataclasses.dataclass(frozen=True)
class Speed:
    """The speed of a training.

    Args:
        start: Seconds until the first step is done. Most of them trace the graph.
        image: Seconds for an image after that.
    """

    start: float
    image: float


def time_training(net: Any, image_size: int, settings: TrainSettings) -> Speed:
    """Trains a net on noise for some steps, about two seconds.

    Args:
        net: A `Standalone` or a `BaselineModel`. Its weights change.
        image_size: Height and width of the images in pixels.
        settings: How to train.
    """
    data = _noise(image_size, settings.batch_size, net.num_classes)
    began = time.monotonic()
    loop = Loop(net, data, None, _MOST_STEPS, settings, 0, None)
    rollbacks = Rollbacks(None)
    batches = Batches(data.train, settings.batch_size, 0, False, loop.schedule, rollbacks)
    times: list[float] = []
    for number in range(_MOST_STEPS):
        step = time.monotonic()
        batch = batches.own(number)
        loop.step.trace(*batch, number)
        float(loop.step(*batch, number)["loss"])  # waits for the device
        times.append(time.monotonic() - step)
        if len(times) > _LEAST_STEPS and sum(times[1:]) > _SECONDS:
            break
    image = float(np.median(times[1:])) / settings.batch_size
    return Speed(time.monotonic() - began - sum(times[1:]), image)


def _noise(image_size: int, count: int, num_classes: int) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [count, image_size, image_size, 3], np.uint8)
    split = Split(images, np.arange(count, dtype=np.int32) % num_classes)
    return from_splits("noise", split, split, lambda: split, list(map(str, range(num_classes))))
