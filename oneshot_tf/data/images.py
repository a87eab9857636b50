"""Encoded images become pixels: the decoder, resizing, and what is said of images that are bad."""

import dataclasses
import functools
import re

import numpy as np
import tensorflow as tf

from oneshot_tf.data import headers, jpeg_png, other_formats
from oneshot_tf.data.pixels import CONVERSIONS, BadImage
from oneshot_tf.errors import InputError, plain

# Lower-case suffixes of files that are looked at; what a file is, its first bytes say.
SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

_PLAIN = {
    headers.PLAIN_JPEG: functools.partial(tf.io.decode_jpeg, channels=3),
    headers.PLAIN_PNG: functools.partial(tf.io.decode_png, channels=3),
}


@dataclasses.dataclass(frozen=True)
class Decoded:
    """An image as training, `predict` and an exported model see it.

    Args:
        pixels: uint8 `[h, w, 3]`.
        conversions: what was converted, of `pixels.CONVERSIONS`, in their order.
    """

    pixels: np.ndarray
    conversions: tuple[str, ...]


def decode(encoded: bytes) -> Decoded:
    """Decodes a JPEG, PNG, BMP, GIF, WebP or TIFF file, whatever its name says.

    EXIF orientation is applied, transparency is put on white, grey is repeated, and 16 bits
    are scaled to 8. Where no value of 16 bits is above 4,095 they are taken for 12 bits.
    Of several frames or pages the first one counts.

    Raises:
        BadImage: it can't be decoded, or has more than `pixels.MAX_PIXELS` pixels.
    """
    if not encoded:
        raise BadImage("it is empty")
    kind, conversions = headers.look(encoded)
    try:
        if kind == headers.OTHER:
            return Decoded(*other_formats.decode(encoded))
        if kind in _PLAIN:
            return Decoded(_PLAIN[kind](encoded).numpy(), conversions)
        pixels, made = jpeg_png.decode(tf.constant(encoded))
    except tf.errors.OpError as error:
        raise BadImage(_reason(error)) from None
    names = tuple(name for name, yes in zip(CONVERSIONS, made.numpy()) if yes)
    return Decoded(pixels.numpy(), names)


def kind_of_tensor(encoded):
    """What `headers.look` says of a file, one of its constants: int32 `[]`."""
    kind = tf.numpy_function(
        lambda file: np.int32(headers.look(file)[0]), [encoded], tf.int32, stateful=False
    )
    return tf.ensure_shape(kind, [])


def decode_tensor(encoded, kind=None):
    """The pixels that `decode` gives, for TensorFlow's input pipelines: uint8 `[h, w, 3]`.

    Args:
        encoded: string `[]`.
        kind: its `kind_of_tensor`, where it is known.
    """
    branches = {
        **{kind: functools.partial(kernel, encoded) for kind, kernel in _PLAIN.items()},
        headers.JPEG_OR_PNG: lambda: jpeg_png.decode(encoded)[0],
        headers.OTHER: lambda: tf.numpy_function(_other, [encoded], tf.uint8, stateful=False),
    }
    kind = kind_of_tensor(encoded) if kind is None else kind
    return tf.ensure_shape(tf.switch_case(kind, branches), [None, None, 3])


def _other(encoded):
    return other_formats.decode(encoded)[0]


def _reason(error):
    """What TensorFlow says of a file, without what it says of its own graph."""
    text = str(error)
    found = re.search(r"assertion failed: \[(.*?)\]", text) or re.search(
        r"^(.*?)\s*\[\[\{\{node", text, re.MULTILINE
    )
    return plain(found[1] if found and found[1] else text)


class BadImages:
    """Collects what can't be used of a set of images.

    Args:
        name: of the set, for messages.
        skip: whether to leave them out; otherwise `report` raises.
    """

    def __init__(self, name: str, skip: bool):
        self.name, self.skip, self.found = name, skip, []

    def add(self, image: str, error: Exception | str) -> None:
        """One that can't be used."""
        self.found.append(f"{image} ({plain(error)})")

    def report(self, total: int) -> None:
        """Says how many of `total`, and which.

        Raises:
            InputError: there are some, and they aren't to be skipped, or none is left.
        """
        count = len(self.found)
        if not count:
            return
        more = f" and {count - 3:,} more" if count > 3 else ""
        what = (
            f"{self.name}: {count:,} of {total:,} images can't be used: "
            f"{', '.join(self.found[:3])}{more}"
        )
        if not self.skip:
            raise InputError(
                f"{what}. Repair or remove them, or leave them out: --skip_bad_images."
            )
        if count == total:
            raise InputError(f"{what}. None is left.")
        print(f"{what}. They are left out.", flush=True)


def resize(images, size: int, fit: str = "stretch"):
    """uint8 `[…, size, size, 3]` from uint8 images of any height and width.

    Args:
        images: `[h, w, 3]` or `[N, h, w, 3]`.
        size: height and width.
        fit: "stretch" the whole image, or of it the square in the middle: "center", whose side
            is 7/8 of the shorter one. Images of that size are left as they are.
    """
    shape = tf.shape(images)[-3:-1]
    fits = tf.reduce_all(tf.equal(shape, size))
    resized = tf.cond(fits, lambda: images, lambda: _resized(images, shape, size, fit))
    return tf.ensure_shape(resized, [*images.shape[:-3], size, size, 3])


def _resized(images, shape, size, fit):
    if fit == "center":
        side = tf.maximum(tf.reduce_min(shape) * 7 // 8, 1)
        top, left = tf.unstack((shape - side) // 2)
        images = images[..., top : top + side, left : left + side, :]
    resized = tf.image.resize(images, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
