"""Decodes and resizes images, and reports images that cannot be used."""

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

# Lower-case suffixes of image files. The first bytes of a file decide its format.
SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

_UPRIGHT_JPEG, _UPRIGHT_PNG, _UNUSUAL = range(3)
_BAND = 256  # rows to convert at once


@dataclasses.dataclass(frozen=True)
class Decoded:
    """An image as training, `predict` and an exported model see it.

    Args:
        pixels: Uint8 `[h, w, 3]`.
        conversions: Entries of `pixels.CONVERSIONS` that were applied, in the same order.
    """

    pixels: np.ndarray
    conversions: tuple[str, ...]


def decode(encoded: bytes) -> Decoded:
    """Decodes a JPEG, PNG, BMP, GIF, WebP or TIFF file, whatever its name.

    The decoder applies the EXIF orientation, blends transparent pixels with white, repeats grey
    for three channels and scales 16 bits to 8. If no 16-bit value exceeds 4,095, the values
    count as 12 bits. If a file has several frames or pages, the decoder reads the first one.

    Raises:
        BadImage: If the file cannot be decoded or has more than `pixels.MAX_PIXELS` pixels.
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


def _jpeg(encoded: bytes, header: headers.Header) -> np.ndarray:
    if not header.sized and np.prod(tf.io.extract_jpeg_shape(encoded)[:2], dtype=int) > MAX_PIXELS:
        raise BadImage(TOO_LARGE)
    return tf.io.decode_jpeg(encoded, channels=3).numpy()


def _deep_or_transparent(encoded: bytes, header: headers.Header, made: set[str]) -> np.ndarray:
    """Decodes a PNG with 16 bits per channel or transparency; adds the conversions to `made`."""
    kind = tf.uint16 if header.deep else tf.uint8
    encoded_pixels = tf.io.decode_png(encoded, channels=4, dtype=kind).numpy()
    twelve = header.deep and encoded_pixels[..., :3].max() <= 4095
    most = 4095 if twelve else 65535
    if header.deep:
        made.add(TWELVE_BITS if twelve else SIXTEEN_BITS)
    pixels = np.empty((*encoded_pixels.shape[:2], 3), np.uint8)
    for first in range(0, len(pixels), _BAND):  # the whole image at once could take gigabytes
        band = encoded_pixels[first : first + _BAND]
        colours, alpha = _in_eight_bits(band[..., :3], most), _in_eight_bits(band[..., 3:], 65535)
        if header.alpha and (alpha < 255).any():
            made.add(TRANSPARENCY)
            colours = on_white(colours, alpha)
        pixels[first : first + _BAND] = colours
    return pixels


def _in_eight_bits(values: np.ndarray, most: int) -> np.ndarray:
    """Scales uint16 values, 0 to `most`, to 0 to 255; keeps uint8 values. Returns uint16."""
    if values.dtype == np.uint16:
        values = eight_bits(values.astype(np.int32), most)
    return values.astype(np.uint16)


def decode_tensor(encoded: tf.Tensor, case: tf.Tensor | None = None) -> tf.Tensor:
    """Decodes an image to the same pixels as `decode`, in a TensorFlow input pipeline.

    Most files need only a TensorFlow kernel. Calling Python for them would copy the pixels.

    Args:
        encoded: String `[]`.
        case: The result of `case_of` for the same image, if it is known.

    Returns:
        Uint8 `[h, w, 3]`.
    """
    kernels = [
        lambda: tf.io.decode_jpeg(encoded, channels=3),
        lambda: tf.io.decode_png(encoded, channels=3),
        lambda: tf.numpy_function(_pixels, [encoded], tf.uint8, stateful=False),
    ]
    pixels = tf.switch_case(case_of(encoded) if case is None else case, kernels)
    return tf.ensure_shape(pixels, [None, None, 3])


def case_of(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a number for the way to decode an image, for `decode_tensor`: int32 `[]`."""
    return tf.ensure_shape(tf.numpy_function(_case, [encoded], tf.int32, stateful=False), [])


def _pixels(encoded: bytes | np.ndarray) -> np.ndarray:
    return decode(_bytes(encoded)).pixels


def _bytes(encoded: bytes | np.ndarray) -> bytes:
    """Unwraps an argument of a `tf.numpy_function`: bytes in a graph, an array otherwise."""
    return encoded if isinstance(encoded, bytes) else encoded.item()


