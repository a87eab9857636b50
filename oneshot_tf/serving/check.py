"""Checks that a SavedModel gives the answers of its net, in a process without this package.

The images are generated, always the same ones, so an export needs no data set. They are smooth
patterns, noise and gradients of several sizes, as pixels and as files of several kinds.
"""

import io
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from oneshot_tf.data import images
from oneshot_tf.data.dataset import normalize
from oneshot_tf.data.headers import ORIENTATION_TAG
from oneshot_tf.serving.graph import check_graph
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import writing

_TOLERANCE = 1e-5
_RESIZED_TOLERANCE = 1e-2  # where a pixel may be rounded the other way; see `fixed_size`
_SIZES = ((37, 53), (64, 48), (9, 20))  # image sizes, besides the net's own

# As a user's server does, it loads the model and calls the signatures: with single images, with a
# batch, and with no image.
_LOADER = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
pixels, files = model.signatures["serving_default"], model.signatures["bytes"]
fixed = model.signatures["fixed"]
with np.load(sys.argv[2]) as given:
    groups = [given[name] for name in given.files if name.startswith("pixels")]
    encoded = [given[name].tobytes() for name in given.files if name.startswith("file")]
    of_one_size = fixed(images=tf.constant(given["fixed"]))
answers = [(pixels(images=tf.constant(group)),
            [pixels(images=tf.constant(image[None])) for image in group]) for group in groups]
answers.append((files(encoded=tf.constant(encoded)),
                [files(encoded=tf.constant([file])) for file in encoded]))
join = lambda key, parts: np.concatenate([part[key].numpy() for part in parts])
batch, single = [each[0] for each in answers], [one for each in answers for one in each[1]]
none = pixels(images=tf.zeros([0, 7, 5, 3], tf.uint8)), files(encoded=tf.zeros([0], tf.string))
np.savez(sys.argv[3], batch=join("probabilities", batch), single=join("probabilities", single),
         fixed=of_one_size["probabilities"].numpy(), index=join("class_index", batch),
         none=[part["probabilities"].shape for part in none],
         name=np.array([name.decode("utf-8") for name in join("class_name", batch)]))
"""


def check_in_fresh_process(
    saved_model: str | os.PathLike,
    net: Any,
    preprocessing: Any,
    input_size: tuple[int, int] | None = None,
) -> tuple[int, float]:
    """Compares all signatures of a SavedModel with its net.

    Args:
        saved_model: Folder of the SavedModel.
        net: The exported `Standalone`.
        preprocessing: The exported `Preprocessing`.
        input_size: Height and width of the images that the signature `fixed` takes, as in
            `write_saved_model`.

    Returns:
        The number of compared images, and the largest difference in probability.

    Raises:
        InputError: The SavedModel does not load, or gives other answers than the net.
    """
    size, fit = preprocessing.image_size, preprocessing.fit
    groups, files = _made_pixels(size), _made_files()
    of_one_size = _pair(np.random.default_rng(2), (*(input_size or (size, size)), 3))
    as_pixels = [images.three_channels(tf.constant(group)) for group in groups]
    as_pixels += [tf.constant(images.decode(file).pixels[None]) for file in files]
    with tf.device("/cpu:0"):  # as in the fresh process: a GPU may be full, and rounds differently
        resized = [images.resize(each, size, fit) for each in as_pixels]
        live = np.concatenate([_probabilities(net, preprocessing, each) for each in resized])
        pixels = images.resize(of_one_size, size, fit) if input_size else of_one_size
        fixed = _probabilities(net, preprocessing, pixels)
    answers = _ask_fresh_process(pathlib.Path(saved_model), groups, files, of_one_size)
    worst = max(float(np.abs(answers[how] - live).max()) for how in ("batch", "single"))
    off = float(np.abs(answers["fixed"] - fixed).max())
    names = [preprocessing.class_names[i] for i in answers["index"]]
    none = (answers["none"] == [0, live.shape[1]]).all()
    close = worst <= _TOLERANCE and off <= (_RESIZED_TOLERANCE if input_size else _TOLERANCE)
    if not (close and names == list(answers["name"]) and none):
        raise InputError(
            f"{saved_model} gives other answers than its net (largest difference in probability: "
            f"{max(worst, off):.1e})."
        )
    return len(live), worst


def _probabilities(net: Any, preprocessing: Any, pixels: np.ndarray):
    normalized = normalize(pixels, preprocessing.mean, preprocessing.std)
    return tf.nn.softmax(net(normalized, training=False)).numpy()


def _ask_fresh_process(saved_model: pathlib.Path, groups: Any, files: Any, fixed: np.ndarray):
    check_graph(saved_model)  # `predict` makes the same check
    given = {"fixed": fixed, **{f"pixels_{i:02d}": group for i, group in enumerate(groups)}}
    given |= {f"file_{i:02d}": np.frombuffer(file, np.uint8) for i, file in enumerate(files)}
    with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as scratch:
        images_file, answers_file = f"{scratch}/images.npz", f"{scratch}/answers.npz"
        np.savez(images_file, **given)
        command = [sys.executable, "-c", _LOADER, str(saved_model.resolve())]
        done = subprocess.run(
            [*command, images_file, answers_file],
            cwd=scratch,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace")[-2000:]
            raise InputError(f"{saved_model} does not load in a fresh process: {said}")
        with np.load(answers_file) as answers:
            return {name: answers[name] for name in answers.files}


def _made_pixels(image_size: int):
    """Returns images of several sizes: uint8 `[2, h, w, c]`, a smooth pattern and noise."""
    rng = np.random.default_rng(0)
    shapes = [(image_size, image_size, 3), *((*size, 3) for size in _SIZES), (21, 34, 1),
              (30, 30, 4)]  # fmt: skip
    return [_pair(rng, shape) for shape in shapes]


def _pair(rng: np.random.Generator, shape: tuple[int, ...]):
    return np.stack([_pattern(rng, shape), _noise(rng, shape)])


def _made_files():
    """Returns JPEG and PNG files: colour, grey, rotated, transparent and 16-bit images."""
    rng = np.random.default_rng(1)
    colour, grey = _pattern(rng, (33, 51, 3)), _pattern(rng, (26, 19, 1))[..., 0]
    clear = _pattern(rng, (24, 32, 4))
    deep = np.linspace(0, 65535, 18 * 15).reshape(18, 15).astype(np.uint16)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    return [
        _encoded(colour, "JPEG"),
        _encoded(colour, "JPEG", exif=exif),
        _encoded(grey, "JPEG"),
        _encoded(colour, "PNG"),
        _encoded(colour, "PNG", exif=exif),
        _encoded(grey, "PNG"),
        _encoded(clear, "PNG"),
        _encoded(deep, "PNG"),
    ]


def _encoded(pixels: np.ndarray, kind: str, **options: Any):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _noise(rng: np.random.Generator, shape: tuple[int, ...]):
    return rng.integers(0, 256, shape, np.uint8)


def _pattern(rng: np.random.Generator, shape: tuple[int, ...]):
    """Returns an image of a few colours that blend into each other."""
    coarse = rng.uniform(0, 255, (4, 4, shape[2])).astype(np.float32)
    return np.clip(tf.image.resize(coarse, shape[:2]).numpy(), 0, 255).astype(np.uint8)
