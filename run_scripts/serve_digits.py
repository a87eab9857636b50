"""Classifies ten handwritten digits with an exported SavedModel, as a server would.

As a server does, it takes the version with the largest number in the folder.

Usage: python run_scripts/serve_digits.py EXPORT_DIR
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits


def main(export_dir):
    """Prints the label, the class and its probability for ten images."""
    digits = load_digits()
    images = np.round(digits.images[:10] * (255 / 16)).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    versions = [path for path in pathlib.Path(export_dir).iterdir() if path.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name), default=export_dir)
    serve = tf.saved_model.load(str(newest)).signatures["serving_default"]
    answer = serve(images=tf.constant(images))
    for label, name, row in zip(digits.target, answer["class_name"], answer["probabilities"]):
        print(f"label {label}: class {name.numpy().decode()}, probability {np.max(row):.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
