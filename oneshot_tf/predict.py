"""Classifies image files with an exported SavedModel, or with a file of another format.

Usage: python -m oneshot_tf.predict --saved_model=DIR image.jpg ...
"""

import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from oneshot_tf.data.images import decode, resize
from oneshot_tf.data.pixels import BadImage
from oneshot_tf.serving.graph import check_graph
from oneshot_tf.serving.measuring import brought_to
from oneshot_tf.serving.runtimes import RUNTIMES
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import user_path
from oneshot_tf.system.json_files import check_form, read_json
from oneshot_tf.system.opening import check_folder
from oneshot_tf.system.printable import command, printable

_LARGEST = 2**13  # pixels of the height and width of an image
_FORM = {"class_names": [str]}
_FILE_FORM = {**_FORM, "image_size": int, "fit": str, "input_size": ([int], None)}
# By the ending of a file: its runtime, and the module and the extra that it needs. Keras files are
# left out, because they name classes to build. TensorFlow's own interpreter for .tflite is left
# out, because it may run TensorFlow's operations, and some write files. LiteRT refuses them.
_RUNTIMES = {
    ".tflite": ("tflite", "ai_edge_litert", "lite"),
    ".onnx": ("onnx", "onnxruntime", "onnx"),
    ".xml": ("openvino", "openvino", "openvino"),
}


@dataclasses.dataclass(frozen=True)
class PredictSettings(Settings):
    """Prediction."""

    saved_model: str = setting(
        "",
        "Folder of the SavedModel that export wrote, or a TensorFlow Lite, ONNX or OpenVINO file "
        "that it wrote, for example runs/mine/export/model.onnx. architecture.json must lie "
        "beside the file.",
    )
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
    path = user_path(predict.saved_model)
    if path.is_file() and path.suffix in _RUNTIMES:
        description, serve = _opened_file(path)
    elif (path / "saved_model.pb").is_file():
        description, serve = _opened_folder(path)
    else:
        raise InputError(
            "--saved_model must be the folder of a SavedModel, or a file that ends with "
            f"{', '.join(_RUNTIMES)}; got {predict.saved_model}. Write one with export."
        )
    names = description["class_names"]

    def classify(image: str, pixels: np.ndarray):
        try:
            probabilities = serve(pixels)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            raise InputError(f"{path} cannot classify {image}: {plain(error)}") from None
        if probabilities.shape != (1, len(names)):
            raise InputError(
                f"{path} returns {probabilities.shape[-1]} probabilities, but architecture.json "
                f"names {len(names)} classes. Export the model again."
            )
        best = np.argsort(-probabilities[0], kind="stable")[: predict.top]
        return [(names[i], float(probabilities[0, i])) for i in best]

    return classify


def _opened_folder(folder: pathlib.Path):
    """Returns the description of a SavedModel, and a function from pixels to probabilities."""
    check_folder(folder)  # allows links in the folder, because a store of models may use them
    description = read_json((folder / "architecture.json").resolve())
    check_form(folder / "architecture.json", description, _FORM)
    serve = _load(folder)

    def classify(pixels: np.ndarray):
        return serve(images=tf.constant(pixels[np.newaxis]))["probabilities"].numpy()

    return description, classify


def _opened_file(path: pathlib.Path):
    """Returns the description of a file, and a function from pixels to probabilities."""
    kind, module, extra = _RUNTIMES[path.suffix]
    try:
        importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"--saved_model={path} needs {module.replace('_', '-')}: pip install "
            f"'oneshot_tf[{extra}]'."
        ) from None
    beside = path.with_name("architecture.json")
    description = read_json(beside.resolve())
    check_form(beside, description, _FILE_FORM)
    size, fit = description["image_size"], description["fit"]
    given = description["input_size"]
    lengths = [size] if given is None else given
    if (
        fit not in ("stretch", "center")
        or not all(1 <= n <= _LARGEST for n in lengths)
        or (given is not None and len(given) != 2)
    ):
        raise InputError(f"{beside} is damaged: image_size, input_size or fit is out of range.")
    try:
        serve, _ = RUNTIMES[kind](str(path), 0)
    except Exception as error:  # each runtime has its own
        raise InputError(f"{path} cannot be loaded: {plain(error)}") from None

    def classify(pixels: np.ndarray):
        if given is None:
            return serve(resize(tf.constant(pixels[np.newaxis]), size, fit).numpy())
        return serve(brought_to(pixels[np.newaxis], (given[0], given[1])))

    return description, classify


def _load(folder: pathlib.Path):
    check_graph(folder)  # before TensorFlow runs any part of the graph
    try:
        return tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
        raise InputError(f"{folder} cannot be loaded: {plain(error)}") from None


if __name__ == "__main__":
    command_line.run(main, PredictSettings, files=True)
