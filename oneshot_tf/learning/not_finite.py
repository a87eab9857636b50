"""When a loss or a variable is not finite: at which step, where it begins, and going back."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_form, check_run, read_json, write_json

_MOST = 20  # --max_rollbacks
_FACTOR = 0.5  # of the learning rate, each time that training goes back


class Diverged(Exception):
    """The loss of a step is not finite, or what the step made is not.

    Args:
        number: of the step, from 0.
        what: what is not finite, such as "The loss is nan".
        after: whether that was seen after the step's update; else before it.
    """

    def __init__(self, number: int, what: str, after: bool = False):
        super().__init__(f"{what} {'after' if after else 'at'} step {number + 1:,}.")
        self.number, self.after = number, after


class GaveUp(InputError):
    """A training whose loss was not finite does not go back, or not again."""


class Rollbacks:
    """How often training went back, and from where on it goes another way.

    Args:
        path: the file they are kept in; None for none.
        owner: as of `Checkpoints`.

    Raises:
        InputError: the file is damaged, or of another run or net.
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
                f"{path} is damaged: it must hold at most {_MOST} rollbacks, each to a step before "
                "that where the training diverged. Restore it, or remove it and the checkpoints "
                "to start anew."
            )

    def __len__(self):
        return len(self._rows)

    def at(self, number: int, seed: int) -> tuple[int, float]:
        """The seed of the data order, and the factor of the learning rate, at step `number`."""
        times = sum(row["back_to"] <= number for row in self._rows)
        return seed + (times << 32), _FACTOR**times

    def add(self, diverged: int, back_to: int, write: bool = True) -> None:
        """Training went back to after step `back_to`, having diverged at step `diverged`."""
        self._rows.append({"diverged": diverged, "back_to": back_to})
        if write and self._path is not None:
            write_json(self._path, {"owner": self._owner, "rollbacks": self._rows})


def gave_up(diverged: Diverged, report: dict, kept: str, way_out: str) -> GaveUp:
    """The error that ends a training.

    Args:
        diverged: why it ends.
        report: what was seen of that step.
        kept, way_out: sentences on what is kept, and what to do.
    """
    return GaveUp(
        f"{diverged} First not finite: {report['first_not_finite']}; gradient norm "
        f"{report['gradient_norm']}, learning rate {report['learning_rate']:g}. {kept} {way_out}"
    )


def inspect_step(step: Any, batch: Any, number: int) -> dict:
    """What is to be seen of a step before it is taken.

    Args:
        step: a `TrainStep`.
        batch: images and labels of the global batch.
        number: of the step, from 0.

    Returns:
        loss, cross_entropy, l2, accuracy; gradient_norm; first_not_finite: the part of the net
        whose output is the first that is not finite ("cell 3"), or the variable whose value or
        gradient or L2 is; largest_outputs: the largest absolute output of each part.
    """
    images, labels = (tf.convert_to_tensor(x) for x in batch)
    index = tf.constant(number, tf.int32)
    metrics, gradients = step.inspect(images, labels, index)
    outputs = _largest_outputs(step, images, index)
    values = [v.value for v in step.variables]
    first = _first_not_finite({f"variable {v.path}": x for v, x in zip(step.variables, values)})
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
        "first_not_finite": first or "none: it cannot be reached again",
        "largest_outputs": {name: _number(value) for name, value in outputs.items()},
    }


def _largest_outputs(step: Any, images: Any, number: Any) -> dict:
    """The largest absolute output of each part of the net; NaN where one is."""
    net, size = step.net, step.ghost_batch_size  # one at a time, to need little memory
    images = step.prepare(images, 0, step.batch_size, number)
    masks = step.masks(number)
    largest: dict[Any, Any] = {}
    for ghost in range(len(images) // size):
        one = images[ghost * size : (ghost + 1) * size]
        parts = net.part_outputs(one) if masks is None else net.part_outputs(one, masks[ghost])
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
    """A number that JSON can hold: "nan" and "inf" as texts."""
    value = float(value)
    return value if np.isfinite(value) else str(value)
