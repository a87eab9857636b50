"""What every decoder does with decoded pixels, so that a picture looks as viewers show it.

The arithmetic is on whole numbers and written once, for NumPy arrays and for tensors.
"""

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
# Of a picture: a larger one is refused before it is decoded. 8192x8192, 192 MiB of colours.
MAX_PIXELS = 2**26
TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels"

# How EXIF orientations are turned upright: transposed first, then mirrored.
TRANSPOSED = (5, 6, 7, 8)
LEFT_RIGHT = (2, 3, 6, 7)
UPSIDE_DOWN = (3, 4, 7, 8)


class BadImage(ValueError):
    """A file that isn't a picture that can be decoded; the message gives the reason."""


def on_white(colours, alpha):
    """Colours as they look on a white background.

    Args:
        colours: uint16 `[…, 3]`, 0 to 255.
        alpha: uint16 `[…, 1]`, 0 (transparent) to 255.

    Returns:
        uint16 `[…, 3]`, 0 to 255, rounded.
    """
    return (colours * alpha + 255 * (255 - alpha) + 127) // 255


def eight_bits(values, most):
    """int32 0 to 255, rounded, from int32 0 to `most` (at most 65,535)."""
    return (values * 255 + most // 2) // most


def upright(pixels, orientation: int):
    """A NumPy array `[h, w, 3]`, turned and mirrored as an EXIF orientation says."""
    if orientation in TRANSPOSED:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in LEFT_RIGHT:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in UPSIDE_DOWN else pixels
