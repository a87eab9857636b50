"""Whether a run's checkpoints hold the net that its settings describe, before it is built.

Only headers of arrays are read, so that a damaged setting such as the number of filters does not
first build a net that takes minutes and all memory.
"""

from typing import Any

from oneshot_tf.cost import counts
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.settings import ModelSettings, OneShotSettings


def one_shot_parameters(directory: Any) -> int:
    """Trained numbers of the one-shot model: those of All On.

    Args:
        directory: the `RunDirectory`.
    """
    space, stack = directory.space(), directory.group(ModelSettings, "model").stack()
    classes = len(directory.facts()["class_names"])
    return int(counts.parameters(space, [space.all_on()], stack, classes)[0])


def check_one_shot(directory: Any) -> None:
    """Compares the newest checkpoint of the one-shot model with config.json.

    Where there is no checkpoint that can be read, there is nothing to compare.

    Args:
        directory: the `RunDirectory`.

    Raises:
        InputError: they do not fit together, or a checkpoint is of a step beyond --train_steps.
    """
    steps = directory.group(OneShotSettings, "one_shot").train_steps
    checkpoints = Checkpoints(directory.path / "checkpoints", num_steps=steps)
    checkpoints.check_newest_size(one_shot_parameters(directory))
