"""Classifies image files with an exported SavedModel.

Usage: python -m oneshot_tf.predict --saved_model=DIR image.jpg ...
"""

import json

import numpy as np
import tensorflow as tf

from oneshot_tf import config, settings
from oneshot_tf.data.images import decode
from oneshot_tf.errors import InputError, plain
from oneshot_tf.files import check_form, read_json, user_path

_FORM = {"class_names": [str]}


def main(predict, images) -> None:
    """Prints a line an image; each image is read, and the model checked, before the first one."""
    folder = user_path(predict.saved_model)
    if not images:
        raise InputError(
            "No image was given: python -m oneshot_tf.predict --saved_model=DIR a.jpg."
        )
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"--saved_model={predict.saved_model} holds no SavedModel; export writes one."
        )
    description = read_json(folder / "architecture.json")
    check_form(folder / "architecture.json", description, _FORM)
    names = description["class_names"]
    decoded = [_read(image) for image in images]
    serve = _load(folder)
    for image, pixels in zip(images, decoded):
        try:
            probabilities = serve(images=pixels[tf.newaxis])["probabilities"].numpy()[0]
        except (tf.errors.OpError, KeyError, TypeError) as error:
            raise InputError(f"{folder} can't classify {image}: {plain(error)}") from None
        if len(probabilities) != len(names):
            raise InputError(
                f"{folder} gives {len(probabilities)} probabilities, and architecture.json names "
                f"{len(names)} classes; export it anew."
            )
        best = np.argsort(-probabilities, kind="stable")[: predict.top]
        if predict.json:
            answer = {names[i]: float(probabilities[i]) for i in best}
            print(json.dumps({"image": image, "classes": answer}), flush=True)
        else:
            words = ", ".join(f"{names[i]} {probabilities[i]:.3f}" for i in best)
            print(f"{image}: {words}", flush=True)


def _read(image):
    try:
        return tf.constant(decode(user_path(image).read_bytes()).pixels)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(f"{image} can't be read as an image: {plain(error)}") from None


def _load(folder):
    try:
        return tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
        raise InputError(f"{folder} can't be loaded: {plain(error)}") from None


if __name__ == "__main__":
    config.run(main, settings.PredictSettings, files=True)
