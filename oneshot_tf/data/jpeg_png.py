"""JPEG and PNG become pixels by TensorFlow's operations alone.

So one decoder serves training, streaming, `predict` and an exported model, which
has no Python. Only the kernel of the format that the first bytes name is called.
"""

import tensorflow as tf

from oneshot_tf.data.headers import EXIF_HEAD, JPEG, PNG
from oneshot_tf.data.headers import FRAMES as FRAME_MARKERS
from oneshot_tf.data.pixels import (
    CMYK,
    CONVERSIONS,
    FRAMES,
    GREY,
    LEFT_RIGHT,
    MAX_PIXELS,
    ORIENTATION,
    PALETTE,
    SIXTEEN_BITS,
    TOO_LARGE,
    TRANSPARENCY,
    TRANSPOSED,
    TWELVE_BITS,
    UPSIDE_DOWN,
    eight_bits,
    on_white,
)

_MOST_PARTS = 256  # segments or chunks that are looked at, so that no file takes long
_MOST_ENTRIES = 512  # of an EXIF directory


def is_jpeg(encoded):
    """Whether a file begins as a JPEG: bool `[]`."""
    return _begins(encoded, JPEG)


def is_png(encoded):
    """Whether a file begins as a PNG: bool `[]`."""
    return _begins(encoded, PNG)


_STRING = [tf.TensorSpec([], tf.string)]  # whoever calls, the graph is made once


@tf.function(input_signature=_STRING)
def decode(encoded):
    """Decodes a JPEG or a PNG file.

    Args:
        encoded: string `[]`.

    Returns:
        Pixels, uint8 `[h, w, 3]`, turned upright, on white; and bool `[8]`, which of
        `pixels.CONVERSIONS` were made.

    Raises:
        tf.errors.InvalidArgumentError: it is damaged, too large or another format.
    """
    with tf.device("/cpu:0"):  # the kernels are there
        pixels, made = tf.cond(is_jpeg(encoded), lambda: _jpeg(encoded), lambda: _png(encoded))
        return tf.ensure_shape(pixels, [None, None, 3]), made


def _jpeg_orientation(encoded):
    """The orientation in the EXIF segment before a JPEG's picture, int32 `[]`: 1 to 8; none: 1."""
    end = tf.strings.length(encoded)

    def step(place, found, _):
        head = tf.io.decode_raw(tf.strings.substr(encoded, place, 4), tf.uint8)
        mark, marker = head[0], head[1]
        size = tf.cast(head[2], tf.int32) * 256 + tf.cast(head[3], tf.int32)
        exif = tf.logical_and(marker == 0xE1, tf.strings.substr(encoded, place + 4, 6) == EXIF_HEAD)
        filler = marker == 0xFF
        ends = tf.reduce_any(marker == tf.constant([*FRAME_MARKERS, 0xDA], tf.uint8))
        going = tf.logical_and(mark == 0xFF, tf.logical_not(tf.logical_or(exif, ends)))
        found = tf.where(exif, tf.stack([place + 10, size - 8]), found)
        return place + tf.where(filler, 1, size + 2), found, going

    _, found, _ = tf.while_loop(
        lambda place, _, going: tf.logical_and(going, place + 10 <= end),
        step,
        (tf.constant(2), tf.zeros([2], tf.int32), tf.constant(True)),
        maximum_iterations=_MOST_PARTS,
    )
    return _orientation_at(encoded, found)


