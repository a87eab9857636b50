"""The formats that `export` writes.

To add a format, write a function with the signature of `Format`, and one entry in FORMATS.
"""

import pathlib
from collections.abc import Callable

from oneshot_tf.serving.saved_model import write_saved_model

# `format(net, dataset, directory, facts, check)` writes a net with its preprocessing to a folder
# and returns the folder. It calls `check(folder)` on the finished export before it moves the export
# to its place.
Format = Callable[..., pathlib.Path]

# `export --format=NAME`.
FORMATS: dict[str, Format] = {"saved_model": write_saved_model}
