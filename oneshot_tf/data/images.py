"""Encoded images become pixels: the decoder, resizing, and what is said of images that are bad."""

import dataclasses

import numpy as np
import tensorflow as tf

from oneshot_tf.errors import InputError, plain

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif"})


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels, uint8 `[h, w, 3]`, and what was converted to get them."""

    pixels: np.ndarray
    conversions: tuple[str, ...] = ()


def decode(encoded: bytes) -> Decoded:
    """uint8 `[h, w, 3]` from a JPEG, PNG, GIF (its first frame) or BMP file.

    Gray is repeated, transparency is dropped.

    Raises:
        tf.errors.OpError, ValueError: it isn't one.
    """
    try:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.OpError:  # a BMP of another number of channels
        image = tf.io.decode_image(encoded, expand_animations=False)
        image = image[..., :3] if image.shape[-1] > 2 else tf.image.grayscale_to_rgb(image[..., :1])
    return Decoded(image.numpy())


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
