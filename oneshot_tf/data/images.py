"""Encoded images become pixels: the decoder, resizing, and what is said of images that are bad."""

import dataclasses

import numpy as np
import tensorflow as tf

from oneshot_tf.data import headers, other_formats
from oneshot_tf.data.graph_decoder import with_alpha_on_white
from oneshot_tf.data.pixels import (
    CONVERSIONS,
    MAX_PIXELS,
    SIXTEEN_BITS,
    TOO_LARGE,
    TRANSPARENCY,
    TWELVE_BITS,
    BadImage,
    eight_bits,
    on_white,
    upright,
)
from oneshot_tf.system.errors import InputError, plain

# Lower-case suffixes of files that are looked at; what a file is, its first bytes say.
SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

_UPRIGHT_JPEG, _UPRIGHT_PNG, _UNUSUAL = range(3)
_BAND = 256  # rows that are converted at once


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
    header = headers.read_header(encoded)
    if header.kind == headers.OTHER:
        return Decoded(*other_formats.decode(encoded))
    made = set(header.conversions)
    try:
        if header.kind == headers.JPEG_KIND:
            pixels = _jpeg(encoded, header)
        elif header.kind == headers.OPAQUE_PNG:
            pixels = tf.io.decode_png(encoded, channels=3).numpy()
        else:
            pixels = _deep_or_transparent(encoded, header, made)
    except tf.errors.OpError as error:
        raise BadImage(plain(error)) from None
    pixels = np.ascontiguousarray(upright(pixels, header.orientation))
    return Decoded(pixels, tuple(name for name in CONVERSIONS if name in made))


def _jpeg(encoded, header):
    if not header.sized and np.prod(tf.io.extract_jpeg_shape(encoded)[:2], dtype=int) > MAX_PIXELS:
        raise BadImage(TOO_LARGE)
    return tf.io.decode_jpeg(encoded, channels=3).numpy()


def _deep_or_transparent(encoded, header, made):
    """Pixels of a PNG with 16 bits a colour, or transparency."""
    kind = tf.uint16 if header.deep else tf.uint8
    encoded_pixels = tf.io.decode_png(encoded, channels=4, dtype=kind).numpy()
    twelve = header.deep and encoded_pixels[..., :3].max() <= 4095
    most = 4095 if twelve else 65535
    if header.deep:
        made.add(TWELVE_BITS if twelve else SIXTEEN_BITS)
    pixels = np.empty((*encoded_pixels.shape[:2], 3), np.uint8)
    for first in range(0, len(pixels), _BAND):  # whole, they would take gigabytes
        band = encoded_pixels[first : first + _BAND]
        colours, alpha = _in_eight_bits(band[..., :3], most), _in_eight_bits(band[..., 3:], 65535)
        if header.alpha and (alpha < 255).any():
            made.add(TRANSPARENCY)
            colours = on_white(colours, alpha)
        pixels[first : first + _BAND] = colours
    return pixels


def _in_eight_bits(values, most):
    """uint16, 0 to 255, of uint8, or of uint16 up to `most`."""
    if values.dtype == np.uint16:
        values = eight_bits(values.astype(np.int32), most)
    return values.astype(np.uint16)


def decode_tensor(encoded, case=None):
    """The pixels that `decode` gives, for TensorFlow's input pipelines: uint8 `[h, w, 3]`.

    Most files need nothing but their kernel; what it makes isn't copied, as by way of Python.

    Args:
        encoded: string `[]`.
        case: its `case_of`, where it is known.
    """
    kernels = [
        lambda: tf.io.decode_jpeg(encoded, channels=3),
        lambda: tf.io.decode_png(encoded, channels=3),
        lambda: tf.numpy_function(_pixels, [encoded], tf.uint8, stateful=False),
    ]
    pixels = tf.switch_case(case_of(encoded) if case is None else case, kernels)
    return tf.ensure_shape(pixels, [None, None, 3])


def case_of(encoded):
    """Which kernel makes an encoded image's pixels: int32 `[]`."""
    return tf.ensure_shape(tf.numpy_function(_case, [encoded], tf.int32, stateful=False), [])


def _pixels(encoded):
    return decode(_bytes(encoded)).pixels


def _bytes(encoded):
    """What TensorFlow hands to Python: bytes from a graph, an array of them otherwise."""
    return encoded if isinstance(encoded, bytes) else encoded.item()


def _case(encoded):
    header = headers.read_header(_bytes(encoded))
    if header.orientation > 1 or not header.sized:
        return np.int32(_UNUSUAL)
    upright = {headers.JPEG_KIND: _UPRIGHT_JPEG, headers.OPAQUE_PNG: _UPRIGHT_PNG}
    return np.int32(upright.get(header.kind, _UNUSUAL))


def is_upright_jpeg(case):
    """Whether a JPEG need not be turned: bool `[]` from what `case_of` says."""
    return case == _UPRIGHT_JPEG


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


def three_channels(images):
    """Pixels as `decode` gives them, of images that somebody else decoded.

    Args:
        images: uint8 or uint16 `[…, h, w, c]`, c = 1 (grey), 3 or 4 (with opacity).

    Returns:
        uint8 `[…, h, w, 3]`: grey is repeated, opacity is put on white.

    Raises:
        tf.errors.InvalidArgumentError: another number of channels.
    """
    if images.dtype == tf.uint16:
        images = tf.cast(images, tf.int32)
        most = tf.where(tf.reduce_max(images[..., :3]) <= 4095, 4095, 65535)
        colours, alpha = eight_bits(images[..., :3], most), eight_bits(images[..., 3:], 65535)
        images = tf.cast(tf.concat([colours, alpha], axis=-1), tf.uint8)
    channels = tf.shape(images)[-1]
    good = tf.reduce_any(channels == tf.constant([1, 3, 4]))
    check = tf.debugging.Assert(good, ["images need 1, 3 or 4 channels; their number is", channels])
    with tf.control_dependencies([check] if check is not None else []):
        images = tf.cond(
            channels == 4,
            lambda: with_alpha_on_white(images),
            lambda: tf.broadcast_to(
                images[..., :3], tf.concat([tf.shape(images)[:-1], [3]], axis=0)
            ),
        )
    return tf.ensure_shape(images, [*images.shape[:-1], 3])


def resize(images, size: int, fit: str = "stretch"):
    """uint8 `[…, size, size, 3]` from uint8 images of any height and width.

    Args:
        images: `[h, w, 3]` or `[N, h, w, 3]`.
        size: height and width.
        fit: "stretch" the whole image, or of it the square in the middle: "center", whose side
            is 7/8 of the shorter one, whatever the size.
    """
    if fit == "center":
        shape = tf.shape(images)[-3:-1]
        side = tf.maximum(tf.reduce_min(shape) * 7 // 8, 1)
        top, left = tf.unstack((shape - side) // 2)
        images = images[..., top : top + side, left : left + side, :]
    fits = tf.reduce_all(tf.equal(tf.shape(images)[-3:-1], size))  # then there is nothing to do
    resized = tf.cond(fits, lambda: images, lambda: _resized(images, size))
    return tf.ensure_shape(resized, [*images.shape[:-3], size, size, 3])


def _resized(images, size):
    resized = tf.image.resize(images, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
