"""Writing a stand-alone net as a SavedModel that needs nothing of this package."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from oneshot_tf.data.dataset import normalize
from oneshot_tf.data.images import resize
from oneshot_tf.errors import InputError, plain
from oneshot_tf.files import (
    beside_of,
    make_folder,
    remove_leftovers,
    replace_folder,
    user_path,
    write_json,
    writing,
)


def write_saved_model(net, dataset, directory, facts=None, check=None) -> pathlib.Path:
    """Writes a SavedModel and `architecture.json`; an older one there is replaced at the end.

    Its default signature takes `images`, uint8 `[N, H, W, 3]` of any N, H and W
    (brought to the net's image size where they differ, see `data.images.resize`), and gives
    `probabilities` float32 `[N, K]`, `class_index` int32 `[N]` and `class_name`
    string `[N]`. Preprocessing is inside. Batch norms use moving averages.

    Args:
        net: a trained `Standalone`.
        dataset: has what preprocessing needs: `image_size`, `mean`, `std`, `fit`, `class_names`.
        directory: where to.
        facts: more entries for architecture.json.
        check: called with the folder of the finished SavedModel before it takes its
            place; may raise to keep what is there.

    Returns:
        The directory.

    Raises:
        InputError: it can't be written, or the directory holds something else.
    """
    directory = user_path(directory).resolve()
    if directory.exists():
        if not directory.is_dir():
            raise InputError(f"{directory} is a file; needed is a folder for the SavedModel.")
        if any(directory.iterdir()) and not (directory / "architecture.json").exists():
            raise InputError(f"{directory} holds something else; give an empty or a new folder.")
    beside = beside_of(directory)
    make_folder(directory.parent)
    remove_leftovers(directory.parent, f".{directory.name}.*")
    try:
        _write(net, dataset, beside, facts)
        if check:
            check(beside)
        replace_folder(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return directory


def _write(net, dataset, directory, facts):
    with writing(directory):
        module = _Served(net, dataset)
        try:
            tf.saved_model.save(module, str(directory), signatures=module.classify)
        except tf.errors.OpError as error:
            raise OSError(plain(error)) from None
        description = {
            "text": str(net.architecture),
            "architecture": json.loads(net.architecture.to_json()),
            "space": net.space.to_dict(),
            **dataclasses.asdict(net.stack),
            "parameters": int(sum(np.prod(v.shape) for v in net.trainable_variables)),
            "image_size": dataset.image_size,
            "fit": dataset.fit,
            "class_names": list(dataset.class_names),
            **(facts or {}),
        }
        write_json(directory / "architecture.json", description)


class _Served(tf.Module):
    def __init__(self, net, dataset):
        super().__init__()
        self._variables = [v.value for v in net.variables]  # tracked, so that they are saved
        size = int(dataset.image_size)
        fit = dataset.fit
        mean, std, names = dataset.mean, dataset.std, list(dataset.class_names)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
        def classify(images):
            images = resize(images, size, fit)
            logits = net(normalize(images, mean, std), training=False)
            probabilities = tf.nn.softmax(logits)
            index = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            return {
                "probabilities": probabilities,
                "class_index": index,
                "class_name": tf.gather(tf.constant(names), index),
            }

        self.classify = classify
