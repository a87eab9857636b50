"""Loads image classification data sets of tensorflow-datasets."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from oneshot_tf.data import checksums, prepared
from oneshot_tf.data.dataset import check_memory
from oneshot_tf.data.images import BadImages, decode, decode_tensor, resize, three_channels
from oneshot_tf.data.in_memory import AnySplit, Split
from oneshot_tf.data.readers import RecordReader
from oneshot_tf.data.streaming import StreamedSplit
from oneshot_tf.system.errors import InputError

_RECORDS = ".tfrecord"


def load(
    name: str, data_dir: str, image_size: int, download: bool, skip: bool, streamed: bool, fit: str
) -> tuple[AnySplit, Callable[[], AnySplit], Callable[[], list[int]], Sequence[str]]:
    """Loads a data set. The arguments are those of `load_data`.

    Args:
        name: A name that tensorflow-datasets knows.
        data_dir: Folder of prepared data sets. "" uses the default of tensorflow-datasets.
        image_size: Height and width in pixels to resize to. 0 keeps the size, or uses 32 if the
            images have many sizes.
        download: Whether a missing data set may be downloaded.
        skip: Whether to leave bad images out.
        streamed: Whether to leave the images on disk.
        fit: How images become squares, "stretch" or "center".

    Returns:
        The training images, a function that returns the test images, a function that returns
        their fingerprint, and the class names.

    Raises:
        InputError: If the data set is unknown, cannot be prepared or is not for image
            classification.
    """
    builder = _prepared(name, os.path.expanduser(data_dir) or None, download)
    image, label = _image_and_label(name, dict(builder.info.features.items()))
    splits = builder.info.splits
    if "train" not in splits:
        raise InputError(
            f"--dataset={name} must have the split 'train'; it has {', '.join(splits)}. Choose "
            "another data set."
        )
    size = image_size or (image.shape[0] if image.shape and image.shape[0] else 32)
    test = next((s for s in ("test", "validation") if _has_labels(builder, s)), None)
    for split in filter(None, ("train", test)):
        _check_files(name, builder, split, skip, streamed)

    def read(split: str) -> AnySplit:
        if not streamed:
            return _read(builder, split, size, skip, fit)
        paths = [str(path) for path in builder.info.splits[split].filepaths]
        reader = RecordReader(paths, label.num_classes, skip)
        found = StreamedSplit(reader, np.arange(len(reader)), size, fit)
        return found.without_bad() if skip else found

    if test:
        paths = splits[test].filepaths
        return read("train"), lambda: read(test), lambda: _fingerprint(paths), label.names
    # The data set has no test images. Every sixth training image becomes one.
    full = read("train")
    held = np.arange(len(full)) % 6 == 0
    test_images = full.take(held)
    return full.take(~held), lambda: test_images, test_images.fingerprint, label.names


def _fingerprint(paths: Sequence[epath.Path]) -> list[int]:
    """Computes a fingerprint of files without decoding images; see `Split.fingerprint`.

    It covers the checksums that TFRecord files store for each record. For files of other formats
    and files that are not on a local disk, it covers names and sizes.
    """
    found, counts = [], 0
    for path in paths:
        if path.suffix.startswith(_RECORDS) and "://" not in str(path):
            records = checksums.of_records(path)
            counts += len(records)
            found.append(checksums.summary(records))
        else:
            found.append(checksums.checksum(f"{path.name} {path.stat().length}".encode()) >> 32)
    return [counts, checksums.summary(np.array(found, np.uint32)), 0]


def _image_and_label(
    name: str, features: Mapping[str, Any]
) -> tuple[tfds.features.Image, tfds.features.ClassLabel]:
    """Returns the two features, or raises InputError unless they are integer images and classes."""
    label, image = features.get("label"), features.get("image")
    if not isinstance(label, tfds.features.ClassLabel) or not isinstance(
        image, tfds.features.Image
    ):
        raise prepared.wrong_kind(name, features)
    if image.np_dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"--dataset={name} must have images of uint8 or uint16; it has "
            f"{np.dtype(image.np_dtype)}. Choose another data set."
        )
    return image, label


def _has_labels(builder: tfds.core.DatasetBuilder, split: str) -> bool:
    """Returns whether a split exists and has labels. Some data sets withhold the test labels."""
    if split not in builder.info.splits:
        return False
    with contextlib.suppress(tf.errors.OpError, StopIteration):  # reading reports errors later
        first = next(iter(builder.as_dataset(split=split, shuffle_files=False).take(1)))
        return int(first["label"]) >= 0
    return True


def _prepared(name: str, data_dir: str | None, download: bool) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set, and prepares the data set if necessary."""
    # Names with a namespace ("huggingface:…") would download and run code.
    if not re.fullmatch(r"\w+(/\w[\w.+-]*)?(:(\d+|\*)(\.(\d+|\*)){2})?", name, re.ASCII):
        raise InputError(
            f"--dataset={name} is not the name of a data set. Use digits, folder:PATH, npz:FILE or "
            "a name that tensorflow-datasets lists, for example cifar10 or cifar10:3.0.2."
        )
    try:
        builder = _builder(name, data_dir)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tensorflow-datasets raises many kinds for damaged files
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"--dataset={name} cannot be used ({first}). Use digits, folder:PATH, npz:FILE or a "
            "name that tensorflow-datasets lists, for example cifar10."
        ) from None
    if builder.data_path.exists():
        return builder
    place = f"in {builder.data_path.parent.parent}"
    if not download:
        raise InputError(
            f"--dataset={name} is not prepared {place}. Set --download, or set --data_dir to the "
            "folder that has it."
        )
    by_hand = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if by_hand:
        folder = builder.data_path.parent.parent / "downloads" / "manual"
        if not folder.exists() or not any(folder.iterdir()):
            raise InputError(
                f"--dataset={name} is not prepared {place}, and its files must be downloaded by "
                f"hand. Put them into {folder} and start again. {' '.join(by_hand.split())}"
            )
    else:
        _check_reachable(builder, name, place)
    try:
        builder.download_and_prepare()
    except Exception as error:  # tensorflow-datasets and its downloads raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"--dataset={name} is not prepared {place}, and it cannot be prepared now: {reason}"
        ) from None
    return builder


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Finds the builder in the code of tensorflow-datasets, or else in a prepared folder.

    This function works like `tfds.builder`, but a prepared folder cannot make it import code; see
    `prepared`.
    """
    parsed, wanted = tfds.core.naming.parse_builder_name_kwargs(name)
    short_name, config = parsed.name, wanted.get("config", "")
    root = data_dir or tfds.core.constants.DATA_DIR
    code: Any = None
    unknown: Exception | None = None
    try:
        code = tfds.builder_cls(short_name)
    except tfds.core.registered.DatasetNotFoundError as error:
        unknown = error
    if code is None or "version" in wanted or (config and config not in code.builder_configs):
        if not config and code is not None and code.BUILDER_CONFIGS:
            config = code.default_builder_config.name
        folder = prepared.find_folder(root, short_name, config, wanted.get("version", ""))
        if folder is not None:
            builder = prepared.make_builder(folder, short_name, name)
            prepared.check_splits(builder, short_name)
            return builder
    if unknown is not None:
        raise unknown
    # The builder's code reads some of these files. None of them may be a pipe or endless.
    for place in ("*", "*/*"):
        for file in ("dataset_info.json", "*.labels.txt"):
            for path in (epath.Path(root).expanduser() / short_name).glob(f"{place}/{file}"):
                prepared.check_file(path)
    builder = code(data_dir=data_dir, **wanted)
    prepared.check_splits(builder, short_name)
    return builder


def _check_reachable(builder: tfds.core.DatasetBuilder, name: str, place: str) -> None:
    """Sends one request to the data set's host, because tensorflow-datasets retries for minutes."""
    urls = [url for url in getattr(builder, "url_infos", {}) if url.startswith("http")]
    if not urls:
        return
    try:
        requests.head(urls[0], timeout=15, allow_redirects=True)
    except requests.exceptions.RequestException as error:
        raise InputError(
            f"--dataset={name} is not prepared {place}, and its host cannot be reached "
            f"({type(error).__name__} for {urls[0]}). Set --data_dir to a folder that has it, or "
            "use --dataset=digits, which needs no download."
        ) from None


