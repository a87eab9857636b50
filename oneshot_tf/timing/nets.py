"""Writes untrained nets as files, to be timed. Weights do not change the time."""

import pathlib
from typing import Any

import tensorflow as tf

from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.serving.formats import FORMATS, SAVED_MODEL
from oneshot_tf.serving.saved_model import classify_fixed, write_saved_model
from oneshot_tf.serving.source import Source
from oneshot_tf.system.files import total_bytes

_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
_CALIBRATION = 8  # images of noise; they change the numbers in a file, not their count


def write_net(
    net: Standalone, preprocessing: Any, format: str, folder: pathlib.Path, whole: bool = False
) -> tuple[pathlib.Path, int]:
    """Writes a net in one format.

    Args:
        net: The net.
        preprocessing: Its `Preprocessing`.
        format: A name in `formats.FORMATS`.
        folder: An empty folder.
        whole: Whether a SavedModel gets all of its signatures. Otherwise it gets `fixed` only,
            which is what is timed.

    Returns:
        The file or folder that the runtime opens, and the length of all files in bytes.
    """
    saved = folder / "fixed"
    if whole and format == SAVED_MODEL:
        write_saved_model(net, preprocessing, saved)
    else:
        _save(net, {"fixed": classify_fixed(net, preprocessing)}, saved)
    opened, files = saved, [saved]
    if format != SAVED_MODEL:
        calibration = None
        if FORMATS[format].calibrates:
            side = preprocessing.image_size
            noise = tf.random.stateless_uniform([_CALIBRATION, side, side, 3], (0, 0), 0, 256)
            calibration = tf.cast(noise, tf.uint8).numpy()
        source = Source(net, preprocessing, saved, None, calibration)
        FORMATS[format].write(source, folder)
        files = [folder / name for name in FORMATS[format].files]
        opened = files[0]
    return opened, total_bytes(files)


def _save(net: Standalone, signatures: dict[str, Any], folder: pathlib.Path) -> None:
    module = tf.Module()
    module.tracked = [v.value for v in net.variables]
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures, _OPTIONS)
