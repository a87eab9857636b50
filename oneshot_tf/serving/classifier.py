"""Opens an exported model and classifies images with it, many at once."""

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.data.images import resize
from oneshot_tf.serving.folder import DESCRIPTION
from oneshot_tf.serving.graph import check_graph
from oneshot_tf.serving.measuring import brought_to
from oneshot_tf.serving.runtimes import BATCH, RUNTIMES
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import user_path
from oneshot_tf.system.json_files import check_form, read_json
from oneshot_tf.system.opening import check_folder
from oneshot_tf.system.versions import newest

_LARGEST = 2**13  # pixels of the height and width of an image
_MOST_BYTES = 2**26  # of the images of a batch
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
class Classifier:
    """An opened model.

    Args:
        path: Its file or folder.
        class_names: Names of the K classes.
        prepare: Function from an image, uint8 `[h, w, 3]`, to the image that `serve` takes.
        serve: Function from prepared images, uint8 `[n, ...]`, to probabilities, float `[n, K]`.
        batch: The most images to give to `serve` at once.
    """

    path: pathlib.Path
    class_names: list[str]
    prepare: Callable[[np.ndarray], np.ndarray]
    serve: Callable[[np.ndarray], np.ndarray]
    batch: int

    def __call__(self, images: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
        """Returns the probabilities of images, float `[n, K]`.

        Args:
            images: The n prepared images.
            names: Their names, for messages.

        Raises:
            InputError: The model cannot classify them, or its answers cannot be probabilities.
        """
        try:
            found = np.asarray(self.serve(np.stack(images)))
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            if len(images) > 1:  # one by one, to name the image, or because memory is short
                each = [self([image], [name]) for image, name in zip(images, names)]
                return np.concatenate(each)
            raise InputError(f"{self.path} cannot classify {names[0]}: {plain(error)}") from None
        if found.shape != (len(images), len(self.class_names)):
            raise InputError(
                f"{self.path} returns {found.shape[-1]} probabilities, but architecture.json "
                f"names {len(self.class_names)} classes. Export the model again."
            )
        if not np.isfinite(found).all():
            raise InputError(
                f"{self.path} returns probabilities that are not finite, for example for "
                f"{names[int(np.argmin(np.isfinite(found).all(axis=1)))]}. Export the model again."
            )
        return found


def open_classifier(saved_model: str) -> Classifier:
    """Opens a SavedModel, or a file of another format. Of several versions it takes the newest.

    Args:
        saved_model: Folder of a SavedModel, folder of its versions, or path of a file.

    Raises:
        InputError: There is no model, or it cannot be opened.
    """
    path = _resolved(user_path(saved_model))
    if path.is_file() and path.suffix in _RUNTIMES:
        return _opened_file(path)
    if (path / "saved_model.pb").is_file():
        return _opened_folder(path)
    endings = ", ".join(_RUNTIMES)
    files = [each.name for each in _files(path) if each.suffix in _RUNTIMES]
    if files:
        raise InputError(
            f"{path} holds no SavedModel, but {', '.join(files)}. Give a file, for example "
            f"--saved_model={path / files[0]}."
        )
    raise InputError(
        "--saved_model must be the folder of a SavedModel, or a file that ends with "
        f"{endings}; got {saved_model}. Write one with export."
    )


def _resolved(path: pathlib.Path) -> pathlib.Path:
    """Returns the path inside the newest version, if the path leads to a folder of versions."""
    if path.is_dir() and not (path / DESCRIPTION).exists():
        return newest(path) or path
    if path.suffix in _RUNTIMES and not path.exists():
        version = newest(path.parent)
        return version / path.name if version else path
    return path


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _batch(size: int) -> int:
    return max(1, min(BATCH, _MOST_BYTES // (3 * size * size)))


def _opened_folder(folder: pathlib.Path) -> Classifier:
    check_folder(folder)  # allows links in the folder, because a store of models may use them
    description = _described(folder, _FORM)
    check_graph(folder)  # before TensorFlow runs any part of the graph
    try:
        model = tf.saved_model.load(str(folder))
        default, fixed = model.signatures["serving_default"], model.signatures.get("fixed")
    except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
        raise InputError(f"{folder} cannot be loaded: {plain(error)}") from None
    names: list[str] = description["class_names"]
    size, fit = description.get("image_size"), description.get("fit")
    shape = fixed.structured_input_signature[1]["images"].shape.as_list() if fixed else []
    if isinstance(size, int) and shape == [None, size, size, 3] and fit in ("stretch", "center"):

        def serve_fixed(images: np.ndarray, model: Any = model):  # it does not keep it alive
            return fixed(images=tf.constant(images))["probabilities"].numpy()

        return Classifier(folder, names, _resizer(size, fit), serve_fixed, _batch(size))

    # `fixed` takes another size, or an earlier release wrote the export.
    def serve(images: np.ndarray, model: Any = model):
        return default(images=tf.constant(images))["probabilities"].numpy()

    return Classifier(folder, names, lambda pixels: pixels, serve, 1)


def _described(folder: pathlib.Path, form: dict[str, Any]) -> dict[str, Any]:
    """Returns the architecture.json of an export."""
    path = folder / DESCRIPTION
    if not path.exists():
        raise InputError(
            f"{path} is missing, so the names of the classes are unknown. Give a model in the "
            "folder that export wrote."
        )
    description = read_json(path.resolve())
    check_form(path, description, form)
    return description


def _resizer(size: int, fit: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the preprocessing of the SavedModel for one image, as one graph for all sizes."""
    given = tf.TensorSpec([None, None, 3], tf.uint8)
    graph = tf.function(lambda pixels: resize(pixels, size, fit), input_signature=[given])
    return lambda pixels: graph(tf.constant(pixels)).numpy()


def _opened_file(path: pathlib.Path) -> Classifier:
    kind, module, extra = _RUNTIMES[path.suffix]
    try:
        importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"--saved_model={path} needs {module.replace('_', '-')}: pip install "
            f"'oneshot_tf[{extra}]'."
        ) from None
    description = _described(path.parent, _FILE_FORM)
    size, fit = description["image_size"], description["fit"]
    given = description["input_size"]
    lengths = [size] if given is None else given
    if (
        fit not in ("stretch", "center")
        or not all(1 <= n <= _LARGEST for n in lengths)
        or (given is not None and len(given) != 2)
    ):
        beside = path.with_name(DESCRIPTION)
        raise InputError(f"{beside} is damaged: image_size, input_size or fit is out of range.")
    try:
        serve, _ = RUNTIMES[kind](str(path), 0)
    except Exception as error:  # each runtime has its own
        raise InputError(f"{path} cannot be loaded: {plain(error)}") from None
    names = description["class_names"]
    if given is None:
        return Classifier(path, names, _resizer(size, fit), serve, _batch(size))

    def prepare(pixels: np.ndarray):
        return brought_to(pixels[np.newaxis], (given[0], given[1]))[0]

    return Classifier(path, names, prepare, serve, _batch(max(given)))
