"""A folder of image files, one sub-folder a class: which files are images of which split."""

import numpy as np
import tensorflow as tf

from oneshot_tf.data.dataset import Split, check_memory
from oneshot_tf.data.images import SUFFIXES, BadImages, decode, resize
from oneshot_tf.data.streaming import FileReader, StreamedSplit
from oneshot_tf.errors import InputError
from oneshot_tf.files import user_path


def load(path, size, skip, streamed, fit):
    """A folder with one sub-folder a class, or two such folders, `train` and `test`."""
    root = user_path(path)
    if not root.is_dir():
        raise InputError(f"--dataset=folder:{path}: there is no folder {root}.")

    def read(name, files, labels):
        if not streamed:
            return _read_images(name, files, labels, names, size, skip, fit)
        split = StreamedSplit(FileReader(files, labels), np.arange(len(files)), size, fit)
        if not skip:
            return split
        kept = split.without_bad()
        _check_classes(name, labels, kept.labels, names)
        return kept

    if (root / "train").is_dir() and (root / "test").is_dir():
        files, labels, names = _list_folder(root / "train")
        full = read(root, files, labels)
        test_files, test_labels, others = _list_folder(root / "test")
        if others != names:
            raise InputError(
                f"{root / 'test'} has the classes {', '.join(others)}; needed are those of "
                f"{root / 'train'}: {', '.join(names)}."
            )
    else:
        files, labels, names = _list_folder(root)
        order = np.random.default_rng(1).permutation(len(files))
        held = max(1, len(files) // 6)
        files, labels = [files[i] for i in order], labels[order]
        test_files, test_labels = files[:held], labels[:held]
        full = read(root, files[held:], labels[held:])

    def load_test():
        return read(root / "test images", test_files, test_labels)

    if not streamed:
        load_test()  # found broken now, not after the training
    return full, load_test, names


def _list_folder(root):
    """Image files, int32 labels and class names of a folder with one sub-folder a class."""
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise InputError(
            f"{root} has {len(classes)} sub-folder(s); needed is one with images for each of two "
            "or more classes."
        )
    files, labels = [], []
    for label, folder in enumerate(classes):
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(
                f"The class folder {folder} holds no image ({', '.join(sorted(SUFFIXES))}); "
                "add some or remove it."
            )
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, np.int32), tuple(p.name for p in classes)


def _read_images(name, files, labels, class_names, size, skip, fit):
    """Decodes and resizes files; all of them are tried before an error is raised."""
    check_memory(len(files), size, str(name))
    images, kept = np.zeros((len(files), size, size, 3), np.uint8), np.ones(len(files), bool)
    bad = BadImages(str(name), skip)
    for i, file in enumerate(files):
        try:
            images[i] = resize(decode(file.read_bytes()).pixels, size, fit)
        except (tf.errors.OpError, OSError, ValueError) as error:
            kept[i] = False
            bad.add(str(file), error)
    bad.report(len(files))
    _check_classes(name, labels, labels[kept], class_names)
    return Split(images[kept], labels[kept])


def _check_classes(name, labels, kept, class_names):
    lost = np.setdiff1d(labels, kept)
    if lost.size:
        raise InputError(
            f"{name}: of class {class_names[lost[0]]} no image is left; remove it or add some."
        )
