"""Looks at a data set before it is read: how many images it has, and how large they are."""

import dataclasses
from typing import Any

import numpy as np
import psutil
from PIL import Image

from oneshot_tf.data import digits
from oneshot_tf.data.listing import PassedOver, find_parts, list_classes
from oneshot_tf.data.sources import load_data
from oneshot_tf.settings import DataSettings
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path

_SAMPLE = 256  # files whose size is read
_MOST_VALIDATION = 10_000  # images; more would only make the search slower
_IN_MEMORY = 0.25  # share of the free memory that decoded images may take
_SIZES = (32, 64, 128, 224)  # for images that are larger than `_AS_THEY_ARE`
_AS_THEY_ARE, _SMALLEST = 40, 8


@dataclasses.dataclass(frozen=True)
class Found:
    """What a data set holds.

    Args:
        num_images: Number of images in all splits, about.
        side: The median of the shorter sides of the images, in pixels.
        has_validation: Whether the data set brings its own validation images.
    """

    num_images: int
    side: int
    has_validation: bool


def look(data: DataSettings) -> Found:
    """Counts the images of a data set and reads the sizes of a sample of them.

    Args:
        data: The data set. Of a folder, only names and some headers are read.

    Raises:
        InputError: The data set cannot be found or used.
    """
    kind, _, path = data.dataset.partition(":")
    if kind != "folder":
        dataset = load_data(**data.to_dict())
        num_images = len(dataset.train) + len(dataset.validation)
        return Found(num_images, dataset.image_size, has_validation=False)
    root = user_path(path)
    if not root.is_dir():
        raise InputError(f"--data={path} must be a folder of images; there is no folder {root}.")
    passed = PassedOver()
    parts = find_parts(root, passed)
    folders = {"train": parts.get("train", root), **{s: p for s, p in parts.items() if s}}
    files = [f for folder in folders.values() for f in list_classes(folder, passed).files]
    return Found(len(files), _median_side(files), "validation" in parts)


def _median_side(files: list[str]) -> int:
    places = np.linspace(0, len(files) - 1, min(_SAMPLE, len(files))).round().astype(int)
    sides = []
    for place in places:
        try:
            with Image.open(files[place]) as image:  # reads the header only
                sides.append(min(image.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # reading the data names the images that cannot be decoded
    return int(np.median(sides)) if sides else _SIZES[0]


def image_sizes(side: int) -> list[tuple[int, int]]:
    """Returns the image sizes to choose from, with their stem strides, the best one first.

    Small images keep their size. Of larger ones, no detail is invented.

    Args:
        side: The median of the shorter sides, in pixels.
    """
    if side <= _AS_THEY_ARE:
        return with_strides(max(_SMALLEST, side))
    sizes = (size for size in reversed(_SIZES) if size <= side)
    return [pair for size in sizes for pair in with_strides(size)]


def with_strides(image_size: int) -> list[tuple[int, int]]:
    """Returns an image size with the stem strides that suit it, the slowest first.

    The cells get 12 to 56 pixels, or all pixels of images that are smaller than that.
    """
    strides = [s for s in (1, 2, 4) if s == 1 or image_size // s >= 12]
    fast = [s for s in strides if image_size // s <= 56]
    return [(image_size, stride) for stride in (fast or strides[-1:])[:2]]


def data_for(data: DataSettings, found: Found, image_size: int) -> DataSettings:
    """Returns the settings with an image size, a place for the images, and validation images.

    Args:
        data: What the user asked for. Values that are not 0 stay.
        found: What `look` found.
        image_size: The image size, used if the user gave none.
    """
    size = data.image_size or image_size
    need = 3.0 * size * size * found.num_images
    large = need > _IN_MEMORY * psutil.virtual_memory().available
    on_disk = large and data.dataset not in digits.NAMES and not data.dataset.startswith("npz:")
    changes: dict[str, Any] = {"image_size": size}
    if on_disk:
        changes["storage"] = "files"
    many = found.num_images > 12 * _MOST_VALIDATION  # a tenth would be more than the most
    if many and not data.num_validation and not found.has_validation:
        changes["num_validation"] = _MOST_VALIDATION
    return dataclasses.replace(data, **changes)
