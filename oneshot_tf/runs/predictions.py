"""retrain/NAME/predictions.npz: what each scored model answered for each image.

The test images are scored once, at the end of `retrain`. Everything that a report says about
single images and classes comes from this file. It has these arrays for M models and N images:

labels       int32 `[N]`, the classes of the images
predicted    int32 `[M, N]`, the predicted classes
probability  float32 `[M, N]`, the probabilities of the predicted classes
of_label     float32 `[M, N]`, the probabilities of the right classes

The models are in the order of the nets and folders in result.json, which has the file's checksum.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from oneshot_tf.settings import FinalSettings, LimitSettings, RetrainSettings, TrainSettings
from oneshot_tf.settings.setting import fields
from oneshot_tf.system.array_files import read_arrays, write_arrays
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import checksum
from oneshot_tf.system.json_files import check_form
from oneshot_tf.system.printable import command

FILE = "predictions.npz"
_MOST = 2**32  # bytes
_OF_AN_IMAGE = 0.01  # as for results
_GROUPS = {"retrain": RetrainSettings, "train": TrainSettings, "final": FinalSettings,
           "limits": LimitSettings}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What one model answered for N images.

    Args:
        labels: Int32 `[N]`, the classes of the images.
        predicted: Int32 `[N]`, the predicted classes.
        probability: Float32 `[N]`, the probabilities of the predicted classes, in [0, 1].
        of_label: Float32 `[N]`, the probabilities of the right classes, in [0, 1].
    """

    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    of_label: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share of images classified correctly."""
        return float(np.mean(self.predicted == self.labels))

    def confusion(self, num_classes: int) -> np.ndarray:
        """Returns int64 `[K, K]`: how many images of class i were taken for class j."""
        pairs = self.labels.astype(np.int64) * num_classes + self.predicted
        return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)

    def worst(self, count: int) -> np.ndarray:
        """Returns the indices of up to `count` wrong answers, those of highest probability."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")[:count]]


def write_predictions(folder: pathlib.Path, answers: Sequence[Any]) -> int:
    """Writes what all models of a folder answered. Returns the checksum of the file.

    Args:
        folder: The folder of result.json.
        answers: Objects with the four arrays of `Predictions`, one per model, in the order of the
            nets and their folders in result.json.
    """
    arrays = {
        name: np.stack([getattr(each, name) for each in answers]).astype(kind)
        for name, kind in (
            ("predicted", np.int32), ("probability", np.float32), ("of_label", np.float32)
        )
    }  # fmt: skip
    write_arrays(folder / FILE, {"labels": answers[0].labels.astype(np.int32), **arrays})
    return checksum(folder / FILE)


def read_predictions(directory: Any, result: dict[str, Any], place: str) -> Predictions | None:
    """Returns what a model answered, or None if `retrain` was of a version that kept no answers.

    Args:
        directory: The `RunDirectory`.
        result: A result, as `read_results` returns it.
        place: Folder of the model below retrain/, which the result lists.

    Raises:
        InputError: The file is missing, is damaged, or does not belong to the result.
    """
    path = directory.path / "retrain" / result["name"] / FILE
    expected = result.get("predictions")
    if expected is None:
        return None
    check_form(path.with_name("result.json"), expected, int)
    if checksum(path) != expected:
        raise InputError(f"{path} does not belong to the result.json beside it. {_fix(path)}")
    arrays = read_arrays(path, _MOST)
    places = [(net, i) for net in result["nets"] for i in range(len(net["folder"]))]
    found = _checked(path, arrays, len(places), result, len(directory.facts()["class_names"]))
    index = [net["folder"][i] for net, i in places].index(place)
    rows = (found[name][index] for name in ("predicted", "probability", "of_label"))
    predictions = Predictions(found["labels"], *rows)
    net, i = places[index]
    if abs(predictions.accuracy - net["accuracies"][i]) * result["num_images"] > _OF_AN_IMAGE:
        raise InputError(
            f"{path} is damaged: {place} has an accuracy of {predictions.accuracy:.6f} there, and "
            f"{net['accuracies'][i]:.6f} in result.json. {_fix(path)}"
        )
    return predictions


def how_to_make_predictions(directory: Any, result: dict[str, Any]) -> str:
    """Returns the command that made a result. Repeated, it makes the predictions too."""
    flags = [f"--run_dir={directory.path}"]
    for group, kind in _GROUPS.items():
        values = result.get(group)
        for field in fields(kind):
            value = values.get(field.name) if isinstance(values, dict) else None
            if type(value) is type(field.default) and value != field.default:
                flags.append(f"--{field.name}={value}")
    device = result.get("device")
    if isinstance(device, dict) and device.get("mixed_precision") is True:
        flags.append("--mixed_precision")
    return command("retrain", *flags)


def _checked(
    path: pathlib.Path, arrays: dict[str, np.ndarray], models: int, result: dict[str, Any],
    num_classes: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Returns the arrays. Raises InputError unless their shapes, types and values are right."""
    images = result["num_images"]
    forms: dict[str, tuple] = {"labels": (np.int32, (images,), num_classes - 1)}
    forms["predicted"] = (np.int32, (models, images), num_classes - 1)
    for name in ("probability", "of_label"):
        forms[name] = (np.float32, (models, images), 1.00001)  # rounding
    for name, (kind, shape, most) in forms.items():
        array = arrays.get(name)
        right = array is not None and array.dtype == kind and array.shape == shape
        if not right or array is None or not ((array >= 0) & (array <= most)).all():
            raise InputError(
                f"{path} is damaged: {name} must be {np.dtype(kind).name} {list(shape)}, from 0 to "
                f"{int(most)}. {_fix(path)}"
            )
    return arrays


def _fix(path: pathlib.Path) -> str:
    return f"Restore it, or repeat the command of retrain that made {path.parent}."
