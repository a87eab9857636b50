"""Image classification sets of tensorflow-datasets."""

import contextlib
import os
import re

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from oneshot_tf.data import checksums, dataset, prepared
from oneshot_tf.data.images import BadImages, decode, decode_tensor, resize, three_channels
from oneshot_tf.data.streaming import RecordReader, StreamedSplit
from oneshot_tf.system.errors import InputError

_RECORDS = ".tfrecord"


def load(
    name: str, data_dir: str, image_size: int, download: bool, skip: bool, streamed: bool, fit: str
):
    """Training images, functions that read the test images and their fingerprint, class names.

    Raises:
        InputError: unknown, not prepared and not to be had, or not image classification.
    """
    builder = _prepared(name, os.path.expanduser(data_dir) or None, download)
    features = dict(builder.info.features.items())
    label, image = features.get("label"), features.get("image")
    _check_kind(name, features)
    splits = builder.info.splits
    if "train" not in splits:
        raise InputError(
            f"--dataset={name} has the splits {', '.join(splits)}; it must have 'train'."
        )
    size = image_size or (image.shape[0] if image.shape and image.shape[0] else 32)
    test = next((s for s in ("test", "validation") if _has_labels(builder, s)), None)
    for split in filter(None, ("train", test)):
        _check_files(builder, split, skip)

    def read(split):
        if not streamed:
            return _read(builder, split, size, skip, fit)
        paths = [str(path) for path in builder.info.splits[split].filepaths]
        reader = RecordReader(paths, label.num_classes, skip)
        found = StreamedSplit(reader, np.arange(len(reader)), size, fit)
        return found.without_bad() if skip else found

    if streamed and not all(
        path.suffix.startswith(_RECORDS)
        for split in filter(None, ("train", test))
        for path in builder.info.splits[split].filepaths
    ):
        raise InputError(
            f"--dataset={name} is not stored as TFRecords; --storage=files reads no other format."
        )
    if test:
        paths = builder.info.splits[test].filepaths
        return read("train"), lambda: read(test), lambda: _fingerprint(paths), label.names
    # No test images of its own: every sixth training image.
    full = read("train")
    held = np.arange(len(full)) % 6 == 0
    test_images = full.take(held)
    return full.take(~held), lambda: test_images, test_images.fingerprint, label.names


def _fingerprint(paths) -> list[int]:
    """As `Split.fingerprint`, from the checksums that TFRecord files store of each record.

    Of files of another format, and of those that are not on a disk of this machine, names and
    sizes are taken.
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


def _check_kind(name, features):
    """Raises InputError unless a set has images and classes, and the images whole numbers."""
    label, image = features.get("label"), features.get("image")
    if not isinstance(label, tfds.features.ClassLabel) or not isinstance(
        image, tfds.features.Image
    ):
        raise prepared.wrong_kind(name, features)
    if image.np_dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"--dataset={name} has images of {np.dtype(image.np_dtype)}; this package takes those "
            "of uint8 or uint16."
        )


def _has_labels(builder, split) -> bool:
    """Whether there is such a split, and its labels aren't withheld, as those of some test sets."""
    if split not in builder.info.splits:
        return False
    with contextlib.suppress(tf.errors.OpError, StopIteration):  # what is wrong is found later
        first = next(iter(builder.as_dataset(split=split, shuffle_files=False).take(1)))
        return int(first["label"]) >= 0
    return True


def _prepared(name, data_dir, download):
    # Names with a namespace ("huggingface:…") would fetch and run somebody's code.
    if not re.fullmatch(r"\w+(/\w[\w.+-]*)?(:(\d+|\*)(\.(\d+|\*)){2})?", name, re.ASCII):
        raise InputError(
            f"--dataset={name} is not the name of a data set: give digits, folder:PATH, or a "
            "name that tensorflow-datasets lists, such as cifar10 or cifar10:3.0.2."
        )
    try:
        builder = _builder(name, data_dir)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tensorflow-datasets raises many kinds for damaged files
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"--dataset={name} is not a data set that can be used ({first}). Known are digits, "
            "folder:PATH, and the names that tensorflow-datasets lists, such as cifar10."
        ) from None
    if builder.data_path.exists():
        return builder
    place = f"in {builder.data_path.parent.parent}"
    if not download:
        raise InputError(
            f"--dataset={name} is not prepared {place}; give --download, or --data_dir with the "
            "folder that has it."
        )
    by_hand = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if by_hand:
        folder = builder.data_path.parent.parent / "downloads" / "manual"
        if not folder.exists() or not any(folder.iterdir()):
            raise InputError(
                f"--dataset={name} is not prepared {place}, and its files can't be fetched by a "
                f"program: put them into {folder}, then start again. {' '.join(by_hand.split())}"
            )
    else:
        _check_reachable(builder, name, place)
    try:
        builder.download_and_prepare()
    except Exception as error:  # tensorflow-datasets and its downloads raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"--dataset={name} is not prepared {place} and preparing it failed: {reason}"
        ) from None
    return builder


