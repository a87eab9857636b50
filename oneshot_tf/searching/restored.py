"""The one-shot model and the learner of a run, with their final weights."""

from typing import Any

from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.sizes import one_shot_parameters
from oneshot_tf.settings import DeviceSettings, ModelSettings, OneShotSettings
from oneshot_tf.strategies import LEARNERS, Learner, Learnt
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import command


def restore_supernet(directory: RunDirectory) -> tuple[Supernet, int]:
    """Returns the one-shot model of a run with its final weights, and its number of steps.

    Raises:
        InputError: The model is not trained to the end, or its checkpoint cannot be read.
    """
    model = directory.group(ModelSettings, "model")
    device = directory.group(DeviceSettings, "device")
    checkpoints, steps = _final_checkpoint(directory)
    space, classes = directory.space(), len(directory.facts()["class_names"])
    try:
        checkpoints.check_size(steps, one_shot_parameters(directory))
        supernet = Supernet(space, model.stack(), classes, dtype=device.dtype)
        checkpoints.restore_step(steps, supernet.variables)
    except InputError as error:
        raise InputError(
            f"{error} Train again; it resumes from the previous checkpoint: {_train(directory)}."
        ) from None
    return supernet, steps


def _train(directory: RunDirectory) -> str:
    path = directory.path
    return command("train", f"--flagfile={path / 'flags.txt'}", f"--run_dir={path}")


def _final_checkpoint(directory: RunDirectory) -> tuple[Checkpoints, int]:
    """Returns the checkpoints of a run and the step of the last one.

    Raises:
        InputError: The one-shot model is not trained to the end.
    """
    steps = directory.group(OneShotSettings, "one_shot").train_steps
    checkpoints = Checkpoints(directory.path / "checkpoints", owner=directory.run_id())
    reached = max(checkpoints.steps(), default=0)
    if reached < steps:
        raise InputError(
            f"The one-shot model in {directory.path} has a checkpoint of step {reached:,} of "
            f"{steps:,}. Train it to the end: {_train(directory)}."
        )
    if reached > steps:
        raise InputError(
            f"{checkpoints.path(reached)} comes after --train_steps={steps} of {directory.path}, "
            "so it does not belong to this run. Remove it."
        )
    return checkpoints, steps


def restore_learner(directory: RunDirectory) -> Learner:
    """Returns the learner that a run was trained with, with its final variables.

    Raises:
        InputError: The run was trained without a learner, not to the end, or its checkpoint cannot
            be read.
    """
    settings: Any = directory.strategy()
    if settings.strategy not in LEARNERS:
        raise InputError(
            f"--strategy=learnt needs a run whose architecture was learnt, for example by train "
            f"--strategy=darts; {directory.path} was trained with --strategy={settings.strategy}. "
            "Choose another --strategy."
        )
    checkpoints, steps = _final_checkpoint(directory)
    learner = LEARNERS[settings.strategy].make(directory.space(), settings, steps)
    checkpoints.restore_step(steps, learner.variables)
    return learner


def learnt(directory: RunDirectory, space: Any, seed: int) -> Learnt:
    """Returns the proposer of what the learner of a run derived.

    Args:
        directory: The run.
        space: Its search space, which may have limits.
        seed: The seed of the draws.

    Raises:
        InputError: As in `restore_learner`.
    """
    return Learnt(space, restore_learner(directory), seed)
