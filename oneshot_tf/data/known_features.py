"""Which classes the description of a prepared data set may name.

tensorflow-datasets imports the module of every class that features.json names, so a folder of
data could run code. Here a name is looked up in a fixed list, and nothing is imported.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import tensorflow_datasets as tfds

from oneshot_tf.errors import InputError, short

_CONNECTORS = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (
        tfds.features.Audio,
        tfds.features.BBoxFeature,
        tfds.features.ClassLabel,
        tfds.features.Dataset,
        tfds.features.FeaturesDict,
        tfds.features.Image,
        tfds.features.LabeledImage,
        tfds.features.Scalar,
        tfds.features.Sequence,
        tfds.features.Tensor,
        tfds.features.Text,
        tfds.features.Translation,
        tfds.features.TranslationVariableLanguages,
        tfds.features.Video,
    )
}
# Releases before 4.5 named the class of tensors so.
_CONNECTORS["tensorflow_datasets.core.features.feature.Tensor"] = tfds.features.Tensor


def _known(name: str):
    """The class of a name; the place of `FeatureConnector.cls_from_name`."""
    if not isinstance(name, str) or name not in _CONNECTORS:
        raise InputError(
            f"The data set's features.json names the class {short(name)}, which is not a feature "
            "of tensorflow-datasets. Only data sets with its own features can be read; nothing "
            "was imported."
        )
    return _CONNECTORS[name]


@contextlib.contextmanager
def only_known_features() -> Iterator[None]:
    """Inside the block, tensorflow-datasets imports no class that a file names.

    The check replaces the function that imports, because a check of the file beforehand would
    have to find the same file and read it in the same way.

    Raises:
        InputError: in the block, where a file names another class.
    """
    connector = tfds.features.FeatureConnector
    with mock.patch.object(connector, "cls_from_name", staticmethod(_known)):
        yield