def _builder(name, data_dir):
    """The builder of a data set: of tensorflow-datasets' own code, or else of a prepared folder.

    As `tfds.builder`, but no prepared folder can name code, see `prepared`.
    """
    parsed, wanted = tfds.core.naming.parse_builder_name_kwargs(name)
    short_name, config = parsed.name, wanted.get("config", "")
    root = data_dir or tfds.core.constants.DATA_DIR
    unknown = code = None
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
    if code is None:
        raise unknown
    for place in ("*", "*/*"):  # code reads some of these; none may be a pipe, or endless
        for file in ("dataset_info.json", "*.labels.txt"):
            for path in (epath.Path(root).expanduser() / short_name).glob(f"{place}/{file}"):
                prepared.check_file(path)
    builder = code(data_dir=data_dir, **wanted)
    prepared.check_splits(builder, short_name)
    return builder


def _check_reachable(builder, name, place):
    """Asks the data set's host once: tensorflow-datasets itself retries for minutes."""
    urls = [url for url in getattr(builder, "url_infos", {}) if url.startswith("http")]
    if not urls:
        return
    try:
        requests.head(urls[0], timeout=15, allow_redirects=True)
    except requests.exceptions.RequestException as error:
        raise InputError(
            f"--dataset={name} is not prepared {place}, and its host can't be reached "
            f"({type(error).__name__} for {urls[0]}); give --data_dir with a folder that has it, "
            "or --dataset=digits, which needs no download."
        ) from None


def _check_files(builder, split, skip):
    """Raises InputError for a truncated file: now, not when the test images are read."""
    info = builder.info.splits[split]
    paths = [path for path in info.filepaths if path.suffix.startswith(_RECORDS)]
    # Each record is framed by its length and two checksums.
    expected = info.num_bytes + 16 * info.num_examples
    found = sum(path.stat().length for path in paths if path.exists())
    if paths and found < expected and not skip:
        raise InputError(
            f"{builder.name} in {builder.data_path}: the files of its {split} split have "
            f"{found:,} of {expected:,} bytes; prepare it anew, or use what is there: "
            "--skip_bad_images."
        )


def _read(builder, split, size, skip, fit):
    """A whole split, in the fixed order of its files."""
    count = builder.info.splits[split].num_examples
    dataset.check_memory(count, size, f"{builder.name}'s {split} split")
    images = np.zeros((count, size, size, 3), np.uint8)
    labels = np.zeros(count, np.int32)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    # Images of one shape tensorflow-datasets decodes, quickly: they aren't photographs.
    fixed = None not in builder.info.features["image"].shape
    raw = None if fixed else {"image": tfds.decode.SkipDecoding()}
    rows = builder.as_dataset(split=split, shuffle_files=False, read_config=config, decoders=raw)

    def to_row(example):
        image = example["image"]
        image = three_channels(image) if fixed else decode_tensor(image)
        return resize(image, size, fit), tf.cast(example["label"], tf.int32)

    done, classes = 0, builder.info.features["label"].num_classes
    try:
        for part, names in rows.map(to_row, tf.data.AUTOTUNE).batch(1024).as_numpy_iterator():
            images[done : done + len(part)], labels[done : done + len(part)] = part, names
            done += len(part)
    except (tf.errors.OpError, ValueError):
        done = -1
    if done == count and (labels >= 0).all() and (labels < classes).all():
        return dataset.Split(images, labels)
    return _read_one_by_one(builder, split, size, skip, fit)


def _read_one_by_one(builder, split, size, skip, fit):
    """A split of which something can't be used: finds out what."""
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
    return dataset.Split(np.stack(images), np.array(labels, np.int32))
