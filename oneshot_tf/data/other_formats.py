"""BMP, GIF, WebP and TIFF become pixels by Pillow.

Which format a file has, its first bytes say: names are often wrong, and TensorFlow's
decoder of animated WebP writes past its memory. Pillow's classes of the four formats are
called directly, so that none of its other decoders ever sees a file.
"""

import contextlib
import io

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, TiffImagePlugin, WebPImagePlugin

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
    """Pixels, uint8 `[h, w, 3]`, and which of `pixels.CONVERSIONS` were made.

    Raises:
        BadImage: it is damaged, too large or none of the four formats.
    """
    kind = _kind(encoded)
    if kind is None:
        raise BadImage("its content is not of a format that can be decoded")
    try:
        with kind(io.BytesIO(encoded)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(TOO_LARGE)
            return _decode(image)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise BadImage(plain(error)) from None


def _kind(encoded):
    """Pillow's class for a file; None if there is none."""
    if encoded[:2] == b"BM":
        return BmpImagePlugin.BmpImageFile
    if encoded[:6] in (b"GIF87a", b"GIF89a"):
        return GifImagePlugin.GifImageFile
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if encoded[:4] in (b"II*\0", b"MM\0*"):
        return TiffImagePlugin.TiffImageFile
    return None


def _decode(image):
    made = set()
    if getattr(image, "is_animated", False):  # TIFF: of several pages
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
    # Some versions of Pillow turn a TIFF when they load it.
    pixels = upright(pixels, _orientation(image))
    return np.ascontiguousarray(pixels), tuple(name for name in CONVERSIONS if name in made)


def _orientation(image):
    with contextlib.suppress(Exception):  # damaged EXIF doesn't make a picture bad
        value = image.getexif().get(ORIENTATION_TAG, 1)
        return value if value in range(1, 9) else 1
    return 1


def _sixteen_bits(image, made):
    values = np.array(image).astype(np.int32)
    most = 4095 if values.max() <= 4095 else 65535
    made |= {TWELVE_BITS if most == 4095 else SIXTEEN_BITS, GREY}
    return np.repeat(eight_bits(values, most).astype(np.uint8)[..., None], 3, axis=-1)


def _eight_bits(image, made):
    if image.mode in ("I", "F"):
        raise BadImage("its values have 32 bits, and nothing says which is white; save it with 8")
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
    if deep:  # of colours Pillow keeps the upper 8 bits only
        made.add(SIXTEEN_BITS)
        if pixels.max() <= 15:
            raise BadImage("it has 12 bits in 16 a colour, which TIFF can't say; save it as PNG")
    return pixels
