"""Writes a stand-alone net as a SavedModel that runs without this package."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.data import graph_decoder
from oneshot_tf.data.dataset import normalize
from oneshot_tf.data.images import resize, three_channels
from oneshot_tf.serving.fixed_size import resize_fixed
from oneshot_tf.serving.folder import DESCRIPTION, write_folder
from oneshot_tf.serving.warmup import write_warmup
from oneshot_tf.system.errors import plain
from oneshot_tf.system.files import writing
from oneshot_tf.system.json_files import write_json

_FILES_AT_ONCE = 2  # decoded in parallel: a photograph of 12 megapixels takes 36 MB
# Serving needs no gradients, and saving them would add operations that `graph.check_graph` refuses.
_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of images before the net, and the names of the classes.

    A `Dataset` has all of these attributes too.

    Args:
        image_size: Height and width of the images that the net takes.
        mean, std: Mean and standard deviation of images in [0, 1], float32 `[3]`.
        fit: The way to bring images to this size; see `data.images.resize`.
        class_names: Names of the K classes.
    """

    image_size: int
    mean: np.ndarray
    std: np.ndarray
    fit: str
    class_names: tuple[str, ...]


def write_saved_model(
    net: Any,
    dataset: Any,
    directory: str | os.PathLike,
    facts: dict[str, Any] | None = None,
    check: Callable[[pathlib.Path], None] | None = None,
    input_size: tuple[int, int] | None = None,
    *,
    more: Iterable[str] = (),
) -> pathlib.Path:
    """Writes a SavedModel and `architecture.json`. It replaces an older export at the end.

    The default signature takes `images`, uint8 `[N, H, W, C]`, where N, H and W are arbitrary and N
    may be 0. C is 1 (grey), 3 (colour) or 4 (with opacity; composited on white). The signature
    `bytes` takes `encoded`, string `[N]`: JPEG and PNG files, decoded to the same pixels as
    `data.images.decode` gives. Both return `probabilities` float32 `[N, K]`, `class_index` int32
    `[N]` and `class_name` string `[N]`, in UTF-8. The SavedModel includes the preprocessing: it
    resizes images to the net's size as `data.images.resize` does. Batch norms use moving averages.

    The signature `fixed` is for converters. It takes `images`, uint8 `[N, H, W, 3]`, where N is at
    least 1, and H and W are fixed, and returns `probabilities`. H and W are those of the training,
    and the images are not resized, unless `input_size` is given.

    The folder also holds requests with which TensorFlow Serving warms up the model; see
    `serving.warmup`.

    Example:

        >>> cell = Architecture.from_text("prev1:max3x3")
        >>> net = Standalone(bender2018(num_blocks=1), cell, Stack(1, 4), num_classes=10)
        >>> write_saved_model(net, digits, folder / "served").name
        'served'

    Args:
        net: A trained `Standalone`.
        dataset: A `Dataset`, or the `Preprocessing` of one.
        directory: Path of the folder to write.
        facts: More entries for architecture.json.
        check: Function that is called with the folder of the finished SavedModel before it
            replaces `directory`. It may raise an error to keep the older export.
        input_size: Height and width of the images that the signature `fixed` takes. It crops and
            resizes them with constant matrices. None: images of the size of the training.
        more: Names of files of other formats that an older export may hold.

    Returns:
        The directory.

    Raises:
        InputError: The export cannot be written, or the directory holds a file that this function
            does not write. A user's files are never removed.
    """

    def fill(folder: pathlib.Path):
        _write(net, dataset, folder, facts, input_size)
        if check:
            check(folder)

    return write_folder(directory, fill, more)


def _write(
    net: Any,
    dataset: Any,
    directory: pathlib.Path,
    facts: dict[str, Any] | None,
    input_size: tuple[int, int] | None,
):
    with writing(directory):
        module = _Served(net, dataset, input_size)
        try:
            signatures = {
                "serving_default": module.classify,
                "bytes": module.classify_files,
                "fixed": module.classify_fixed,
            }
            tf.saved_model.save(module, str(directory), signatures, _OPTIONS)
            write_warmup(directory, int(dataset.image_size), input_size)
        except tf.errors.OpError as error:
            raise OSError(plain(error)) from None
        description = {
            **net.description(),
            **dataclasses.asdict(net.stack),
            "parameters": int(sum(np.prod(v.shape) for v in net.trainable_variables)),
            "image_size": dataset.image_size,
            "fit": dataset.fit,
            "input_size": input_size and list(input_size),
            "class_names": list(dataset.class_names),
            **(facts or {}),
        }
        write_json(directory / DESCRIPTION, description)


class _Served(tf.Module):
    """The module to save: a net with its preprocessing and its signatures."""

    def __init__(self, net: Any, dataset: Any, input_size: tuple[int, int] | None = None):
        super().__init__()
        self._variables = [v.value for v in net.variables]  # tracked, so that they are saved
        size, fit = int(dataset.image_size), dataset.fit
        mean, std, names = dataset.mean, dataset.std, list(dataset.class_names)

        def answer(images: tf.Tensor):
            count = tf.shape(images)[0]
            # Convolutions of oneDNN fail on an empty batch, so it gets one more image, whose answer
            # is left out.
            one_more = tf.zeros([tf.cast(count == 0, tf.int32), size, size, 3], tf.uint8)
            images = tf.concat([images, one_more], axis=0)
            logits = net(normalize(images, mean, std), training=False)
            probabilities = tf.nn.softmax(logits)[:count]
            index = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            return {
                "probabilities": probabilities,
                "class_index": index,
                "class_name": tf.gather(tf.constant(names), index),
            }

        @tf.function(input_signature=[tf.TensorSpec([None] * 4, tf.uint8, "images")])
        def classify(images: tf.Tensor):
            return answer(
                tf.cond(
                    tf.shape(images)[0] == 0,  # no image can be resized; H and W may be 0
                    lambda: tf.zeros([0, size, size, 3], tf.uint8),
                    lambda: resize(three_channels(images), size, fit),
                )
            )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
        def classify_files(encoded: tf.Tensor):
            return answer(
                tf.map_fn(
                    lambda file: resize(graph_decoder.decode(file), size, fit),
                    encoded,
                    parallel_iterations=_FILES_AT_ONCE,
                    fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
                )
            )

        self.classify, self.classify_files = classify, classify_files
        self.classify_fixed = classify_fixed(net, dataset, input_size)


def classify_fixed(net: Any, dataset: Any, input_size: tuple[int, int] | None = None) -> Any:
    """Returns the signature for converters. It has no strings, and resizes by matrix products."""
    size, fit, mean, std = int(dataset.image_size), dataset.fit, dataset.mean, dataset.std
    height, width = input_size or (size, size)

    @tf.function(input_signature=[tf.TensorSpec([None, height, width, 3], tf.uint8, "images")])
    def classify(images: tf.Tensor):
        pixels = tf.cast(images, tf.float32)
        pixels = resize_fixed(pixels, size, fit) if input_size else pixels
        return {"probabilities": tf.nn.softmax(net(normalize(pixels, mean, std), training=False))}

    return classify
