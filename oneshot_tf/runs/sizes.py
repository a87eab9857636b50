"""Checks that a run's checkpoints hold the net of its settings, before the net is built.

Only the headers of arrays are read. Otherwise a damaged setting, for example a wrong number of
filters, would first build a net that takes minutes and all memory.
"""

from typing import Any

from oneshot_tf.cost import counts
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.settings import ModelSettings, OneShotSettings


def one_shot_parameters(directory: Any) -> int:
    """Returns the number of trained parameters of the one-shot model, which equals All On's.

    Args:
        directory: The `RunDirectory`.
    """
    space, stack = directory.space(), directory.group(ModelSettings, "model").stack()
    classes = len(directory.facts()["class_names"])
    return int(counts.parameters(space, [space.all_on()], stack, classes)[0])


def check_one_shot(directory: Any) -> None:
    """Compares the newest checkpoint of the one-shot model with config.json.

    Without a readable checkpoint, it does nothing.

    Args:
        directory: The `RunDirectory`.

    Raises:
        InputError: The sizes differ, or a checkpoint has a step beyond --train_steps.
    """
    steps = directory.group(OneShotSettings, "one_shot").train_steps
    checkpoints = Checkpoints(directory.path / "checkpoints", num_steps=steps)
    checkpoints.check_newest_size(one_shot_parameters(directory))
