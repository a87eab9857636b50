"""Opens an exported file with its runtime, classifies images with it, and measures the time.

`measuring` runs the text of this file in a fresh process. So it imports nothing of this package at
the top, and each runtime only where it is needed. It is given the kind of the runtime, the exported
file, a .npy file of images, and the .npz file to write.
"""

import functools
import importlib
import importlib.metadata
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

BATCH = 32
_ROUNDS, _FEWEST_ROUNDS = 20, 4
_ROUND_SECONDS, _MOST_SECONDS = 0.005, 5.0  # of one call: in a round, and in all rounds
_QUANTILE = 0.1  # of the rounds; the result
APART = 0.1  # relative disagreement of two halves of the rounds

# Maps uint8 images `[n, h, w, 3]` to probabilities, float32 `[n, K]`.
Classify = Callable[[np.ndarray], np.ndarray]


def open_saved_model(path: str, threads: int) -> tuple[Classify, str]:
    """Opens the signature `fixed` of a SavedModel with TensorFlow."""
    tf = tensorflow_with(threads)
    model = tf.saved_model.load(path)
    fixed = model.signatures["fixed"]

    def classify(images: np.ndarray, model: Any = model):  # `fixed` does not keep it alive
        return fixed(images=tf.constant(images))["probabilities"].numpy()

    return classify, f"TensorFlow {tf.__version__}"


def open_keras(path: str, threads: int) -> tuple[Classify, str]:
    """Opens a Keras file. This is the only one that needs this package."""
    tf = tensorflow_with(threads)
    import keras

    importlib.import_module("oneshot_tf")  # registers the classes
    model = keras.saving.load_model(path, compile=False)
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images: forward(tf.constant(images)).numpy(), f"Keras {keras.__version__}"


def open_tflite(path: str, threads: int) -> tuple[Classify, str]:
    """Opens a TensorFlow Lite file, which takes one image at a time."""
    try:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        runtime = f"LiteRT {_version('ai-edge-litert', ai_edge_litert)}"
    except ModuleNotFoundError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # TensorFlow 2.20 and 2.21 still have it
        runtime = f"TensorFlow Lite of {tf.__version__}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        interpreter = Interpreter(model_path=path, num_threads=threads or None)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = answer["quantization"]

    def one(image: np.ndarray):
        # A file without operations, as of an identity, keeps float32 although it is quantised.
        interpreter.set_tensor(given["index"], image[np.newaxis].astype(given["dtype"], copy=False))
        interpreter.invoke()
        values = interpreter.get_tensor(answer["index"])[0]
        if values.dtype == np.float32:
            return values
        return (values.astype(np.float32) - zero) * np.float32(scale)

    return lambda images: np.stack([one(image) for image in images]), runtime


def open_onnx(path: str, threads: int) -> tuple[Classify, str]:
    """Opens an ONNX file with ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return lambda images: session.run(None, {given.name: images})[0], runtime


def open_openvino(path: str, threads: int) -> tuple[Classify, str]:
    """Opens an OpenVINO file, on the CPU and in float32."""
    import openvino

    # Without the first property it computes in bfloat16 on some CPUs.
    properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        properties["INFERENCE_NUM_THREADS"] = str(threads)
    model = openvino.Core().compile_model(path, "CPU", properties)
    runtime = f"OpenVINO {openvino.__version__.split('-')[0]}"
    return lambda images: np.array(model(np.ascontiguousarray(images))[0]), runtime


RUNTIMES: dict[str, Callable[[str, int], tuple[Classify, str]]] = {
    "saved_model": open_saved_model,
    "keras": open_keras,
    "tflite": open_tflite,
    "onnx": open_onnx,
    "openvino": open_openvino,
}


def tensorflow_with(threads: int) -> Any:
    """Returns TensorFlow, started with a number of threads; 0 leaves the choice to TensorFlow."""
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _version(package: str, module: Any):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return getattr(module, "__version__", "of an unknown version")


def in_turn(calls: Sequence[Callable[[], Any]], attempts: int = 3) -> tuple[list[float], float]:
    """Times calls in turn, in many short rounds, so that a slow moment hits all of them alike.

    The result is a low quantile of the rounds. Other programs make a call slower, never faster, so
    low values are closer to the truth. If the first half of the rounds and the second disagree, it
    runs more rounds.

    Args:
        calls: The functions to time.
        attempts: How often it runs all rounds at most.

    Returns:
        The milliseconds of each call, and the largest relative disagreement of the two halves.
    """
    numbers, first = [], []
    for call in calls:
        for _ in range(3):
            began = time.perf_counter()
            call()
        first.append(time.perf_counter() - began)
        numbers.append(max(1, round(_ROUND_SECONDS / max(first[-1], 1e-7))))
    expected = sum(n * once for n, once in zip(numbers, first))
    count = int(np.clip(_MOST_SECONDS * len(calls) / expected, _FEWEST_ROUNDS, _ROUNDS))
    rounds: list[list[float]] = []
    for _ in range(attempts):
        rounds += [[_once(*each) for each in zip(calls, numbers)] for _ in range(count)]
        halves = [np.quantile(half, _QUANTILE, axis=0) for half in np.array_split(rounds, 2)]
        apart = float(np.abs(halves[0] / halves[1] - 1).max())
        if apart <= APART:
            break
    return (1000 * np.quantile(rounds, _QUANTILE, axis=0)).tolist(), apart


def _once(call: Callable[[], Any], number: int) -> float:
    began = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - began) / number


def main(kind: str, path: str, images_file: str, answers_file: str) -> None:
    """Classifies the images, measures the time of one image and of a batch, and writes both."""
    images = np.load(images_file, mmap_mode="r")
    classify, runtime = RUNTIMES[kind](path, 1)
    parts = range(0, len(images), BATCH)
    answers = [np.asarray(classify(np.array(images[i : i + BATCH]))) for i in parts]
    batch = np.resize(images[:BATCH], (BATCH, *images.shape[1:]))  # repeats them if they are few
    times, _ = in_turn([functools.partial(classify, part) for part in (batch[:1], batch)])
    np.savez(
        answers_file, probabilities=np.concatenate(answers), milliseconds=times, runtime=runtime
    )


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    main(*sys.argv[1:])
