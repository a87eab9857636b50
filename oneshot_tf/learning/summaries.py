"""Writes event files for TensorBoard."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

from oneshot_tf.system.errors import plain
from oneshot_tf.system.files import make_folder, writing
from oneshot_tf.system.opening import check_folder


class Summaries:
    """A writer of events, with a new file each time a program starts.

    Args:
        folder: The folder of the event files. It is made with the first event.

    Raises:
        InputError: The folder is a link that leads out of its parent folder, or it holds such a
            link.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)
        self._writer: Any = None
        check_folder(self.folder, self.folder.parent)

    def scalars(self, step: int, values: dict) -> None:
        """Writes numbers by name."""
        self._write(lambda: [tf.summary.scalar(n, v, step=step) for n, v in values.items()])

    def histogram(self, step: int, name: str, values: Any) -> None:
        """Writes the distribution of many numbers."""
        self._write(lambda: tf.summary.histogram(name, values, step=step))

    def decisions(self, step: int, line: Mapping[str, Any]) -> None:
        """Writes a line of decisions.jsonl: its numbers, the architecture and the probabilities.

        TensorBoard shows the numbers as scalars, the architecture as a text, and the probabilities
        of each decision as a histogram.
        """
        numbers = {f"learnt/{n}": v for n, v in line.items() if isinstance(v, (int, float))}

        def write() -> None:
            for name, value in numbers.items():
                tf.summary.scalar(name, value, step=step)
            tf.summary.text("learnt/architecture", line["architecture"], step=step)
            for name, values in line["probabilities"].items():
                tf.summary.histogram(f"probabilities/{name}", values, step=step)

        self._write(write)

    def hparams(self, step: int, values: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Writes settings and scores of a training, which TensorBoard's tab HParams compares.

        Args:
            step: The last step of the training.
            values: Numbers, texts and truth values by name.
            scores: Numbers by name.
        """
        self._write(lambda: hparams_api.hparams(dict(values)))
        self.scalars(step, dict(scores))

    def _write(self, write: Callable[[], Any]):
        with writing(self.folder), tf.device("/cpu:0"):
            try:
                if self._writer is None:
                    make_folder(self.folder)
                    self._writer = tf.summary.create_file_writer(str(self.folder))
                with self._writer.as_default():
                    write()
                self._writer.flush()
            except tf.errors.OpError as error:
                raise OSError(plain(error)) from None


def note_hparams(folder: pathlib.Path, result: Mapping[str, Any]) -> None:
    """Writes the stand-alone nets of a selection for TensorBoard's tab HParams.

    Each training of a net is a run of its own there. Candidates are never runs.

    Args:
        folder: The folder of result.json.
        result: Its values.
    """
    retrain, train, tools = result["retrain"], result["train"], result["final"]
    shared = {name: retrain[name] for name in ("select", "filters", "num_cells", "epochs")}
    shared |= {name: train[name] for name in ("batch_size", "learning_rate", "weight_decay",
                                              "label_smoothing", "augmentation")}  # fmt: skip
    for net in result["nets"]:
        own = {name: net[name] for name in ("architecture", "parameters", "multiply_adds")}
        for place, accuracy in zip(net["folder"], net["accuracies"]):
            scores = {"stand_alone_accuracy": accuracy}
            if net["candidate_accuracy"] is not None:
                scores["candidate_accuracy"] = net["candidate_accuracy"]
            values = {**shared, **tools, **own, "images": result["evaluated_on"]}
            events = Summaries(folder.parent / place / "tensorboard")
            events.hparams(result["num_steps"], values, scores)
