"""The tools of final training, as settings ask for them."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from oneshot_tf.learning.averages import Averages
from oneshot_tf.learning.drop_path import DropPath
from oneshot_tf.learning.losses import balanced_weights
from oneshot_tf.settings import FinalSettings
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Tools:
    """What a training step does besides its loss and its update. None leaves it out.

    Args:
        class_weights: Float32 `[K]`, the weight of the loss of an image by its class.
        drop_path: Draws the paths that each image drops.
        averages: The averages of the weights.
    """

    class_weights: np.ndarray | None = None
    drop_path: DropPath | None = None
    averages: Averages | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint holds besides the net and the optimizer."""
        return self.averages.variables if self.averages else []


def make_tools(final: FinalSettings, net: Any, data: Any, num_steps: int, seed: int) -> Tools:
    """Returns the tools for a training of `num_steps` steps.

    It must be called in the scope of the distribution strategy.
    """
    balanced = final.class_weights == "balanced"
    weights = balanced_weights(data.train.labels, data.num_classes) if balanced else None
    drop_path = None
    if final.drop_path_keep < 1.0 and net.path_depths:
        drop_path = DropPath(final.drop_path_keep, net.path_depths, num_steps, seed)
    averages = Averages(net, final.weight_average) if final.weight_average else None
    return Tools(weights, drop_path, averages)


def warmup_steps(final: FinalSettings, num_images: int, batch_size: int) -> int:
    """Returns the number of steps in which the learning rate rises."""
    return math.ceil(final.warmup_epochs * num_images / batch_size)


def check_final(final: FinalSettings, data: Any, num_steps: int, batch_size: int) -> None:
    """Makes sure that the tools suit the data set and the length of the training.

    Raises:
        InputError: The warm-up is as long as the training, or the labels are not known.
    """
    warmup = warmup_steps(final, len(data.train), batch_size)
    if warmup >= num_steps:
        raise InputError(
            f"--warmup_epochs must be shorter than the training of {num_steps:,} steps; got "
            f"{final.warmup_epochs:g}, which are {warmup:,} steps. Lower it, or train longer."
        )
    if final.class_weights == "balanced" and data.train.labels is None:
        raise InputError(
            f"--class_weights=balanced needs the labels of all images of {data.name} at the start. "
            "Train the one-shot model with --storage=memory, or use --class_weights=none."
        )
