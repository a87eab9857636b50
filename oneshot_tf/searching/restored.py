"""The one-shot model of a run, with its final weights."""

from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.sizes import one_shot_parameters
from oneshot_tf.settings import DeviceSettings, ModelSettings, OneShotSettings
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import command


def restore_supernet(directory: RunDirectory) -> tuple[Supernet, int]:
    """Returns the one-shot model of a run with its final weights, and its number of steps.

    Raises:
        InputError: The model is not trained to the end, or its checkpoint cannot be read.
    """
    model = directory.group(ModelSettings, "model")
    steps = directory.group(OneShotSettings, "one_shot").train_steps
    device = directory.group(DeviceSettings, "device")
    checkpoints = Checkpoints(directory.path / "checkpoints", owner=directory.run_id())
    reached = max(checkpoints.steps(), default=0)
    path = directory.path
    train = command("train", f"--flagfile={path / 'flags.txt'}", f"--run_dir={path}")
    if reached < steps:
        raise InputError(
            f"The one-shot model in {path} has a checkpoint of step {reached:,} of {steps:,}. "
            f"Train it to the end: {train}."
        )
    if reached > steps:
        raise InputError(
            f"{checkpoints.path(reached)} comes after --train_steps={steps} of {path}, so "
            "it does not belong to this run. Remove it."
        )
    space, classes = directory.space(), len(directory.facts()["class_names"])
    try:
        checkpoints.check_size(steps, one_shot_parameters(directory))
        supernet = Supernet(space, model.stack(), classes, dtype=device.dtype)
        checkpoints.restore_step(steps, supernet.variables)
    except InputError as error:
        raise InputError(
            f"{error} Train again; it resumes from the previous checkpoint: {train}."
        ) from None
    return supernet, steps
