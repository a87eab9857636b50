"""Decodes JPEG and PNG files with TensorFlow operations only, for exported models without Python.

The pixels equal those of `images.decode`. Both use the same kernels and the same arithmetic, and
the tests compare them.
"""

import tensorflow as tf

from oneshot_tf.data.headers import (
    APP1,
    EXIF_HEAD,
    EXIF_LEAST,
    FRAME_MARKERS,
    JPEG,
    MOST_PARTS,
    ORIENTATION_TAG,
    PNG,
    START_OF_SCAN,
    WHOLE_NUMBER,
)
from oneshot_tf.data.pixels import (
    LEFT_RIGHT,
    MAX_PIXELS,
    TOO_LARGE,
    TRANSPOSED,
    UPSIDE_DOWN,
    eight_bits,
    on_white,
)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG or PNG file to the same pixels as `images.decode`.

    Args:
        encoded: String `[]`.

    Returns:
        Uint8 `[h, w, 3]`.

    Raises:
        tf.errors.InvalidArgumentError: If the file is damaged, too large or of another format.
    """
    with tf.device("/cpu:0"):  # the decoding kernels exist on the CPU only
        jpeg = tf.strings.substr(encoded, 0, len(JPEG)) == JPEG
        pixels = tf.cond(jpeg, lambda: _jpeg(encoded), lambda: _png(encoded))
        return tf.ensure_shape(pixels, [None, None, 3])


def with_alpha_on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Blends uint8 `[…, 4]` (red, green, blue, opacity) with white: uint8 `[…, 3]`."""
    pixels = tf.cast(pixels, tf.uint16)
    # Take the last channel, not channel 3: a graph also traces this branch for three channels.
    return tf.cast(on_white(pixels[..., :3], pixels[..., -1:]), tf.uint8)


