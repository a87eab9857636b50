"""Handles losses and variables that are not finite: finds where they begin, and rolls back."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_form, check_run, read_json, write_json

_MOST = 20  # --max_rollbacks
_FACTOR = 0.5  # of the learning rate, per rollback


class Diverged(Exception):
    """Raised if the loss of a step, or a variable after its update, is not finite.

    Args:
        number: The number of the step, from 0.
        what: The finding as the start of a sentence, for example "The loss is nan".
        after: Whether it was found after the step's update, not before it.
    """

    def __init__(self, number: int, what: str, after: bool = False):
        super().__init__(f"{what} {'after' if after else 'at'} step {number + 1:,}.")
        self.number, self.after = number, after


class GaveUp(InputError):
    """Raised if training cannot continue after a loss was not finite."""


class Rollbacks:
    """The rollbacks of a training, which decide its data order and learning rate.

    Args:
        path: The file that stores them; None stores nothing.
        owner: A text that identifies the net, as for `Checkpoints`.

    Raises:
        InputError: The file is damaged, or of another run or net.
    """

    def __init__(self, path: pathlib.Path | None, owner: str | None = None):
        self._path, self._owner, self._rows = path, owner, []
        if path is None or not path.exists():
            return
        value = read_json(path)
        check_run(path, {"run_id": value.get("owner")}, owner)
        check_form(path, value, {"rollbacks": [{"diverged": int, "back_to": int}]})
        self._rows = value["rollbacks"]
        if len(self._rows) > _MOST or any(
            not 0 <= row["back_to"] < row["diverged"] for row in self._rows
        ):
            raise InputError(
                f"{path} is damaged: it must hold at most {_MOST} rollbacks, each from the step "
                "that diverged to an earlier one. Restore it, or remove it and the checkpoints to "
                "start anew."
            )

    def __len__(self):
        return len(self._rows)

    def at(self, number: int, seed: int) -> tuple[int, float]:
        """Returns the seed of the data order and the factor of the learning rate of a step."""
        times = sum(row["back_to"] <= number for row in self._rows)
        return seed + (times << 32), _FACTOR**times

    def add(self, diverged: int, back_to: int, write: bool = True) -> None:
        """Adds a rollback from the step that diverged to the checkpoint of step `back_to`.

        Args:
            diverged: The step that diverged, counted from 1.
            back_to: The step of the checkpoint.
            write: False in workers that write no files.
        """
        self._rows.append({"diverged": diverged, "back_to": back_to})
        if write and self._path is not None:
            write_json(self._path, {"owner": self._owner, "rollbacks": self._rows})


def gave_up(diverged: Diverged, report: dict, kept: str, way_out: str) -> GaveUp:
    """Returns the error that ends a training.

    Args:
        diverged: Why the training ends.
        report: The report of `inspect_step`, with the learning rate.
        kept, way_out: Sentences that say which files are kept, and how to continue.
    """
    return GaveUp(
        f"{diverged} First not finite: {report['first_not_finite']}; gradient norm "
        f"{report['gradient_norm']}, learning rate {report['learning_rate']:g}. {kept} {way_out}"
    )


def inspect_step(step: Any, batch: Any, number: int, variables: Sequence[Any] = ()) -> dict:
    """Computes a step without its update, to find where values stop being finite.

    Args:
        step: A `TrainStep`.
        batch: Images and labels of the global batch.
        number: The number of the step, from 0.
        variables: Other variables of the training. Those of a learner make the masks.

    Returns:
        A dict with the metrics loss, cross_entropy, l2 and accuracy, and these entries:
        gradient_norm: The norm of all gradients.
        first_not_finite: The first part of the net with an output that is not finite, for
        example "cell 3"; or the variable whose value, L2 or gradient is not finite.
        largest_outputs: The largest absolute output of each part.
    """
    images, labels = (tf.convert_to_tensor(x) for x in batch)
    index = tf.constant(number, tf.int32)
    metrics, gradients = step.inspect(images, labels, index)
    outputs = _largest_outputs(step, images, index)
    values = [v.value for v in step.variables]
    learnt = {f"variable {v.path}": v.value for v in variables if v.path.startswith("learner")}
    first = _first_not_finite(learnt)
    first = first or _first_not_finite(
        {f"variable {v.path}": x for v, x in zip(step.variables, values)}
    )
    first = first or _first_not_finite(outputs)
    first = first or _first_not_finite(
        {f"L2 of {kernel.path}": tf.nn.l2_loss(kernel.value) for kernel in step.net.kernels}
    )
    first = first or _first_not_finite(
        {f"gradient of {v.path}": g for v, g in zip(step.variables, gradients)}
    )
    return {
        **{name: _number(value) for name, value in metrics.items()},
        "gradient_norm": _number(tf.linalg.global_norm(gradients)),
        "first_not_finite": first or "nothing: the failure cannot be reproduced",
        "largest_outputs": {name: _number(value) for name, value in outputs.items()},
    }


def _largest_outputs(step: Any, images: Any, number: Any) -> dict:
    """Returns the largest absolute output of each part of the net; NaN if an output is NaN."""
    net, size = step.net, step.ghost_batch_size  # one ghost batch at a time, to save memory
    images = step.prepare(images, 0, step.batch_size, number)
    masks, factors = step.masks(number), step.path_factors(number)
    largest: dict[Any, Any] = {}
    for ghost in range(len(images) // size):
        rows = slice(ghost * size, (ghost + 1) * size)
        given = [masks[ghost]] if masks is not None else []
        given += [factors[rows]] if factors is not None else []
        parts = net.part_outputs(images[rows], *given)
        for name, output in parts.items():
            here = np.abs(tf.cast(output, tf.float32).numpy()).max()
            largest[name] = np.maximum(largest.get(name, 0.0), here)  # NaN stays
    return largest


def _first_not_finite(tensors: dict) -> str | None:
    for name, value in tensors.items():
        if not np.isfinite(np.asarray(value)).all():
            return name
    return None


def _number(value: Any) -> float | str:
    """Returns a value that JSON can hold: a number, or the text "nan", "inf" or "-inf"."""
    value = float(value)
    return value if np.isfinite(value) else str(value)
