"""Writes the requests with which TensorFlow Serving warms up a model before it takes others.

The first call of a signature is slow, because TensorFlow prepares its graph then. TensorFlow
Serving reads requests from a file in the folder of a SavedModel, and makes these calls first. The
file holds records of `tensorflow.serving.PredictionLog` messages. Only four fields are needed, so
this module writes them itself, and the package tensorflow-serving-api is not needed.
"""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

FOLDER, FILE = "assets.extra", "tf_serving_warmup_requests"
_BATCH, _MOST_BYTES = 32, 2**24
# Numbers of the fields in the .proto files of TensorFlow Serving.
_PREDICT_LOG = 6  # of PredictionLog
_REQUEST = 1  # of PredictLog
_MODEL_SPEC, _INPUTS = 1, 2  # of PredictRequest
_SIGNATURE_NAME = 3  # of ModelSpec
_KEY, _VALUE = 1, 2  # of an entry of a map
_LENGTH_DELIMITED = 2  # the wire type of texts and messages


def write_warmup(folder: pathlib.Path, size: int, input_size: tuple[int, int] | None) -> None:
    """Writes the requests into the folder of a SavedModel.

    They are one image and a batch of 32 for the signature `serving_default`, a JPEG file for
    `bytes`, and one image for `fixed`. The batch has fewer images if 32 take more than 16 MiB.

    Args:
        folder: The folder of the SavedModel.
        size: Height and width of the images of the training.
        input_size: Height and width of the images that `fixed` takes. None: those of the training.
    """
    one = np.zeros([1, size, size, 3], np.uint8)
    batch = max(1, min(_BATCH, _MOST_BYTES // one.size))
    fixed = np.zeros([1, *(input_size or (size, size)), 3], np.uint8)
    requests = [
        request("serving_default", "images", one),
        request("serving_default", "images", np.repeat(one, batch, axis=0)),
        request("bytes", "encoded", [tf.io.encode_jpeg(one[0]).numpy()]),
        request("fixed", "images", fixed),
    ]
    (folder / FOLDER).mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FOLDER / FILE)) as writer:
        for each in requests:
            writer.write(each)


def request(signature: str, name: str, value: Any) -> bytes:
    """Returns a PredictionLog message that calls a signature.

    It does not name the model, because users choose the name when they start the server.

    Args:
        signature: Name of the signature.
        name: Name of its input.
        value: The input, an array or a list of bytes.
    """
    tensor = tf.make_tensor_proto(value).SerializeToString()
    model_spec = _field(_SIGNATURE_NAME, signature.encode())
    entry = _field(_KEY, name.encode()) + _field(_VALUE, tensor)
    call = _field(_MODEL_SPEC, model_spec) + _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, call))


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a message: its number and wire type, its length, and its content."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Returns a number in groups of seven bits, the lowest first. All but the last have bit 8."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
