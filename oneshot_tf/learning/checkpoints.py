"""Checkpoints of a net and its optimizer: arrays by name, in one file a step.

By name, so that a checkpoint fits any number of devices and never fills the
wrong variable silently; written beside and renamed, so that a kill never
leaves half a one under a checkpoint's name; checksummed, so that damage is seen.
"""

import pathlib
import re

import numpy as np

from oneshot_tf.errors import InputError
from oneshot_tf.files import make_folder, read_arrays, write_arrays
from oneshot_tf.opening import check_folder

# Names of variables of earlier versions, and what they are now. The second pair is of the
# optimizer's momentum.
_RENAMED = (("_bn/offset", "_bn/beta"), ("_bn_offset_", "_bn_beta_"))
_NAME = re.compile(r"step_(\d{9})\.npz")


class Checkpoints:
    """The checkpoints in one folder.

    Args:
        folder: where they are.
        keep: how many of the newest stay.

    Raises:
        InputError: the folder is a link that leads out of the one above it, or holds one.
    """

    def __init__(self, folder, keep: int = 3):
        self.folder = pathlib.Path(folder)
        check_folder(self.folder, self.folder.parent)
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> pathlib.Path:
        """The file of a step."""
        return self.folder / f"step_{step:09d}.npz"

    def save(self, step: int, variables, write: bool = True) -> None:
        """Writes the variables' values; removes old checkpoints once the new one is whole.

        Args:
            step: steps done.
            variables: Keras variables with distinct paths.
            write: False in processes that only take part in reading the values.

        Raises:
            InputError: a value isn't finite, or it can't be written.
        """
        arrays = {variable.path: value_of(variable) for variable in variables}
        wrong = not_finite(arrays)
        if wrong:
            raise InputError(f"'{wrong}' is not finite at step {step:,}, so nothing was saved.")
        if not write:
            return
        make_folder(self.folder)
        write_arrays(self.path(step), arrays)
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink(missing_ok=True)

    def restore(self, variables) -> int:
        """Fills variables from the newest checkpoint that can be read.

        Returns:
            The step of it; 0 where there is none.

        Raises:
            InputError: there are checkpoints, but none is whole or fits.
        """
        steps = self.steps()
        failures = []
        for step in reversed(steps):
            try:
                self.restore_step(step, variables)
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

    def restore_step(self, step: int, variables) -> None:
        """Fills variables from the checkpoint of a step.

        Raises:
            InputError: missing, damaged, of other variables, or with values that aren't finite.
        """
        path = self.path(step)
        if not path.exists():
            raise InputError(f"{path} is missing.")
        arrays = {_name_now(name): array for name, array in read_arrays(path).items()}
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
            raise InputError(f"{path} can't be used: its '{wrong}' is not finite.")
        for variable in variables:
            variable.assign(arrays[variable.path])


def _name_now(name: str) -> str:
    for before, now in _RENAMED:
        name = name.replace(before, now)
    return name


def not_finite(arrays: dict[str, np.ndarray]) -> str | None:
    """The name of the first array that has a value that isn't finite; None if there is none."""
    # A sum is not finite if a value isn't, and needs no array of flags. It may overflow, too.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = {name: array for name, array in arrays.items() if not np.isfinite(np.sum(array))}
    return next((name for name, a in suspects.items() if not np.isfinite(a).all()), None)


def value_of(variable) -> np.ndarray:
    """The value of a Keras variable."""
    return np.asarray(
        variable.value.numpy() if hasattr(variable.value, "numpy") else variable.value
    )
