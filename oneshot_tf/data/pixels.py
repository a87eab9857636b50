"""Operations on decoded pixels that all decoders share, so that images look as viewers show them.

The arithmetic uses whole numbers. It is written once, for NumPy arrays and for tensors.
"""

import numpy as np
import tensorflow as tf

ORIENTATION, SIXTEEN_BITS, TWELVE_BITS, PALETTE, TRANSPARENCY, GREY, CMYK, FRAMES = CONVERSIONS = (
    "EXIF orientation applied",
    "16 bits scaled to 8",
    "12 bits scaled to 8",
    "palette",
    "transparency on white",
    "grey repeated",
    "CMYK",
    "first of several frames",
)
# Larger images are refused before they are decoded. 8192x8192 RGB pixels take 192 MiB.
MAX_PIXELS = 2**26
TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels"

# EXIF orientations by the operation that turns them upright. Transposing comes before mirroring.
TRANSPOSED = (5, 6, 7, 8)
LEFT_RIGHT = (2, 3, 6, 7)
UPSIDE_DOWN = (3, 4, 7, 8)


class BadImage(ValueError):
    """Raised for a file that cannot be decoded as an image. The message gives the reason."""


def on_white(
    colours: np.ndarray | tf.Tensor, alpha: np.ndarray | tf.Tensor
) -> np.ndarray | tf.Tensor:
    """Blends colours with a white background.

    Args:
        colours: Uint16 `[…, 3]`, 0 to 255.
        alpha: Uint16 `[…, 1]`, 0 (transparent) to 255 (opaque).

    Returns:
        Uint16 `[…, 3]`, 0 to 255, rounded.
    """
    return (colours * alpha + 255 * (255 - alpha) + 127) // 255


def eight_bits(values: np.ndarray | tf.Tensor, most: int | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Scales values to 8 bits.

    Args:
        values: Int32, 0 to `most`.
        most: The value that becomes 255, at most 65,535.

    Returns:
        Int32, 0 to 255, rounded.
    """
    return (values * 255 + most // 2) // most


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors an image as its EXIF orientation requires.

    Args:
        pixels: `[h, w, 3]`.
        orientation: 1 to 8, as in EXIF.

    Returns:
        A view of `pixels`, `[h, w, 3]` or `[w, h, 3]`.
    """
    if orientation in TRANSPOSED:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in LEFT_RIGHT:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in UPSIDE_DOWN else pixels
