"""Reads the description of a folder that tensorflow-datasets prepared, without running code.

tensorflow-datasets imports the modules that `features.json` and `dataset_info.json` name. To
avoid these imports, this module parses `features.json` itself. It creates the two features that
this package uses from the numbers in the file. No name of a class or module reaches
tensorflow-datasets.
"""

import collections
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from oneshot_tf.system.errors import InputError, short

_MOST_BYTES = 2**24  # in a description file; a file of ImageNet has less than 2**17
_MOST_CLASSES, _MOST_PIXELS = 10**6, 2**16
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){2}", re.ASCII)
_CONFIG = re.compile(r"\w[\w.+-]*", re.ASCII)
_DTYPES = ("uint8", "uint16", "float32")  # the types of images in tensorflow-datasets
_FORMATS = ("", "png", "jpeg")
# Allows no slash in file names, and no other field that `str.format` would look up.
_TEMPLATE = re.compile(
    r"([\w.-]|\{(DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y)\})*", re.ASCII
)
_FEATURES = "tensorflow_datasets.core.features."
_TABLE = _FEATURES + "features_dict.FeaturesDict"
_IMAGE = _FEATURES + "image_feature.Image"
_LABEL = _FEATURES + "class_label_feature.ClassLabel"


def find_folder(root: str | os.PathLike, name: str, config: str, version: str) -> epath.Path | None:
    """Finds the folder of the newest prepared version of a data set.

    Args:
        root: The folder of all data sets.
        name: Name of the data set, in snake case.
        config: Configuration of the data set. "" uses the default in its metadata.
        version: For example "3.0.2" or "3.*.*". "" allows any version.

    Returns:
        The folder, or None if no version is prepared.
    """
    above = epath.Path(root).expanduser() / name
    config = config or _default_config(above / ".config" / "metadata.json")
    above = above / config if config else above
    if not above.is_dir():
        return None
    pattern = re.escape(version or "*.*.*").replace(r"\*", r"\d+")
    found = [path for path in above.iterdir() if _VERSION.fullmatch(path.name)]
    found = [path for path in found if re.fullmatch(pattern, path.name)]
    newest_first = sorted(found, key=lambda p: [int(n) for n in p.name.split(".")], reverse=True)
    return next((path for path in newest_first if (path / "features.json").exists()), None)


def _default_config(path: epath.Path) -> str:
    """Returns the default configuration that a metadata file names, or ""."""
    if not path.exists():
        return ""
    config = _read_json(path).get("default_config_name") or ""
    if not isinstance(config, str) or not (config == "" or _CONFIG.fullmatch(config)):
        raise InputError(
            f"{path}: the default config must be a plain name; got {short(config)}. Prepare the "
            "data set again."
        )
    return config


def make_builder(folder: epath.Path, name: str, dataset: str) -> tfds.core.DatasetBuilder:
    """Creates the builder of a prepared folder, with the features `image` and `label` only.

    Args:
        folder: The result of `find_folder`.
        name: Name of the data set, in snake case.
        dataset: The name that the user gave, for messages.

    Raises:
        InputError: If the description is missing or damaged, or has no image and class.
    """
    for file in ("dataset_info.json", "label.labels.txt"):
        check_file(folder / file)
    if not (folder / "dataset_info.json").exists():
        raise InputError(f"{folder / 'dataset_info.json'} is missing. Prepare the data set again.")
    config = folder.parent.name if folder.parent.name != name else ""
    proto = tfds.core.dataset_info.dataset_info_pb2.DatasetInfo(
        name=name, version=folder.name, config_name=config,
        features=read_features(folder / "features.json", dataset).to_proto(),
    )  # fmt: skip
    return tfds.core.read_only_builder.builder_from_metadata(folder, proto)


def check_file(path: epath.Path) -> None:
    """Checks that a description file is a plain file of limited size, or does not exist.

    Raises:
        InputError: If it is something else or too large.
    """
    _check_plain(path)
    if path.exists() and path.stat().length > _MOST_BYTES:
        raise InputError(
            f"{path} must have at most {_MOST_BYTES:,} bytes; it has {path.stat().length:,}. "
            "Prepare the data set again."
        )


def _check_plain(path: epath.Path) -> None:
    # epath calls a pipe a file, and pathlib does not. A bucket ("gs://…") has only files.
    local = pathlib.Path(path) if "://" not in str(path) else path
    if path.exists() and not local.is_file():
        raise InputError(f"{path} must be a plain file. Remove it and prepare the data set again.")


