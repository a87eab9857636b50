"""Reads what a folder that tensorflow-datasets prepared says of itself, as data.

tensorflow-datasets imports the modules that `features.json` and `dataset_info.json` name. So
this file parses `features.json`, and makes the two features that this package uses from the
numbers it finds. No name of a class or of a module in these files reaches tensorflow-datasets.
"""

import collections
import json
import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from oneshot_tf.system.errors import InputError, short

_MOST_BYTES = 2**24  # of a description; ImageNet's have less than 2**17
_MOST_CLASSES, _MOST_PIXELS = 10**6, 2**16
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){2}", re.ASCII)
_CONFIG = re.compile(r"\w[\w.+-]*", re.ASCII)
_DTYPES = ("uint8", "uint16", "float32")  # of the images of tensorflow-datasets
_FORMATS = ("", "png", "jpeg")
# A split's file names: no slash, and no other field that Python's format would look up.
_TEMPLATE = re.compile(
    r"([\w.-]|\{(DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y)\})*", re.ASCII
)
_FEATURES = "tensorflow_datasets.core.features."
_TABLE = _FEATURES + "features_dict.FeaturesDict"
_IMAGE = _FEATURES + "image_feature.Image"
_LABEL = _FEATURES + "class_label_feature.ClassLabel"


def find_folder(root, name: str, config: str, version: str):
    """The folder of the newest prepared version of a data set; None if there is none.

    Args:
        root: the folder of all data sets.
        name: of the data set, in snake case.
        config: of the data set; "" for the one that its own metadata calls the default.
        version: such as "3.0.2" or "3.*.*"; "" for any.
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


def _default_config(path) -> str:
    if not path.exists():
        return ""
    config = _read_json(path).get("default_config_name") or ""
    if not isinstance(config, str) or not (config == "" or _CONFIG.fullmatch(config)):
        raise InputError(f"{path} names the default config {short(config)}, which is not a name.")
    return config


def make_builder(folder, name: str, dataset: str):
    """The tensorflow-datasets builder of a prepared folder, with `image` and `label` only.

    Args:
        folder: what `find_folder` found.
        name: of the data set, in snake case.
        dataset: what the user calls it, for messages.

    Raises:
        InputError: the folder has no description, a damaged one, or no image and class.
    """
    for file in ("dataset_info.json", "label.labels.txt"):
        check_file(folder / file)
    if not (folder / "dataset_info.json").exists():
        raise InputError(f"{folder / 'dataset_info.json'} is missing; prepare the data set anew.")
    config = folder.parent.name if folder.parent.name != name else ""
    proto = tfds.core.dataset_info.dataset_info_pb2.DatasetInfo(
        name=name, version=folder.name, config_name=config,
        features=read_features(folder / "features.json", dataset).to_proto(),
    )  # fmt: skip
    return tfds.core.read_only_builder.builder_from_metadata(folder, proto)


def check_file(path) -> None:
    """Raises InputError for what is there and is not a plain file of a description's length."""
    _check_plain(path)
    if path.exists() and path.stat().length > _MOST_BYTES:
        raise InputError(
            f"{path} has {path.stat().length:,} bytes; a data set's description has at most "
            f"{_MOST_BYTES:,}. Prepare the data set anew."
        )


def _check_plain(path):
    # A bucket ("gs://…") has files only; for etils's paths, a pipe is a file too.
    local = pathlib.Path(path) if "://" not in str(path) else path
    if path.exists() and not local.is_file():
        raise InputError(f"{path} must be a plain file; it is something else.")


def check_splits(builder, name: str) -> None:
    """Raises InputError if a prepared set's files are not plain files of its own folder.

    Args:
        builder: of tensorflow-datasets, before anything was read with it.
        name: of the data set, in snake case.
    """
    place = builder.data_path / "dataset_info.json"
    if builder.info.name != name:
        raise InputError(f"{place} is of {short(builder.info.name)}; it must be of {name!r}.")
    for split, info in builder.info.splits.items():
        template = getattr(info.filename_template, "template", None) or ""
        if not re.fullmatch(r"[\w.+-]+", split) or not _TEMPLATE.fullmatch(template):
            raise InputError(
                f"{place} names files of the split {short(split)} by {short(template)}; both must "
                "be plain names without folders. Prepare the data set anew."
            )
        for path in info.filepaths:
            _check_plain(path)


def read_features(path, dataset: str):
    """Features `image` and `label`, as `features.json` describes them.

    All other features are left out, whatever their classes: nothing reads them.

    Args:
        path: of the file.
        dataset: what the user calls the data set, for messages.

    Returns:
        A `tfds.features.FeaturesDict`.

    Raises:
        InputError: not that file, or no image and class.
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
        raise InputError(f"{path} is damaged or of another version: it has {reason}.") from None


def wrong_kind(dataset: str, features) -> InputError:
    """The error for a data set without an image and a class.

    Args:
        dataset: what the user calls it.
        features: names of what it has.
    """
    names = ", ".join(map(str, features)).encode("unicode_escape").decode()[:200]
    return InputError(
        f"--dataset={dataset} has the features {names}; it must have an 'image' and a class "
        "'label'."
    )


def _image_and_label(image, label) -> dict:
    """Two features by name."""
    image = _content(image, _IMAGE, "image")
    label = _content(label, _LABEL, "classLabel", "class_label")
    shape = image["shape"]
    if isinstance(shape, dict):  # of protobuf
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


def _content(node, expected, *fields) -> dict:
    """What a feature of the expected class holds.

    tensorflow-datasets has written them as `{"type": …, "content": …}`, and since as a protocol
    buffer's JSON, whose content is called by one of `fields`.
    """
    node = _dict(node)
    kind = _one_of(node, "type", "pythonClassName", "python_class_name")
    if kind != expected:
        raise ValueError(f"the class {short(kind)}, which must be {expected}")
    content = node["content"] if "type" in node else _one_of(node, *fields, default={})
    return _dict(_parse(content) if isinstance(content, str) else content)


def _one_of(node, *spellings, default=None):
    """What is called by exactly one of the spellings; more of them would be ambiguous."""
    found = [name for name in spellings if name in node]
    if len(found) > 1:
        raise ValueError(f"both {' and '.join(found)}")
    if not found and default is None:
        raise ValueError(f"no {spellings[0]}")
    return node[found[0]] if found else default


def _number(value, most) -> int:
    """A whole number from 1; protocol buffers write large ones as texts."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        value = int(value)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{short(value)} where there must be a whole number from 1 to {most:,}")
    return value


def _dict(value) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{short(value)} where there must be an object")
    return value


def _read_json(path) -> dict:
    """A JSON object of bounded length, in UTF-8."""
    check_file(path)
    try:
        return _dict(_parse(path.read_bytes().decode("utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; prepare the data set anew.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}.") from None


def _parse(text: str):
    """JSON with each name once: of two, another reader might take the other."""

    def once(pairs):
        for name, count in collections.Counter(name for name, _ in pairs).most_common(1):
            if count > 1:
                raise ValueError(f"the name {short(name)} stands there {count} times")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)
