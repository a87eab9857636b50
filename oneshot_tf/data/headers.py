"""What the first bytes of an image file say: its format, and whether decoding is all
that there is to do.

Most files are plain: nothing to turn, no transparency, 8 bits. They are told from the
others here, so that they cost no more than their kernel. It is no second rule of what is
turned or converted: in doubt a file isn't plain, and `jpeg_png.decode` decides.
"""

import struct

from oneshot_tf.data.pixels import CMYK, GREY, MAX_PIXELS, PALETTE

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
PLAIN_JPEG, PLAIN_PNG, JPEG_OR_PNG, OTHER = range(4)
EXIF_HEAD = b"Exif\0\0"
# Of a JPEG: where the picture itself begins, whose EXIF block comes before it.
FRAMES = (0xC0, 0xC1, 0xC2)
_BEFORE_IT = (*range(0xE0, 0xF0), 0xFE, 0xDB, 0xC4, 0xDD)  # applications, comment, tables
_COLOURS = {0: (GREY,), 2: (), 3: (PALETTE,)}  # of a PNG without transparency


def look(encoded: bytes) -> tuple[int, tuple[str, ...]]:
    """The kind of a file, one of the four constants, and what decoding a plain one converts."""
    if encoded.startswith(JPEG):
        found, plain = _jpeg(encoded), PLAIN_JPEG
    elif encoded.startswith(PNG):
        found, plain = _png(encoded), PLAIN_PNG
    else:
        return OTHER, ()
    return (JPEG_OR_PNG, ()) if found is None else (plain, found)


def _jpeg(encoded):
    """Conversions of a plain JPEG; None for others."""
    place = 2
    while place + 10 <= len(encoded):
        mark, marker, size = struct.unpack_from(">BBH", encoded, place)
        if mark != 0xFF:
            return None
        if marker in FRAMES:
            height, width, channels = struct.unpack_from(">HHB", encoded, place + 5)
            if not 0 < height * width <= MAX_PIXELS:
                return None
            return {1: (GREY,), 4: (CMYK,)}.get(channels, ())
        if marker not in _BEFORE_IT or encoded.startswith(EXIF_HEAD, place + 4):
            return None
        place += 2 + size
    return None


def _png(encoded):
    """Conversions of a plain PNG; None for others."""
    if len(encoded) < 33:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", encoded, 16)
    if depth > 8 or colour not in _COLOURS or not 0 < height * width <= MAX_PIXELS:
        return None
    place = 8
    while place + 8 <= len(encoded):
        size, name = struct.unpack_from(">I4s", encoded, place)
        if name == b"IDAT":
            return _COLOURS[colour]
        if name in (b"tRNS", b"eXIf", b"acTL"):
            return None
        place += 12 + size
    return None