def _begins(encoded, magic):
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _check_size(height, width):
    """An operation that fails for too many pixels."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(pixels <= MAX_PIXELS, [TOO_LARGE])


def _jpeg(encoded):
    shape = tf.io.extract_jpeg_shape(encoded)
    with tf.control_dependencies([_check_size(shape[0], shape[1])]):
        pixels = tf.io.decode_jpeg(encoded, channels=3)
    orientation = _jpeg_orientation(encoded)
    made = {ORIENTATION: orientation > 1, GREY: shape[2] == 1, CMYK: shape[2] == 4}
    return _upright(pixels, orientation), _flags(made)


def _png(encoded):
    end = tf.strings.length(encoded)
    png = tf.debugging.Assert(
        tf.logical_and(is_png(encoded), end >= 33),
        ["it is neither a JPEG nor a PNG, or it is cut off"],
    )
    with tf.control_dependencies([png]):
        size = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        kind = tf.io.decode_raw(tf.strings.substr(encoded, 24, 2), tf.uint8)
    # A negative one is beyond what PNG allows: its decoder says so.
    with tf.control_dependencies([_check_size(size[1], size[0])]):
        encoded = tf.identity(encoded)
    depth, colour = kind[0], kind[1]
    exif, transparent, frames = _png_chunks(encoded, end)
    alpha = tf.logical_or(transparent, colour >= 4)
    pixels, twelve, seen_through = tf.cond(
        depth == 16,
        lambda: _deep(encoded, alpha),
        lambda: tf.cond(alpha, lambda: _shallow(encoded), lambda: _opaque(encoded)),
    )
    orientation = _orientation_at(encoded, exif)
    made = {
        ORIENTATION: orientation > 1,
        SIXTEEN_BITS: tf.logical_and(depth == 16, tf.logical_not(twelve)),
        TWELVE_BITS: twelve,
        PALETTE: colour == 3,
        TRANSPARENCY: seen_through,
        GREY: tf.logical_or(colour == 0, colour == 4),
        FRAMES: frames,
    }
    return _upright(pixels, orientation), _flags(made)


def _flags(made):
    return tf.stack([made.get(name, tf.constant(False)) for name in CONVERSIONS])


def _opaque(encoded):
    pixels = tf.io.decode_png(encoded, channels=3)
    return pixels, tf.constant(False), tf.constant(False)


def _shallow(encoded):
    pixels = tf.io.decode_png(encoded, channels=4)
    return with_alpha_on_white(pixels), tf.constant(False), _seen_through(pixels)


def _deep(encoded, alpha):
    """Of 16 bits a colour. Cameras of 12 bits leave the upper four empty."""
    pixels = tf.cast(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16), tf.int32)
    twelve = tf.reduce_max(pixels[..., :3]) <= 4095
    most = tf.where(twelve, 4095, 65535)
    colours = tf.cast(eight_bits(pixels[..., :3], most), tf.uint8)
    pixels = tf.concat([colours, tf.cast(eight_bits(pixels[..., 3:], 65535), tf.uint8)], axis=-1)
    white = tf.cond(alpha, lambda: with_alpha_on_white(pixels), lambda: colours)
    return white, twelve, _seen_through(pixels)


def with_alpha_on_white(pixels):
    """uint8 `[…, 3]` on white from uint8 `[…, 4]`, red, green, blue and opacity."""
    pixels = tf.cast(pixels, tf.uint16)
    return tf.cast(on_white(pixels[..., :3], pixels[..., 3:]), tf.uint8)


def _seen_through(pixels):
    return tf.reduce_any(pixels[..., 3] < 255)


def _png_chunks(encoded, end):
    """What the chunks before the pixels say.

    Returns:
        Place and length of the EXIF block (zeros where none is), whether some colours
        are transparent, and whether the file is an animation.
    """

    def step(place, exif, transparent, frames, _):
        size = tf.io.decode_raw(tf.strings.substr(encoded, place, 4), tf.int32, little_endian=False)
        size, name = size[0], tf.strings.substr(encoded, place + 4, 4)
        exif = tf.where(name == b"eXIf", tf.stack([place + 8, size]), exif)
        transparent = tf.logical_or(transparent, name == b"tRNS")
        frames = tf.logical_or(frames, name == b"acTL")
        # Each chunk has a length, a name and a checksum of four bytes each.
        fits = tf.logical_and(size >= 0, size <= end - place - 12)
        going = tf.logical_and(fits, name != b"IDAT")
        return tf.where(going, place + 12 + size, place), exif, transparent, frames, going

    no = tf.constant(False)
    _, exif, transparent, frames, _ = tf.while_loop(
        lambda place, _exif, _transparent, _frames, going: tf.logical_and(going, place + 8 <= end),
        step,
        (tf.constant(8), tf.zeros([2], tf.int32), no, no, tf.constant(True)),
        maximum_iterations=_MOST_PARTS,
    )
    return exif, transparent, frames


def _orientation_at(encoded, place):
    """The orientation in an EXIF block at a place `[start, length]` of a file; 1 where none is."""
    start = tf.clip_by_value(place[0], 0, tf.strings.length(encoded))
    return tf.cond(
        place[1] >= 14,
        lambda: _orientation(tf.strings.substr(encoded, start, place[1])),
        lambda: tf.constant(1),
    )


def _orientation(exif):
    """Reads the orientation of an EXIF block (a TIFF header and a directory): 1 where it can't."""
    big = tf.strings.substr(exif, 0, 4) == b"MM\0*"
    little = tf.strings.substr(exif, 0, 4) == b"II*\0"
    # Zeros behind it stand for what is cut off.
    raw = tf.io.decode_raw(tf.strings.join([exif, b"\0" * 8]), tf.uint8)
    raw = tf.cast(raw, tf.int32)
    most = tf.shape(raw)[0] - 8

    def number(parts):  # of two bytes
        return tf.where(
            big, parts[..., 0] * 256 + parts[..., 1], parts[..., 1] * 256 + parts[..., 0]
        )

    # The upper bytes of the place: 64 KiB is the most that an EXIF block of a JPEG has.
    upper, lower = tf.where(big, raw[4:6], raw[6:8]), tf.where(big, raw[6:8], raw[4:6])
    place = tf.where(tf.reduce_any(upper > 0), most, tf.minimum(number(lower), most))
    count = tf.minimum(number(raw[place : place + 2]), _MOST_ENTRIES)
    count = tf.maximum(tf.minimum(count, (most - place - 2) // 12), 0)
    entries = tf.reshape(raw[place + 2 : place + 2 + 12 * count], [count, 12])
    # Tag 0x0112 of one whole number of 16 bits.
    is_it = tf.logical_and(number(entries[:, :2]) == 0x0112, number(entries[:, 2:4]) == 3)
    values = tf.boolean_mask(number(entries[:, 8:10]), is_it)
    value = tf.concat([values, [1]], axis=0)[0]
    good = tf.logical_and(tf.logical_or(big, little), tf.logical_and(value >= 1, value <= 8))
    return tf.where(good, value, 1)


def _upright(pixels, orientation):
    """Turns and mirrors pixels as an EXIF orientation says."""

    def turned():
        among = lambda kinds: tf.reduce_any(orientation == tf.constant(kinds))  # noqa: E731
        out = tf.cond(among(TRANSPOSED), lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        out = tf.cond(among(LEFT_RIGHT), lambda: tf.reverse(out, [1]), lambda: out)
        return tf.cond(among(UPSIDE_DOWN), lambda: tf.reverse(out, [0]), lambda: out)

    return tf.cond(orientation > 1, turned, lambda: pixels)
