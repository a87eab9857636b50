"""Writes event files for TensorBoard."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

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
