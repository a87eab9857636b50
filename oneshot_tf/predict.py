"""Classifies image files with an exported SavedModel, or with a file of another format.

A folder is searched for images, with the folders inside it. Answers appear as they come.

Usage: python -m oneshot_tf.predict --saved_model=DIR image.jpg folder ...
"""

import dataclasses
import sys
import time

import numpy as np

from oneshot_tf.data.images import decode
from oneshot_tf.data.pixels import BadImage
from oneshot_tf.serving import answers
from oneshot_tf.serving.classifier import Classifier, open_classifier
from oneshot_tf.serving.image_files import ImageFiles
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import user_path
from oneshot_tf.system.interrupts import Interrupted, uninterrupted
from oneshot_tf.system.printable import command, printable
from oneshot_tf.system.progress import Progress

_WAIT = 1.0  # seconds until answers appear, although a batch is not full
_QUIET = 5.0  # seconds without lines about progress


@dataclasses.dataclass(frozen=True)
class PredictSettings(Settings):
    """Prediction."""

    saved_model: str = setting(
        "",
        "Folder that export wrote, for example runs/mine/export: of its versions, the one with the "
        "largest number is used. Or the folder of one SavedModel. Or a TensorFlow Lite, ONNX or "
        "OpenVINO file that export wrote, for example runs/mine/export/1/model.onnx. "
        "architecture.json must lie beside the file.",
        common=True,
    )
    top: int = setting(
        5, "Number of classes to print per image, the most likely first.", least=1, common=True
    )
    format: str = setting(
        "text",
        "Format of the answers. text: one line per image. csv: a header, and one line per image "
        "and class, with the columns image, class and probability. json: one line of JSON per "
        "image. `image` is the name of the file, and `classes` is a list of objects with `name` "
        "and `probability`.",
        choices=tuple(answers.FORMATS),
        common=True,
    )
    output: str = setting(
        "",
        "New file to write the answers to. An existing file is refused. Empty: standard output.",
        common=True,
    )
    json: bool = setting(False, "The same as --format=json.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.json and self.format not in ("text", "json"):
            raise InputError(
                f"--json means --format=json, but --format={self.format} is given too. Leave one "
                "of them out."
            )


def main(predict: PredictSettings, images: list[str]) -> None:
    """Writes the answers of each image as they come, and errors to stderr.

    Raises:
        InputError: There is no model, no image is given, or an image cannot be read. In the last
            case, all other images were classified.
    """
    if not images:
        raise InputError(
            f"No image was given. Example: {command('predict', '--saved_model=DIR', 'a.jpg')}."
        )
    answers.check_output(predict.output)
    classifier = open_classifier(predict.saved_model)
    files = ImageFiles(images)
    if not files.count:
        raise InputError(
            "There is no image to classify; see the lines above. Give image files, or folders "
            "with images."
        )
    form = "json" if predict.json else predict.format
    with answers.opened(predict.output, form) as writer:
        work = _Work(classifier, files, writer, predict.top)
        try:
            work.run()
        except Interrupted as interrupt:
            where = f" after {writer.count:,} of {files.count:,} images"
            kept = f"; {predict.output} has their answers" if predict.output else ""
            raise Interrupted(interrupt.number, f"{where}{kept}", resumes=False) from None
    bad = work.bad + files.problems
    if bad:
        raise InputError(
            f"{bad:,} of {files.count + files.problems:,} image(s) cannot be read; see the lines "
            "above. Repair them or leave them out."
        )


class _Work:
    """Classifies files in batches.

    Args:
        classifier: The model.
        files: The files.
        writer: Takes the answers.
        top: Number of classes per image.

    Attributes:
        bad: Number of files that cannot be read.
    """

    def __init__(
        self, classifier: Classifier, files: ImageFiles, writer: answers.Answers, top: int
    ):
        self._classifier, self._files, self._writer = classifier, files, writer
        self._top, self.bad, self._began = top, 0, time.monotonic()
        self._first = self._began  # when the first of the waiting images was read
        self._progress = Progress("predict", files.count, "images", stream=sys.stderr)
        self._names: list[str] = []
        self._images: list[np.ndarray] = []

    def run(self) -> None:
        """Classifies all files, and prints progress if it takes long."""
        for name in self._files:
            with uninterrupted():  # an exception inside of TensorFlow's code can crash it
                self._take(name)
        with uninterrupted():
            self._finish()

    def _take(self, name: str) -> None:
        """Reads a file, and classifies those that wait if they are enough or have waited long."""
        try:
            pixels = decode(user_path(name).read_bytes()).pixels
        except (OSError, BadImage) as error:
            self.bad += 1
            what = printable(f"{name} cannot be read as an image: {plain(error)}")
            print(what, file=sys.stderr, flush=True)
            return
        if not self._names:
            self._first = time.monotonic()
        self._names.append(name)
        self._images.append(self._classifier.prepare(pixels))
        full = len(self._names) == self._classifier.batch
        if full or time.monotonic() - self._first > _WAIT:
            self._finish()

    def _finish(self):
        """Classifies the images that wait, and writes their answers."""
        if not self._names:
            return
        found = self._classifier(self._images, self._names)
        best = np.argsort(-found, axis=1, kind="stable")[:, : self._top]
        names = self._classifier.class_names
        answered = [
            (image, [(names[i], float(row[i])) for i in order])
            for image, row, order in zip(self._names, found, best)
        ]
        self._names, self._images = [], []
        self._writer.write(answered)
        if time.monotonic() - self._began > _QUIET:
            self._progress.update(self._writer.count + self.bad)


if __name__ == "__main__":
    command_line.run(main, PredictSettings, files=True)
