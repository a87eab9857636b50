"""Checkpoints of a net and its optimizer: arrays by name, in one file a step.

By name, so that a checkpoint fits any number of devices and never fills the
wrong variable silently; written beside and renamed, so that a kill never
leaves half a one under a checkpoint's name; checksummed, so that damage is seen.
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

# Names of variables of earlier versions, and what they are now. The second pair is of the
# optimizer's momentum.
_RENAMED = (("_bn/offset", "_bn/beta"), ("_bn_offset_", "_bn_beta_"))
_NAME = re.compile(r"step_(\d{9})\.npz")
# Arrays that say whose checkpoint a file is; earlier versions did not write them.
_OWNER, _STEP = "checkpoint/owner", "checkpoint/step"


class WrongOwner(InputError):
    """A whole checkpoint, but of another run, of another net, or of another step."""


class Checkpoints:
    """The checkpoints in one folder.

    Args:
        folder: where they are.
        keep: how many of the newest stay.
        owner: a text that tells the net that is trained here from all others. A checkpoint that
            was saved with another one, or without one, is refused. None: no text is saved, and
            any is accepted.
        num_steps: length of the training; a checkpoint of a later step is refused. None: any.

    Raises:
        InputError: the folder is a link that leads out of the one above it, or holds one.
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
        """Steps of which there is a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> pathlib.Path:
        """The file of a step."""
        return self.folder / f"step_{step:09d}.npz"

    def save(self, step: int, variables: Iterable[keras.Variable], write: bool = True) -> None:
        """Writes the variables' values; removes old checkpoints once the new one is whole.

        Args:
            step: steps done.
            variables: Keras variables with distinct paths.
            write: False in processes that only take part in reading the values.

        Raises:
            InputError: a value is not finite, or it cannot be written.
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
            The step of it; 0 where there is none.

        Raises:
            InputError: there are checkpoints, but none is whole or fits; or one is of a step
                beyond the end of the training.
            WrongOwner: the newest whole one is of another run, net or step. It is not passed
                over: to go on would overwrite what may be the only copy.
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
                f"({failures[0]}); remove that folder to start anew."
            )
        return 0

    def _check_last(self):
        """Raises InputError if there is a checkpoint of a step beyond the end."""
        last = max(self.steps(), default=0)
        if self.num_steps is not None and last > self.num_steps:
            raise InputError(
                f"{self.path(last)} is of a step beyond the {self.num_steps:,} steps of this "
                "training, so it is not of this run. Remove it."
            )

    def restore_step(self, step: int, variables: Iterable[keras.Variable]) -> None:
        """Fills variables from the checkpoint of a step.

        Raises:
            InputError: missing, damaged, of other variables, or with values that are not finite.
            WrongOwner: of another run, net or step.
        """
        path = self.path(step)
        if not path.exists():
            raise InputError(f"{path} is missing.")
        arrays = {_name_now(name): array for name, array in read_arrays(path).items()}
        self._check_owner(path, step, arrays)
        for variable in variables:
            array = arrays.get(variable.path)
            if array is None or array.shape != tuple(variable.shape):
                has = "nothing" if array is None else f"shape {array.shape}"
                raise InputError(
                    f"{path} has {has} for '{variable.path}' of shape {tuple(variable.shape)}: it "
                    "is a checkpoint of another net."
                )
        wrong = not_finite({variable.path: arrays[variable.path] for variable in variables})
        if wrong:
            raise InputError(f"{path} cannot be used: its '{wrong}' is not finite.")
        for variable in variables:
            variable.assign(arrays[variable.path])

    def _check_owner(self, path: pathlib.Path, step: Any, arrays: dict[str, np.ndarray]):
        """Raises WrongOwner for a file of another run or net, or of another step."""
        name, found = arrays.get(_OWNER), arrays.get(_STEP)
        owner = None if name is None else name.tobytes().decode(errors="replace")
        if self.owner not in (None, owner):
            whose = "a run without an id" if owner is None else f"the run {short(owner)}"
            raise WrongOwner(
                f"{path} is of {whose}; this is the run {self.owner!r}. Put this run's own file "
                "there, or remove it."
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
        """Makes sure that a checkpoint is of a net of this size, before the net is built.

        Args:
            step: of the checkpoint.
            num_parameters: trained numbers of the net, without the optimizer's.

        Raises:
            InputError: missing, damaged, or of another size.
        """
        found = self._num_parameters(step)
        if found != num_parameters:
            raise InputError(
                f"{self.path(step)} has {found:,} parameters, and the net that the run describes "
                f"has {num_parameters:,}. One of them is another run's, or damaged."
            )

    def check_newest_size(self, num_parameters: int) -> None:
        """As `check_size`, of the newest checkpoint whose headers can be read, if there is one.

        Raises:
            InputError: it is of another size, or one is of a step beyond the end.
        """
        self._check_last()
        for step in reversed(self.steps()):
            try:
                self._num_parameters(step)
            except InputError:
                continue  # `restore` passes it over, and says so
            return self.check_size(step, num_parameters)

    def _num_parameters(self, step: Any):
        return sum(
            math.prod(shape)
            for name, shape in array_shapes(self.path(step)).items()
            if not name.startswith(("sgd/", "checkpoint/")) and "/moving_" not in name
        )


def _name_now(name: str) -> str:
    for before, now in _RENAMED:
        name = name.replace(before, now)
    return name


def not_finite(arrays: dict[str, np.ndarray]) -> str | None:
    """The name of the first array that has a value that is not finite; None if there is none."""
    # A sum is not finite if a value is not, and needs no array of flags. It may overflow, too.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = {name: array for name, array in arrays.items() if not np.isfinite(np.sum(array))}
    return next((name for name, a in suspects.items() if not np.isfinite(a).all()), None)


def value_of(variable: keras.Variable) -> np.ndarray:
    """The value of a Keras variable."""
    return np.asarray(
        variable.value.numpy() if hasattr(variable.value, "numpy") else variable.value
    )