def _case(encoded: bytes | np.ndarray) -> np.int32:
    header = headers.read_header(_bytes(encoded))
    if header.orientation > 1 or not header.sized:
        return np.int32(_UNUSUAL)
    cases = {headers.JPEG_KIND: _UPRIGHT_JPEG, headers.OPAQUE_PNG: _UPRIGHT_PNG}
    return np.int32(cases.get(header.kind, _UNUSUAL))


def is_upright_jpeg(case: tf.Tensor) -> tf.Tensor:
    """Returns whether a result of `case_of` means a JPEG that is upright: bool `[]`."""
    return case == _UPRIGHT_JPEG


class BadImages:
    """Collects the images of a data set that cannot be used.

    Args:
        name: Name of the data set, for messages.
        skip: Whether to leave bad images out. If false, `report` raises an error.
    """

    def __init__(self, name: str, skip: bool) -> None:
        self.name, self.skip = name, skip
        self.found: list[str] = []

    def add(self, image: str, error: Exception | str) -> None:
        """Adds an image that cannot be used, with the reason."""
        self.found.append(f"{image} ({plain(error)})")

    def report(self, total: int) -> None:
        """Prints or raises how many of `total` images are bad, and which.

        Raises:
            InputError: If there are bad images and `skip` is false, or if all images are bad.
        """
        count = len(self.found)
        if not count:
            return
        more = f" and {count - 3:,} more" if count > 3 else ""
        what = (
            f"{self.name}: {count:,} of {total:,} images cannot be used: "
            f"{', '.join(self.found[:3])}{more}"
        )
        if not self.skip:
            raise InputError(
                f"{what}. Repair or remove them, or set --skip_bad_images to leave them out."
            )
        if count == total:
            raise InputError(f"{what}. No image is left. Repair or replace them.")
        print(f"{what}. They are left out.", flush=True)


def three_channels(images: tf.Tensor | np.ndarray) -> tf.Tensor:
    """Converts images that another program decoded to the pixels that `decode` would return.

    Args:
        images: Uint8 or uint16 `[…, h, w, c]`, c = 1 (grey), 3 or 4 (with opacity).

    Returns:
        Uint8 `[…, h, w, 3]`. Grey is repeated, and transparent pixels are blended with white.

    Raises:
        tf.errors.InvalidArgumentError: If c is another number.
    """
    if images.dtype == tf.uint16:
        images = tf.cast(images, tf.int32)
        most = tf.where(tf.reduce_max(images[..., :3]) <= 4095, 4095, 65535)
        colours, alpha = eight_bits(images[..., :3], most), eight_bits(images[..., 3:], 65535)
        images = tf.cast(tf.concat([colours, alpha], axis=-1), tf.uint8)
    channels = tf.shape(images)[-1]
    good = tf.reduce_any(channels == tf.constant([1, 3, 4]))
    check = tf.debugging.Assert(good, ["images must have 1, 3 or 4 channels; got", channels])
    with tf.control_dependencies([check] if check is not None else []):
        images = tf.cond(
            channels == 4,
            lambda: with_alpha_on_white(images),
            lambda: tf.broadcast_to(
                images[..., :3], tf.concat([tf.shape(images)[:-1], [3]], axis=0)
            ),
        )
    return tf.ensure_shape(images, [*images.shape[:-1], 3])


def resize(images: tf.Tensor | np.ndarray, size: int, fit: str = "stretch") -> tf.Tensor:
    """Resizes images of any height and width to squares.

    Args:
        images: Uint8 `[h, w, 3]` or `[N, h, w, 3]`.
        size: Height and width of the result in pixels.
        fit: "stretch" resizes the whole image. "center" first crops the square in the middle.
            Its side is 7/8 of the shorter side of the image, whatever `size` is.

    Returns:
        Uint8 `[size, size, 3]` or `[N, size, size, 3]`.
    """
    if fit == "center":
        shape = tf.shape(images)[-3:-1]
        side = tf.maximum(tf.reduce_min(shape) * 7 // 8, 1)
        top, left = tf.unstack((shape - side) // 2)
        images = images[..., top : top + side, left : left + side, :]
    fits = tf.reduce_all(tf.equal(tf.shape(images)[-3:-1], size))  # then resizing changes nothing
    resized = tf.cond(fits, lambda: images, lambda: _resized(images, size))
    return tf.ensure_shape(resized, [*images.shape[:-3], size, size, 3])


def _resized(images: tf.Tensor | np.ndarray, size: int) -> tf.Tensor:
    resized = tf.image.resize(images, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
