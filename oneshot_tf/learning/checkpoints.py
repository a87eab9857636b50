"""Saves and restores checkpoints of a net and its optimizer, one file per step.

A checkpoint stores arrays by name. So it fits any number of devices and never fills a wrong
variable. It is written to a temporary name and renamed, so that a crash never leaves half a
file under the name of a checkpoint. A checksum reveals damage.
"""

import math
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from oneshot_tf.system.array_files import array_shapes, read_arrays, write_arrays
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import make_folder
from oneshot_tf.system.opening import check_folder

# Variable names of earlier versions and their current names. The second pair is for the
# optimizer's momentum.
_RENAMED = (("_bn/offset", "_bn/beta"), ("_bn_offset_", "_bn_beta_"))
_NAME = re.compile(r"step_(\d{9})\.npz")
# Arrays that identify a checkpoint. Earlier versions did not write them.
_OWNER, _STEP = "checkpoint/owner", "checkpoint/step"
AVERAGE = "average"  # the folder, so to speak, of the averages of `Averages`


class WrongOwner(InputError):
    """Raised for an undamaged checkpoint of another run, another net or another step."""


class Checkpoints:
    """The checkpoints in one folder.

    Args:
        folder: The folder of the checkpoints.
        keep: How many of the newest checkpoints stay.
        owner: A text that identifies the net in training. A checkpoint with another text, or
            without one, is refused. None saves no text and accepts any.
        num_steps: Length of the training. A checkpoint of a later step is refused. None accepts
            any step.

    Raises:
        InputError: The folder is a link that leads out of its parent folder, or it holds such a
            link.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        keep: int = 3,
        owner: str | None = None,
        num_steps: int | None = None,
    ):
        self.folder = pathlib.Path(folder)
        check_folder(self.folder, self.folder.parent)
        self.keep, self.owner, self.num_steps = keep, owner, num_steps

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, in ascending order."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> pathlib.Path:
        """Returns the path of the checkpoint of a step."""
        return self.folder / f"step_{step:09d}.npz"

    def save(self, step: int, variables: Iterable[keras.Variable], write: bool = True) -> None:
        """Writes the values of variables. Removes old checkpoints once the new one is complete.

        Args:
            step: The number of steps done.
            variables: Keras variables with distinct paths.
            write: False in workers that read the values together with the chief, but do not
                write them.

        Raises:
            InputError: A value is not finite, or the file cannot be written.
        """
        arrays = {variable.path: value_of(variable) for variable in variables}
        wrong = not_finite(arrays)
        if wrong:
            raise InputError(f"'{wrong}' is not finite at step {step:,}, so nothing was saved.")
        if not write:
            return
        make_folder(self.folder)
        arrays[_STEP] = np.array(step)
        if self.owner is not None:
            arrays[_OWNER] = np.frombuffer(self.owner.encode(), np.uint8)
        write_arrays(self.path(step), arrays)
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink(missing_ok=True)

    def restore(self, variables: Iterable[keras.Variable]) -> int:
        """Fills variables from the newest checkpoint that can be read.

        Returns:
            The step of the checkpoint; 0 if there is none.

        Raises:
            InputError: There are checkpoints, but all are damaged or do not fit; or a checkpoint
                comes after the end of the training.
            WrongOwner: The newest undamaged checkpoint belongs to another run, model or step.
                It is not skipped: training would overwrite what may be the only copy.
        """
        self._check_last()
        failures = []
        for step in reversed(self.steps()):
            try:
                self.restore_step(step, variables)
            except WrongOwner:
                raise
            except InputError as error:
                print(f"Skipping a checkpoint: {error}", flush=True)
                failures.append(str(error))
                continue
            return step
        if failures:
            raise InputError(
                f"None of the {len(failures)} checkpoint(s) in {self.folder} can be used "
                f"({failures[0]}). Remove the folder to start anew."
            )
        return 0

    def _check_last(self):
        """Raises InputError if there is a checkpoint beyond the end of the training."""
        last = max(self.steps(), default=0)
        if self.num_steps is not None and last > self.num_steps:
            raise InputError(
                f"{self.path(last)} comes after the {self.num_steps:,} steps of this "
                "training, so it does not belong to this run. Remove it."
            )

    def restore_step(
        self, step: int, variables: Iterable[keras.Variable], averaged: bool = False
    ) -> None:
        """Fills variables from the checkpoint of a step.

        Args:
            step: The step of the checkpoint.
            variables: Keras variables with distinct paths.
            averaged: Whether to take the averages of variables that have one in the file, because
                the net was trained with --weight_average.

        Raises:
            InputError: The file is missing or damaged, has other variables, or holds values that
                are not finite.
            WrongOwner: The checkpoint belongs to another run, model or step.
        """
        path = self.path(step)
        if not path.exists():
            raise InputError(f"{path} is missing.")
        arrays = {_name_now(name): array for name, array in read_arrays(path).items()}
        self._check_owner(path, step, arrays)
        if averaged:
            names = [variable.path for variable in variables]
            arrays.update({n: arrays[a] for n in names if (a := average_name(n)) in arrays})
        for variable in variables:
            array = arrays.get(variable.path)
            if array is None or array.shape != tuple(variable.shape):
                has = "no array" if array is None else f"an array of shape {array.shape}"
                raise InputError(
                    f"{path} has {has} for the variable '{variable.path}' of shape "
                    f"{tuple(variable.shape)}. It is a checkpoint of another net."
                )
        wrong = not_finite({variable.path: arrays[variable.path] for variable in variables})
        if wrong:
            raise InputError(f"{path} cannot be used: its '{wrong}' is not finite.")
        for variable in variables:
            variable.assign(arrays[variable.path])

    def _check_owner(self, path: pathlib.Path, step: Any, arrays: dict[str, np.ndarray]):
        """Raises WrongOwner for a checkpoint of another run, net or step."""
        name, found = arrays.get(_OWNER), arrays.get(_STEP)
        owner = None if name is None else name.tobytes().decode(errors="replace")
        if self.owner not in (None, owner):
            whose = "a run without an id" if owner is None else f"the run {short(owner)}"
            raise WrongOwner(
                f"{path} belongs to {whose}; this is the run {self.owner!r}. Put this run's own "
                "file there, or remove it."
            )
        if self.owner is None and found is None:
            return  # an earlier version wrote it
        if found is None or found.shape or found.dtype.kind not in "iu" or found != step:
            holds = "no step" if found is None else f"step {short(found.tolist())}"
            raise WrongOwner(
                f"{path} holds {holds}, not what its name says. Put the file of that step there, "
                "or remove it."
            )

    def check_size(self, step: int, num_parameters: int) -> None:
        """Makes sure that a checkpoint has the size of the net, before the net is built.

        Args:
            step: The step of the checkpoint.
            num_parameters: The number of trained parameters of the net, without the optimizer's.

        Raises:
            InputError: The file is missing, damaged or of another size.
        """
        found = self._num_parameters(step)
        if found != num_parameters:
            raise InputError(
                f"{self.path(step)} has {found:,} parameters, but the net that the run describes "
                f"has {num_parameters:,}. Either file is damaged or of another run."
            )

    def check_newest_size(self, num_parameters: int) -> None:
        """Calls `check_size` for the newest checkpoint with readable headers, if there is one.

        Raises:
            InputError: It has another size, or a checkpoint is beyond the end of the training.
        """
        self._check_last()
        for step in reversed(self.steps()):
            try:
                self._num_parameters(step)
            except InputError:
                continue  # `restore` skips it and prints why
            return self.check_size(step, num_parameters)

    def _num_parameters(self, step: Any):
        return sum(
            math.prod(shape)
            for name, shape in array_shapes(self.path(step)).items()
            if not name.startswith(("sgd/", "checkpoint/", "learner", f"{AVERAGE}/"))
            and "/moving_" not in name
        )


def average_name(path: str) -> str:
    """Returns the name under which a checkpoint has the average of the variable `path`."""
    return f"{AVERAGE}/{path.replace('/', '.')}"


def _name_now(name: str) -> str:
    for before, now in _RENAMED:
        name = name.replace(before, now)
    return name


def not_finite(arrays: dict[str, np.ndarray]) -> str | None:
    """Returns the name of the first array that is not finite; None if all are finite."""
    # A sum is cheaper to check than all values: it needs no array of flags. But it may overflow,
    # so suspects are checked value by value.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = {name: array for name, array in arrays.items() if not np.isfinite(np.sum(array))}
    return next((name for name, a in suspects.items() if not np.isfinite(a).all()), None)


def value_of(variable: keras.Variable) -> np.ndarray:
    """Returns the value of a Keras variable."""
    return np.asarray(
        variable.value.numpy() if hasattr(variable.value, "numpy") else variable.value
    )
