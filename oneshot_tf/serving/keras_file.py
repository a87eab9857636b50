"""Writes a net as a Keras file, which can be trained further. Loading it needs this package."""

import pathlib

import keras
import numpy as np

from oneshot_tf.serving.source import OUTPUT, Source, converting


def write_keras(source: Source, folder: pathlib.Path) -> None:
    """Writes `model.keras`: normalisation, the net and softmax.

    The model takes images of the training size, from 0 to 255, `[N, H, W, 3]`, and returns
    probabilities `[N, K]`. `keras.models.load_model` reads it after `import oneshot_tf`.

    Args:
        source: The net.
        folder: Folder to write to.
    """
    given, size = source.preprocessing, source.preprocessing.image_size
    mean, std = (np.asarray(values, np.float64) for values in (given.mean, given.std))
    with converting("keras"):
        model = keras.Sequential(
            [
                keras.Input([size, size, 3], name="images"),
                keras.layers.Rescaling(list(1 / (255 * std)), list(-mean / std), name="normalize"),
                source.net,
                keras.layers.Softmax(name=OUTPUT),
            ],
            name="exported",
        )
        model.save(folder / "model.keras")