def _check_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation | None:
    """Returns an operation that fails for too many pixels."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(pixels <= MAX_PIXELS, [TOO_LARGE])


def _jpeg(encoded: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(encoded)
    with tf.control_dependencies([_check_size(shape[0], shape[1])]):
        pixels = tf.io.decode_jpeg(encoded, channels=3)
    return _upright(pixels, _orientation_at(encoded, _exif_of_jpeg(encoded)))


def _exif_of_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Finds the EXIF block before a JPEG's frame.

    Returns:
        The start and the length of the block, int32 `[2]`. Both are 0 if there is none.
    """
    end = tf.strings.length(encoded)

    def step(place: tf.Tensor, found: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        head = tf.io.decode_raw(tf.strings.substr(encoded, place, 4), tf.uint8)
        marker = head[1]
        length = tf.cast(head[2], tf.int32) * 256 + tf.cast(head[3], tf.int32)
        exif = tf.logical_and(marker == APP1, tf.strings.substr(encoded, place + 4, 6) == EXIF_HEAD)
        ends = tf.reduce_any(marker == tf.constant([*FRAME_MARKERS, START_OF_SCAN], tf.uint8))
        going = tf.logical_and(head[0] == 0xFF, tf.logical_not(tf.logical_or(exif, ends)))
        new = tf.logical_and(exif, head[0] == 0xFF)
        found = tf.where(new, tf.stack([place + 10, length - 8]), found)
        return place + tf.where(marker == 0xFF, 1, length + 2), found, going

    return tf.while_loop(
        lambda place, _, going: tf.logical_and(going, place + 10 <= end),
        step,
        (tf.constant(2), tf.zeros([2], tf.int32), tf.constant(True)),
        maximum_iterations=MOST_PARTS,
    )[1]


def _png(encoded: tf.Tensor) -> tf.Tensor:
    magic = tf.strings.substr(encoded, 0, len(PNG)) == PNG
    whole = tf.logical_and(magic, tf.strings.length(encoded) >= 33)
    is_png = tf.debugging.Assert(whole, ["it is neither a JPEG nor a PNG, or it is cut off"])
    with tf.control_dependencies([is_png]):
        size = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        kind = tf.io.decode_raw(tf.strings.substr(encoded, 24, 2), tf.uint8)
    # A negative size exceeds the PNG limit. The PNG kernel reports it.
    with tf.control_dependencies([_check_size(size[1], size[0])]):
        encoded = tf.identity(encoded)
    exif, transparent = _png_chunks(encoded)
    alpha = tf.logical_or(transparent, kind[1] >= 4)
    eight = lambda channels: tf.io.decode_png(encoded, channels=channels)  # noqa: E731
    pixels = tf.cond(
        kind[0] == 16,
        lambda: _deep(encoded, alpha),
        lambda: tf.cond(alpha, lambda: with_alpha_on_white(eight(4)), lambda: eight(3)),
    )
    return _upright(pixels, _orientation_at(encoded, exif))


def _deep(encoded: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG with 16 bits per channel. 12-bit cameras leave the upper four bits empty."""
    pixels = tf.cast(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16), tf.int32)
    most = tf.where(tf.reduce_max(pixels[..., :3]) <= 4095, 4095, 65535)
    pixels = tf.concat(
        [eight_bits(pixels[..., :3], most), eight_bits(pixels[..., 3:], 65535)], axis=-1
    )
    pixels = tf.cast(pixels, tf.uint8)
    return tf.cond(alpha, lambda: with_alpha_on_white(pixels), lambda: pixels[..., :3])


def _png_chunks(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads the chunks of a PNG before its pixels.

    Returns:
        The start and the length of the EXIF block, int32 `[2]`, both 0 if there is none, and
        whether a tRNS chunk exists, bool `[]`.
    """
    end = tf.strings.length(encoded)

    def step(
        place: tf.Tensor, exif: tf.Tensor, transparent: tf.Tensor, _: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        length = tf.strings.substr(encoded, place, 4)
        length = tf.io.decode_raw(length, tf.int32, little_endian=False)[0]
        name = tf.strings.substr(encoded, place + 4, 4)
        exif = tf.where(name == b"eXIf", tf.stack([place + 8, length]), exif)
        transparent = tf.logical_or(transparent, name == b"tRNS")
        # Besides its content, a chunk has a length, a name and a checksum of four bytes each.
        fits = tf.logical_and(length >= 0, length <= end - place - 12)
        going = tf.logical_and(fits, name != b"IDAT")
        return tf.where(going, place + 12 + length, place), exif, transparent, going

    start = (tf.constant(8), tf.zeros([2], tf.int32), tf.constant(False), tf.constant(True))
    _, exif, transparent, _ = tf.while_loop(
        lambda place, _exif, _transparent, going: tf.logical_and(going, place + 8 <= end),
        step,
        start,
        maximum_iterations=MOST_PARTS,
    )
    return exif, transparent


def _orientation_at(encoded: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Returns the orientation, 1 to 8, in the EXIF block of a file at `place` (start, length)."""
    start = tf.clip_by_value(place[0], 0, tf.strings.length(encoded))
    exif = tf.strings.substr(encoded, start, tf.maximum(place[1], 0))
    whole = tf.strings.length(exif) >= EXIF_LEAST
    return tf.cond(whole, lambda: _orientation(exif), lambda: tf.constant(1))


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in an EXIF block; see `headers.orientation`."""
    big = tf.strings.substr(exif, 0, 4) == b"MM\0*"
    little = tf.strings.substr(exif, 0, 4) == b"II*\0"
    end = tf.strings.length(exif)

    def numbers(place: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
        """Reads `count` 16-bit integers."""
        part = tf.strings.substr(exif, place, 2 * count)
        order = [tf.io.decode_raw(part, tf.uint16, little_endian=low) for low in (True, False)]
        return tf.cast(tf.where(big, order[1], order[0]), tf.int32)

    halves = numbers(4, 2)
    place, upper = tf.where(big, halves[1], halves[0]), tf.where(big, halves[0], halves[1])
    place = tf.where(upper < 2**15, upper * 2**16 + place, end)
    place = tf.minimum(place, end - 2)
    # A directory has a count and entries of 12 bytes: tag (2), type (2), count (4), value (4).
    count = tf.minimum(numbers(place, 1)[0], (end - place - 2) // 12)
    entries = tf.reshape(numbers(place + 2, 6 * count), [-1, 6])
    is_it = tf.logical_and(entries[:, 0] == ORIENTATION_TAG, entries[:, 1] == WHOLE_NUMBER)
    value = tf.concat([tf.boolean_mask(entries[:, 4], is_it), [1]], axis=0)[0]
    good = tf.logical_and(tf.logical_or(big, little), tf.logical_and(value >= 1, value <= 8))
    return tf.where(good, value, 1)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image as its EXIF orientation requires; see `pixels.upright`."""

    def turned() -> tf.Tensor:
        among = lambda kinds: tf.reduce_any(orientation == tf.constant(kinds))  # noqa: E731
        out = tf.cond(among(TRANSPOSED), lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        out = tf.cond(among(LEFT_RIGHT), lambda: tf.reverse(out, [1]), lambda: out)
        return tf.cond(among(UPSIDE_DOWN), lambda: tf.reverse(out, [0]), lambda: out)

    return tf.cond(orientation > 1, turned, lambda: pixels)