def check_splits(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Checks that the files of a prepared data set are plain files in its own folder.

    Args:
        builder: A builder that has not read anything yet.
        name: Name of the data set, in snake case.

    Raises:
        InputError: If the description names another data set or other files.
    """
    place = builder.data_path / "dataset_info.json"
    if builder.info.name != name:
        raise InputError(
            f"{place} must describe {name!r}; it describes {short(builder.info.name)}. Prepare "
            "the data set again."
        )
    for split, info in builder.info.splits.items():
        template = getattr(info.filename_template, "template", None) or ""
        if not re.fullmatch(r"[\w.+-]+", split) or not _TEMPLATE.fullmatch(template):
            raise InputError(
                f"{place}: splits and their files must have plain names without folders; got the "
                f"split {short(split)} with the files {short(template)}. Prepare the data set "
                "again."
            )
        for path in info.filepaths:
            _check_plain(path)


def read_features(path: epath.Path, dataset: str) -> tfds.features.FeaturesDict:
    """Reads the features `image` and `label` from a `features.json` file.

    All other features are ignored, whatever their classes, because nothing reads them.

    Args:
        path: Path of the file.
        dataset: The name that the user gave, for messages.

    Raises:
        InputError: If the file is damaged or has no image and class.
    """
    try:
        content = _content(_read_json(path), _TABLE, "featuresDict", "features_dict")
        named = _dict(content.get("features", content))
        if not {"image", "label"} <= set(named):
            raise wrong_kind(dataset, named)
        return tfds.features.FeaturesDict(_image_and_label(named["image"], named["label"]))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{path} is damaged or of another version: it has {reason}. Prepare the data set again."
        ) from None


def wrong_kind(dataset: str, features: Iterable[str]) -> InputError:
    """Returns the error for a data set without an image and a class.

    Args:
        dataset: The name that the user gave.
        features: Names of its features.
    """
    names = ", ".join(map(str, features)).encode("unicode_escape").decode()[:200]
    return InputError(
        f"--dataset={dataset} must have an 'image' and a class 'label'; it has the features "
        f"{names}. Choose a data set for image classification."
    )


def _image_and_label(image_node: Any, label_node: Any) -> dict[str, Any]:
    """Creates the two features, by name, from their JSON values."""
    image = _content(image_node, _IMAGE, "image")
    label = _content(label_node, _LABEL, "classLabel", "class_label")
    shape = image["shape"]
    if isinstance(shape, dict):  # from a protocol buffer
        shape = [None if n in (-1, "-1") else n for n in shape["dimensions"]]
    height, width, channels = (n if n is None else _number(n, _MOST_PIXELS) for n in shape)
    dtype = image["dtype"]
    encoding = _one_of(image, "encodingFormat", "encoding_format", default="") or ""
    if dtype not in _DTYPES or encoding not in _FORMATS:
        raise ValueError(f"images of {short(dtype)} and {short(encoding)}")
    classes = _number(_one_of(label, "numClasses", "num_classes"), _MOST_CLASSES)
    return {
        "image": tfds.features.Image(
            shape=(height, width, channels),
            dtype=np.dtype(dtype).type,
            encoding_format=encoding or None,
        ),
        "label": tfds.features.ClassLabel(num_classes=classes),
    }


def _content(value: Any, expected: str, *fields: str) -> dict[str, Any]:
    """Returns the content of a feature.

    Older versions of tensorflow-datasets write `{"type": …, "content": …}`. Newer versions write
    the JSON of a protocol buffer, with the content in one of `fields`.

    Args:
        value: The JSON value of the feature.
        expected: The class that the feature must have.
        *fields: Spellings of the name of the content.

    Raises:
        ValueError: If the feature has another class or form.
    """
    node = _dict(value)
    kind = _one_of(node, "type", "pythonClassName", "python_class_name")
    if kind != expected:
        raise ValueError(f"the class {short(kind)} instead of {expected}")
    content = node["content"] if "type" in node else _one_of(node, *fields, default={})
    return _dict(_parse(content) if isinstance(content, str) else content)


def _one_of(node: Mapping[str, Any], *spellings: str, default: Any = None) -> Any:
    """Returns the value under one of several spellings of a name, or the default.

    Raises:
        ValueError: If several spellings are present, or none and there is no default.
    """
    found = [name for name in spellings if name in node]
    if len(found) > 1:
        raise ValueError(f"both {' and '.join(found)}")
    if not found and default is None:
        raise ValueError(f"no {spellings[0]}")
    return node[found[0]] if found else default


def _number(value: Any, most: int) -> int:
    """Returns an integer from 1 to `most`. Protocol buffers write large ones as strings."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        value = int(value)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{short(value)} instead of an integer from 1 to {most:,}")
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{short(value)} instead of an object")
    return value


def _read_json(path: epath.Path) -> dict[str, Any]:
    """Reads a JSON object of limited size in UTF-8."""
    check_file(path)
    try:
        return _dict(_parse(path.read_bytes().decode("utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Prepare the data set again.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as JSON: {error}. Prepare the data set again."
        ) from None


def _parse(text: str) -> Any:
    """Parses JSON and refuses duplicate names, because readers differ in which one they take."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, count in collections.Counter(name for name, _ in pairs).most_common(1):
            if count > 1:
                raise ValueError(f"the name {short(name)} appears {count} times")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)
