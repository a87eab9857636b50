"""Runs exported files in fresh processes, compares them with the net and measures them."""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.data.dataset import normalize
from oneshot_tf.data.images import resize
from oneshot_tf.serving import runtimes
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import total_bytes
from oneshot_tf.system.processes import fresh_environment

_MOST_IMAGES, _MOST_BYTES = 10_000, 2**29
HOW = (
    "Each file ran in a fresh process, with one thread on the CPU. A time is the tenth percentile "
    f"of many short rounds. The batch has {runtimes.BATCH} images; TensorFlow Lite runs them one "
    "by one. OpenVINO computes in float32."
)


@dataclasses.dataclass(frozen=True)
class Judged:
    """Images with which exported files are compared with the net.

    Args:
        images: Uint8 `[n, h, w, 3]`, of the size that the exported files take.
        labels: Their classes, int `[n]`.
        probabilities: The answers of the net in TensorFlow, float32 `[n, K]`.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of an exported file.

    Args:
        format: Name of the format.
        bytes: Length of its files.
        accuracy: Share of the images whose class is right.
        largest_difference: Largest difference in probability from the net.
        same_classes: Share of the images to which the net gives the same class.
        one_ms, batch_ms: Milliseconds for one image, and for a batch.
        runtime: Name and version of the runtime.
    """

    format: str
    bytes: int
    accuracy: float
    largest_difference: float
    same_classes: float
    one_ms: float
    batch_ms: float
    runtime: str


def spread(count: int, height: int, width: int) -> np.ndarray:
    """Returns the indices of the images to use of a split: all, or evenly spread ones."""
    most = max(1, min(count, _MOST_IMAGES, _MOST_BYTES // (3 * height * width)))
    return np.linspace(0, count - 1, most).round().astype(int)


def brought_to(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns images, uint8 `[n, h, w, 3]`, brought to another height and width."""
    if images.shape[1:3] == size:
        return images
    resized = [tf.image.resize(image, size, antialias=True).numpy() for image in images]
    return np.clip(np.round(resized), 0, 255).astype(np.uint8)


def judged(
    net: Any, preprocessing: Any, split: Any, input_size: tuple[int, int] | None = None
) -> Judged:
    """Returns images of a split, with the answers of the net.

    Args:
        net: The `Standalone`.
        preprocessing: Its `Preprocessing`, or a `Dataset`.
        split: The images, a `Split`.
        input_size: Height and width of the images that the exported files take. None: the size of
            the training.
    """
    size, fit = preprocessing.image_size, preprocessing.fit
    part = split.take(spread(len(split), *(input_size or (size, size)))).in_memory()
    images = part.images if input_size is None else brought_to(part.images, input_size)
    answers = []
    with tf.device("/cpu:0"):  # as in the fresh process
        forward = tf.function(lambda x: tf.nn.softmax(net(x, training=False)))
        for start in range(0, len(images), runtimes.BATCH):
            some = tf.constant(images[start : start + runtimes.BATCH])
            some = some if input_size is None else resize(some, size, fit)
            answers.append(forward(normalize(some, preprocessing.mean, preprocessing.std)).numpy())
    return Judged(images, np.asarray(part.labels), np.concatenate(answers))


def measure(
    name: str,
    runtime: str,
    opened: pathlib.Path,
    files: Sequence[pathlib.Path],
    given: Judged,
    scratch: pathlib.Path,
) -> tuple[Measured, np.ndarray]:
    """Runs an exported file in a fresh process.

    Args:
        name: Name of the format.
        runtime: A name in `runtimes.RUNTIMES`.
        opened: The file or folder that the runtime opens.
        files: All files and folders of the format.
        given: The images, and the answers of the net.
        scratch: Folder for temporary files. It keeps the images for the next call.

    Returns:
        What was measured, and the probabilities, float32 `[n, K]`.

    Raises:
        InputError: The file does not run, or its answers have another shape or are not finite.
    """
    images, answers = scratch / "images.npy", scratch / f"{name}.npz"
    if not images.exists():
        np.save(images, given.images)
    program = pathlib.Path(runtimes.__file__).read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program, runtime, str(opened.resolve()), images, answers],
        cwd=scratch,
        env=fresh_environment(),
        capture_output=True,
    )
    if done.returncode or not answers.exists():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = plain(said[-1]) if said else f"exit code {done.returncode}"
        raise InputError(
            f"{name}: {opened.name} does not run in a fresh process: {why.rstrip('.')}."
        )
    with np.load(answers) as found:
        probabilities, times = found["probabilities"], found["milliseconds"]
        version = str(found["runtime"])
    if probabilities.shape != given.probabilities.shape or not np.isfinite(probabilities).all():
        raise InputError(
            f"{name}: {opened.name} is broken. Its answers must be {given.probabilities.shape} "
            f"finite numbers; got {probabilities.shape}. Leave this format out of --format."
        )
    found_classes, classes = probabilities.argmax(axis=1), given.probabilities.argmax(axis=1)
    row = Measured(
        format=name,
        bytes=total_bytes(files),
        accuracy=float(np.mean(found_classes == given.labels)),
        largest_difference=float(np.abs(probabilities - given.probabilities).max()),
        same_classes=float(np.mean(found_classes == classes)),
        one_ms=float(times[0]),
        batch_ms=float(times[1]),
        runtime=version,
    )
    return row, probabilities


def check_answers(name: str, probabilities: np.ndarray, given: Judged, most: float | None) -> None:
    """Makes sure that an exported file gives the answers of the net.

    Args:
        name: Name of the format.
        probabilities: Its answers, float32 `[n, K]`.
        given: The answers of the net.
        most: Largest difference in probability that is allowed. None, for integers: the mean
            difference must be smaller than if every answer were the net's average answer.

    Raises:
        InputError: The answers differ too much.
    """
    differences = np.abs(probabilities - given.probabilities)
    if most is not None:
        found, allowed, what = float(differences.max()), most, "by up to"
    else:
        average = given.probabilities.mean(axis=0)
        found, what = float(differences.mean()), "on average by"
        allowed = max(float(np.abs(given.probabilities - average).mean()), 1 / 256)
    if not found <= allowed:
        raise InputError(
            f"{name}: the written file is broken. Its probabilities differ {what} {found:.1e} from "
            f"the net's; at most {allowed:.1e} is allowed. Leave this format out of --format."
        )
