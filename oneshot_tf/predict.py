"""Classifies image files with an exported SavedModel.

Usage: python -m oneshot_tf.predict --saved_model=DIR image.jpg ...
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from oneshot_tf.data.images import decode
from oneshot_tf.data.pixels import BadImage
from oneshot_tf.serving.graph import check_graph
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import user_path
from oneshot_tf.system.json_files import check_form, read_json
from oneshot_tf.system.opening import check_folder
from oneshot_tf.system.printable import command, printable

_FORM = {"class_names": [str]}


@dataclasses.dataclass(frozen=True)
class PredictSettings(Settings):
    """Prediction."""

    saved_model: str = setting("", "Folder of the SavedModel that export wrote.")
    top: int = setting(5, "Number of classes to print per image, the most likely first.", least=1)
    json: bool = setting(
        False,
        "Print one line of JSON per image. `image` is the name of the file, and `classes` is a "
        "list of objects with `name` and `probability`.",
    )


def main(predict: PredictSettings, images: list[str]) -> None:
    """Prints one line per image as soon as it is classified, and errors to stderr.

    Raises:
        InputError: There is no model, no image is given, or an image cannot be read. In the last
            case, all other images were classified.
    """
    if not images:
        raise InputError(
            f"No image was given. Example: {command('predict', '--saved_model=DIR', 'a.jpg')}."
        )
    classify, bad = _classifier(predict), 0
    for image in images:
        try:
            pixels = decode(user_path(image).read_bytes()).pixels
        except (OSError, BadImage) as error:
            bad += 1
            what = printable(f"{image} cannot be read as an image: {plain(error)}")
            print(what, file=sys.stderr, flush=True)
            continue
        _print(image, classify(image, pixels), predict.json)
    if bad:
        raise InputError(
            f"{bad:,} of {len(images):,} image(s) cannot be read; see the lines above. Repair them "
            "or leave them out."
        )


def _print(image: str, classes: list[tuple[str, float]], as_json: bool):
    if as_json:
        answer = [{"name": name, "probability": probability} for name, probability in classes]
        print(json.dumps({"image": image, "classes": answer}), flush=True)
    else:
        words = ", ".join(f"{name} {probability:.3f}" for name, probability in classes)
        print(printable(f"{image}: {words}"), flush=True)


def _classifier(predict: PredictSettings):
    """Returns a function that maps pixels to names and probabilities, the most likely first."""
    folder = user_path(predict.saved_model)
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"--saved_model must be the folder of a SavedModel; got {predict.saved_model}. Write "
            "one with export."
        )
    check_folder(folder)  # allows links in the folder, because a store of models may use them
    description = read_json((folder / "architecture.json").resolve())
    check_form(folder / "architecture.json", description, _FORM)
    names, serve = description["class_names"], _load(folder)

    def classify(image: str, pixels: np.ndarray):
        try:
            probabilities = serve(images=tf.constant(pixels[np.newaxis]))["probabilities"].numpy()
        except (tf.errors.OpError, KeyError, TypeError) as error:
            raise InputError(f"{folder} cannot classify {image}: {plain(error)}") from None
        if probabilities.shape != (1, len(names)):
            raise InputError(
                f"{folder} returns {probabilities.shape[-1]} probabilities, but architecture.json "
                f"names {len(names)} classes. Export the model again."
            )
        best = np.argsort(-probabilities[0], kind="stable")[: predict.top]
        return [(names[i], float(probabilities[0, i])) for i in best]

    return classify


def _load(folder: pathlib.Path):
    check_graph(folder)  # before TensorFlow runs any part of the graph
    try:
        return tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
        raise InputError(f"{folder} cannot be loaded: {plain(error)}") from None


if __name__ == "__main__":
    command_line.run(main, PredictSettings, files=True)
