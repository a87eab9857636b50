"""Writes a net for TensorFlow Lite, now called LiteRT, which runs on phones.

The files take one image at a time. With a fixed batch, no operation computes shapes, so that the
delegates for GPUs and other accelerators can take the whole graph.
"""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.serving.source import INPUT, OUTPUT, Graphs, converting
from oneshot_tf.system.errors import InputError

# The gradients that are ours capture tensors of the net's own graph, and cannot be saved.
_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def write_tflite(source: Graphs, folder: pathlib.Path) -> None:
    """Writes `model.tflite`. It takes uint8 images and computes in float32."""
    _write(source, folder / "model.tflite", "tflite")


def write_tflite_fp16(source: Graphs, folder: pathlib.Path) -> None:
    """Writes `model_fp16.tflite`. Its weights are float16, and CPUs compute in float32."""

    def halve(converter: Any):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    _write(source, folder / "model_fp16.tflite", "tflite_fp16", halve)


def write_tflite_int8(source: Graphs, folder: pathlib.Path) -> None:
    """Writes `model_int8.tflite`. Weights and activations are 8-bit integers.

    The input and the output are uint8. The ranges of the activations are those of
    `source.calibration`.
    """
    images = source.calibration
    if images is None or not len(images):
        raise InputError("--format=tflite_int8 needs training images to measure ranges with.")

    def given():
        for image in images:
            yield {INPUT: image[np.newaxis].astype(np.float32)}

    def quantize(converter: Any):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = given
        # Without float operations: a net that needs one is refused.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8

    _write(source, folder / "model_int8.tflite", "tflite_int8", quantize, floats=True)


def _write(
    source: Graphs,
    path: pathlib.Path,
    name: str,
    change: Callable[[Any], None] = lambda converter: None,
    floats: bool = False,
):
    with converting(name):
        graph = source.frozen(batch=1, floats=floats).graph

        def load():
            tf.graph_util.import_graph_def(graph, name="")

        wrapped = tf.compat.v1.wrap_function(load, [])
        tensor = wrapped.graph.get_tensor_by_name
        function = wrapped.prune([tensor(f"{INPUT}:0")], {OUTPUT: tensor(f"{OUTPUT}:0")})
        with tempfile.TemporaryDirectory() as scratch:  # only a SavedModel keeps the names
            tf.saved_model.save(tf.Module(), scratch, function, _OPTIONS)
            converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
            change(converter)
            content = converter.convert()
    path.write_bytes(content)