def _check_files(
    name: str, builder: tfds.core.DatasetBuilder, split: str, skip: bool, streamed: bool
) -> None:
    """Raises InputError for a truncated file, or one that cannot be streamed, before training."""
    info = builder.info.splits[split]
    paths = [path for path in info.filepaths if path.suffix.startswith(_RECORDS)]
    # Each record has a length and two checksums of 16 bytes in all.
    expected = info.num_bytes + 16 * info.num_examples
    found = sum(path.stat().length for path in paths if path.exists())
    if paths and found < expected and not skip:
        raise InputError(
            f"{builder.name} in {builder.data_path}: the files of the {split} split must have "
            f"{expected:,} bytes; they have {found:,}. Prepare the data set again, or set "
            "--skip_bad_images to use the examples that are there."
        )
    if streamed and len(paths) < len(info.filepaths):
        raise InputError(
            f"--storage=files supports only TFRecord files; --dataset={name} has another format. "
            "Set --storage=memory."
        )


def _read(builder: tfds.core.DatasetBuilder, split: str, size: int, skip: bool, fit: str) -> Split:
    """Reads a whole split into memory, in the fixed order of its files."""
    count = builder.info.splits[split].num_examples
    check_memory(count, size, f"{builder.name}'s {split} split")
    images = np.zeros((count, size, size, 3), np.uint8)
    labels = np.zeros(count, np.int32)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    # Images of one shape are not photographs. tensorflow-datasets decodes them quickly.
    fixed = None not in builder.info.features["image"].shape
    raw = None if fixed else {"image": tfds.decode.SkipDecoding()}
    rows = builder.as_dataset(split=split, shuffle_files=False, read_config=config, decoders=raw)

    def to_row(example: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = example["image"]
        image = three_channels(image) if fixed else decode_tensor(image)
        return resize(image, size, fit), tf.cast(example["label"], tf.int32)

    done, classes = 0, builder.info.features["label"].num_classes
    try:
        for chunk, values in rows.map(to_row, tf.data.AUTOTUNE).batch(1024).as_numpy_iterator():
            images[done : done + len(chunk)], labels[done : done + len(chunk)] = chunk, values
            done += len(chunk)
    except (tf.errors.OpError, ValueError):
        done = -1
    if done == count and (labels >= 0).all() and (labels < classes).all():
        return Split(images, labels)
    return _read_one_by_one(builder, split, size, skip, fit)


def _read_one_by_one(
    builder: tfds.core.DatasetBuilder, split: str, size: int, skip: bool, fit: str
) -> Split:
    """Reads a split with bad examples one by one, to find them."""
    info, features = builder.info.splits[split], builder.info.features
    bad = BadImages(f"{builder.name} in {builder.data_path}, {split}", skip)
    images, labels = [], []
    for path, expected in zip(info.filepaths, info.shard_lengths):
        records = iter(tf.data.TFRecordDataset(str(path)))
        for index in range(expected):
            name = f"{path.name}, example {index}"
            try:
                record = next(records)
            except (StopIteration, tf.errors.OpError):
                for lost in range(index, expected):
                    bad.add(f"{path.name}, example {lost}", "the file is damaged from here on")
                break
            try:
                raw = {"image": tfds.decode.SkipDecoding()}
                example = features.deserialize_example(record, decoders=raw)
                label = int(example["label"])
                if not 0 <= label < features["label"].num_classes:
                    raise ValueError(f"label {label}")
                images.append(resize(decode(example["image"].numpy()).pixels, size, fit).numpy())
                labels.append(label)
            except (tf.errors.OpError, ValueError) as error:
                bad.add(name, error)
    bad.report(info.num_examples)
    return Split(np.stack(images), np.array(labels, np.int32))
