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
    """Which model, and what is printed."""

    saved_model: str = setting("", "Folder of the SavedModel, as export writes it.")
    top: int = setting(5, "How many classes to print for an image, the likeliest first.", least=1)
    json: bool = setting(
        False,
        "Print a line of JSON an image: its name as `image`, and as `classes` a list of objects "
        "with `name` and `probability`.",
    )


def main(predict: PredictSettings, images: list[str]) -> None:
    """Prints a line an image, as each one is read; what cannot be read goes to stderr.

    Raises:
        InputError: there is no model or no image, or some image could not be read; then all
            others were classified.
    """
    if not images:
        raise InputError(f"No image was given: {command('predict', '--saved_model=DIR', 'a.jpg')}.")
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
            f"{bad:,} of {len(images):,} image(s) cannot be read, as said above. Repair them or "
            "leave them out."
        )


def _print(image: str, classes: list[tuple[str, float]], as_json: bool):
    if as_json:
        answer = [{"name": name, "probability": probability} for name, probability in classes]
        print(json.dumps({"image": image, "classes": answer}), flush=True)
    else:
        words = ", ".join(f"{name} {probability:.3f}" for name, probability in classes)
        print(printable(f"{image}: {words}"), flush=True)


def _classifier(predict: PredictSettings):
    """A function that gives names and probabilities, the likeliest first, of an image's pixels."""
    folder = user_path(predict.saved_model)
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"--saved_model={predict.saved_model} holds no SavedModel; export writes one."
        )
    check_folder(folder)  # it may hold links, as a store of models does
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
                f"{folder} gives {probabilities.shape[-1]} probabilities, and architecture.json "
                f"names {len(names)} classes; export it anew."
            )
        best = np.argsort(-probabilities[0], kind="stable")[: predict.top]
        return [(names[i], float(probabilities[0, i])) for i in best]

    return classify


def _load(folder: pathlib.Path):
    check_graph(folder)  # before anything of it runs
    try:
        return tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
        raise InputError(f"{folder} cannot be loaded: {plain(error)}") from None


if __name__ == "__main__":
    command_line.run(main, PredictSettings, files=True)
