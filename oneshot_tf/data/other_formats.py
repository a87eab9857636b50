"""Decodes BMP, GIF, WebP and TIFF files with Pillow.

The first bytes of a file decide its format, because file names are often wrong. TensorFlow's
decoder is not used here, because it writes past its memory for animated WebP files. The module
calls Pillow's classes of the four formats directly, so no other Pillow decoder sees a file.
"""

import contextlib
import io
from collections.abc import Callable

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, TiffImagePlugin, WebPImagePlugin

from oneshot_tf.data.headers import ORIENTATION_TAG
from oneshot_tf.data.pixels import (
    CMYK,
    CONVERSIONS,
    FRAMES,
    GREY,
    MAX_PIXELS,
    ORIENTATION,
    PALETTE,
    SIXTEEN_BITS,
    TOO_LARGE,
    TRANSPARENCY,
    TWELVE_BITS,
    BadImage,
    eight_bits,
    on_white,
    upright,
)
from oneshot_tf.system.errors import plain

_BITS_TAG = 258


def decode(encoded: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes a file of one of the four formats.

    Returns:
        The pixels, uint8 `[h, w, 3]`, and the entries of `pixels.CONVERSIONS` that were applied.

    Raises:
        BadImage: If the file is damaged, too large or of another format.
    """
    kind = _kind(encoded)
    if kind is None:
        raise BadImage("its content is not in a supported image format")
    try:
        with kind(io.BytesIO(encoded)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(TOO_LARGE)
            return _decode(image)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise BadImage(plain(error)) from None


def _kind(encoded: bytes) -> Callable[[io.BytesIO], Image.Image] | None:
    """Returns Pillow's class for a file, or None for another format."""
    if encoded[:2] == b"BM":
        return BmpImagePlugin.BmpImageFile
    if encoded[:6] in (b"GIF87a", b"GIF89a"):
        return GifImagePlugin.GifImageFile
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if encoded[:4] in (b"II*\0", b"MM\0*"):
        return TiffImagePlugin.TiffImageFile
    return None


def _decode(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    made: set[str] = set()
    if getattr(image, "is_animated", False):  # also true for a TIFF of several pages
        made.add(FRAMES)
        image.seek(0)
    turned = _orientation(image)
    image.load()
    if turned > 1:
        made.add(ORIENTATION)
    if image.mode.startswith("I;16"):
        pixels = _sixteen_bits(image, made)
    else:
        pixels = _eight_bits(image, made)
    # Some versions of Pillow turn a TIFF when they load it, so the orientation is read again.
    pixels = upright(pixels, _orientation(image))
    return np.ascontiguousarray(pixels), tuple(name for name in CONVERSIONS if name in made)


def _orientation(image: Image.Image) -> int:
    with contextlib.suppress(Exception):  # an image with damaged EXIF is still usable
        value = image.getexif().get(ORIENTATION_TAG, 1)
        return value if value in range(1, 9) else 1
    return 1


def _sixteen_bits(image: Image.Image, made: set[str]) -> np.ndarray:
    """Scales a grey image to 8 bits, uint8 `[h, w, 3]`; adds the conversions to `made`."""
    values = np.array(image).astype(np.int32)
    most = 4095 if values.max() <= 4095 else 65535
    made |= {TWELVE_BITS if most == 4095 else SIXTEEN_BITS, GREY}
    return np.repeat(eight_bits(values, most).astype(np.uint8)[..., None], 3, axis=-1)


def _eight_bits(image: Image.Image, made: set[str]) -> np.ndarray:
    """Converts an image to RGB, uint8 `[h, w, 3]`; adds the conversions to `made`."""
    if image.mode in ("I", "F"):
        raise BadImage("it has 32 bits per value, and its white level is unknown; save it with 8")
    if image.mode in ("P", "PA"):
        made.add(PALETTE)
    if image.mode in ("1", "L", "LA", "La"):
        made.add(GREY)
    if image.mode == "CMYK":
        made.add(CMYK)
    deep = isinstance(image, TiffImagePlugin.TiffImageFile) and 16 in image.tag_v2.get(
        _BITS_TAG, ()
    )
    if image.has_transparency_data:
        rgba = np.array(image.convert("RGBA")).astype(np.uint16)
        colours, alpha = rgba[..., :3], rgba[..., 3:]
        if (alpha < 255).any():
            made.add(TRANSPARENCY)
        pixels = on_white(colours, alpha).astype(np.uint8)
    else:
        pixels = np.array(image.convert("RGB"))
    if deep:  # Pillow keeps the upper 8 of 16 bits per channel
        made.add(SIXTEEN_BITS)
        if pixels.max() <= 15:
            raise BadImage(
                "it stores 12 bits per channel in 16, which TIFF cannot indicate; save it as PNG"
            )
    return pixels
