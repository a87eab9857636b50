"""Tests that training, `predict` and a server decode images to what image viewers show."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from oneshot_tf.data import graph_decoder, headers, images, pixels, streaming
from oneshot_tf.data.images import BadImage, decode


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(width=35, height=23, seed=0):
    """Returns a smooth image, which JPEG hardly changes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def exif(orientation):
    block = Image.Exif()
    block[headers.ORIENTATION_TAG] = orientation
    return block


def noise(*shape, most=256, kind=np.uint8):
    return np.random.default_rng(0).integers(0, most, shape).astype(kind)


def transparent():
    return Image.fromarray(noise(9, 7, 4))


def as_viewers_show(file):
    """Decodes an image with Pillow only, turned upright and on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB")).astype(int)


PALETTE = picture().quantize(16)
GREY = picture().convert("L")
MANY = [Image.fromarray(np.full((24, 32, 3), value, np.uint8)) for value in (250, 120, 10)]
FIRST_OF_SEVERAL = {"save_all": True, "append_images": MANY[1:]}
FILES = {  # name: (file, conversions)
    "jpeg 4:2:0": (encoded(picture(), "JPEG"), []),
    "jpeg progressive": (encoded(picture(41, 17), "JPEG", progressive=True), []),
    "jpeg grey": (encoded(GREY, "JPEG"), [pixels.GREY]),
    "jpeg cmyk": (encoded(picture().convert("CMYK"), "JPEG"), [pixels.CMYK]),
    "jpeg with more behind": (encoded(picture(), "JPEG") + b"more", []),
    "jpeg one pixel": (encoded(picture(1, 1), "JPEG"), []),
    "png": (encoded(picture(), "PNG"), []),
    "png grey": (encoded(GREY, "PNG"), [pixels.GREY]),
    "png 1 bit": (encoded(GREY.convert("1"), "PNG"), [pixels.GREY]),
    "png transparent": (encoded(transparent(), "PNG"), [pixels.TRANSPARENCY]),
    "png transparent, tall": (
        encoded(Image.fromarray(noise(600, 3, 4)), "PNG"), [pixels.TRANSPARENCY]),
    "png with opacity, opaque": (encoded(picture().convert("RGBA"), "PNG"), []),
    "png grey transparent": (
        encoded(transparent().convert("LA"), "PNG"), [pixels.TRANSPARENCY, pixels.GREY]),
    "png palette": (encoded(PALETTE, "PNG"), [pixels.PALETTE]),
    "png palette with a transparent entry": (
        encoded(PALETTE, "PNG", transparency=3), [pixels.PALETTE, pixels.TRANSPARENCY]),
    "png palette with opacities": (
        encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
        [pixels.PALETTE, pixels.TRANSPARENCY]),
    "png with a transparent colour": (
        encoded(picture(), "PNG", transparency=picture().getpixel((5, 5))), [pixels.TRANSPARENCY]),
    "png with a transparent grey": (
        encoded(GREY, "PNG", transparency=GREY.getpixel((5, 5))),
        [pixels.TRANSPARENCY, pixels.GREY]),
    "apng": (encoded(MANY[0], "PNG", **FIRST_OF_SEVERAL), [pixels.FRAMES]),
    "gif": (encoded(PALETTE, "GIF"), [pixels.PALETTE]),
    "gif transparent": (
        encoded(PALETTE, "GIF", transparency=3), [pixels.PALETTE, pixels.TRANSPARENCY]),
    "gif animated": (
        encoded(MANY[0], "GIF", **FIRST_OF_SEVERAL), [pixels.PALETTE, pixels.FRAMES]),
    "webp": (encoded(transparent(), "WEBP", lossless=True, exact=True), [pixels.TRANSPARENCY]),
    "webp animated": (encoded(MANY[0], "WEBP", **FIRST_OF_SEVERAL), [pixels.FRAMES]),
    "bmp": (encoded(picture(), "BMP"), []),
    "bmp 1 bit": (encoded(GREY.convert("1"), "BMP"), [pixels.GREY]),
    "bmp palette": (encoded(PALETTE, "BMP"), [pixels.PALETTE]),
    "tiff": (encoded(picture(), "TIFF"), []),
    "tiff compressed": (
        encoded(transparent(), "TIFF", compression="tiff_lzw"), [pixels.TRANSPARENCY]),
    "tiff cmyk": (encoded(picture().convert("CMYK"), "TIFF"), [pixels.CMYK]),
    "tiff of pages": (encoded(MANY[0], "TIFF", **FIRST_OF_SEVERAL), [pixels.FRAMES]),
}  # fmt: skip


@pytest.fixture(scope="module")
def pipeline():
    """Decodes an image as an input pipeline does."""
    return tf.function(images.decode_tensor, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.fixture(scope="module")
def server():
    """Decodes an image as an exported model does."""
    return tf.function(graph_decoder.decode, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_that_viewers_show_wherever_they_are_decoded(name, pipeline, server):
    file, conversions = FILES[name]
    decoded = decode(file)
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.flags.c_contiguous
    # Pillow and TensorFlow use different JPEG libraries.
    difference = np.abs(decoded.pixels - as_viewers_show(file)).max()
    assert difference <= (4 if "jpeg" in name else 0)
    assert list(decoded.conversions) == conversions
    np.testing.assert_array_equal(pipeline(file), decoded.pixels)
    if name.split()[0] in ("jpeg", "png", "apng"):
        np.testing.assert_array_equal(server(file), decoded.pixels)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="neither a JPEG nor a PNG"):
            server(file)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_upright(kind, orientation, pipeline, server):
    lossless = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(picture(), kind, exif=exif(orientation), **lossless)
    decoded = decode(file)
    difference = np.abs(decoded.pixels - as_viewers_show(file)).max()
    assert difference <= (4 if kind == "JPEG" else 0)
    assert (pixels.ORIENTATION in decoded.conversions) == (2 <= orientation <= 8)
    np.testing.assert_array_equal(pipeline(file), decoded.pixels)
    if kind in ("JPEG", "PNG"):
        np.testing.assert_array_equal(server(file), decoded.pixels)


def test_damaged_exif_is_passed_over_alike(server):
    """Both decoders ignore damaged EXIF in the same way, in 300 files with changed header bytes."""
    draw = random.Random(0)
    whole = [encoded(picture(), kind, exif=exif(6)) for kind in ("JPEG", "PNG")]
    seen = set()
    for i in range(300):
        file = bytearray(whole[i % 2])
        begin = file.find(b"Exif\0\0" if i % 2 == 0 else b"eXIf")
        for _ in range(draw.choice((1, 2, 5))):
            file[begin + draw.randrange(-4, 40)] = draw.choice(
                (0, 1, 3, 6, 8, 255, draw.randrange(256))
            )
        file = bytes(file)
        try:
            ours = decode(file).pixels
        except BadImage:
            with pytest.raises(tf.errors.OpError):
                server(file)
            continue
        seen.add(ours.shape)
        np.testing.assert_array_equal(server(file), ours)
    assert seen == {(23, 35, 3), (35, 23, 3)}


@pytest.mark.parametrize("orientation", [1, 6])
def test_crops_are_of_the_picture_as_it_is_shown(orientation):
    """Crops of an image with a red left and a blue right half have columns of one colour.

    This holds whether the file stores the image upright or turned.
    """
    shown = np.zeros((64, 96, 3), np.uint8)
    shown[:, :48, 0], shown[:, 48:, 2] = 255, 255
    stored = Image.fromarray(shown).rotate(90 if orientation == 6 else 0, expand=True)
    file = encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif(orientation))
    for i in range(20):
        crop = streaming._random_crop(tf.constant(file), 12, tf.constant([1, i], tf.int64)).numpy()
        assert np.ptp(crop[..., 0].astype(int), axis=0).max() < 40


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("most, name", [(65535, pixels.SIXTEEN_BITS), (4095, pixels.TWELVE_BITS)])
def test_sixteen_bits_become_eight(kind, most, name, server):
    values = np.linspace(0, most, 12 * 10).astype(np.uint16).reshape(12, 10)
    file = encoded(Image.fromarray(values), kind)
    decoded = decode(file)
    assert decoded.conversions == (name, pixels.GREY)
    np.testing.assert_array_equal(decoded.pixels[..., 1], np.round(values * 255.0 / most))
    if kind == "PNG":
        np.testing.assert_array_equal(server(file), decoded.pixels)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("most", [4095, 65535])
def test_sixteen_bits_a_colour(channels, most, server):
    values = noise(8, 6, channels, most=most + 1, kind=np.uint16)
    values[0, 0] = most
    clear = channels in (2, 4)
    if clear:
        values[..., -1] = noise(8, 6, most=65536, kind=np.uint16)
    file = tf.io.encode_png(values).numpy()
    colours = np.round(values[..., : channels - clear] * 255.0 / most)
    alpha = np.round(values[..., -1:] / 257.0) / 255 if clear else 1.0
    right = np.broadcast_to(np.round(colours * alpha + 255 * (1 - alpha)), (8, 6, 3))
    found = decode(file).pixels
    assert np.abs(found - right).max() <= (1 if clear else 0)
    np.testing.assert_array_equal(server(file), found)


def test_nothing_is_seen_through_what_is_transparent():
    values = np.full((4, 5, 4), 77, np.uint8)
    values[..., 3] = 0
    assert (decode(encoded(Image.fromarray(values), "PNG")).pixels == 255).all()
    grey = images.three_channels(tf.constant(values[..., :1])).numpy()
    np.testing.assert_array_equal(grey, values[..., :3])
    assert (images.three_channels(tf.constant(values)).numpy() == 255).all()


@pytest.mark.parametrize(
    "file",
    [b"", b"x", b"<html>", headers.JPEG, headers.JPEG + b"\xe0 cut off", headers.PNG, b"GIF89a",
     b"BM", b"RIFF1234WEBP", b"II*\0", b"MM\0*\0\0\0\x08", b"\x89PNG not one",
     *(encoded(picture(), kind)[:-60] for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"))],
)  # fmt: skip
def test_what_is_no_picture(file, pipeline):
    with pytest.raises(BadImage) as caught:
        decode(file)
    said = str(caught.value)
    assert said and len(said) <= 200 and "\n" not in said and "{{" not in said
    with pytest.raises(tf.errors.OpError):
        pipeline(file)


def png_of_size(width, height):
    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(100))
    return headers.PNG + chunk(b"IHDR", size) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def with_size(file, at, order, height, width):
    return file[:at] + struct.pack(order, height, width) + file[at + struct.calcsize(order) :]


JPEG = encoded(picture(), "JPEG")
BMP = encoded(picture(), "BMP")
TOO_LARGE = {
    "png": png_of_size(9000, 9000),
    "png 2^30": png_of_size(2**30, 2**30),
    "jpeg": with_size(JPEG, JPEG.find(b"\xff\xc0") + 5, ">HH", 65000, 65000),
    "bmp": with_size(BMP, 18, "<ii", 20000, 20000),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_many_pixels_are_refused_before_they_are_decoded(name, pipeline, server):
    with warnings.catch_warnings(), pytest.raises(BadImage, match="more than 67,108,864 pixels"):
        warnings.simplefilter("error")  # turns Pillow's warning about large images into an error
        decode(TOO_LARGE[name])
    with pytest.raises(tf.errors.InvalidArgumentError, match="67,108,864"):
        pipeline(TOO_LARGE[name])
    if name != "bmp":
        with pytest.raises(tf.errors.InvalidArgumentError, match="67,108,864"):
            server(TOO_LARGE[name])


def test_values_whose_white_nobody_knows():
    deep = Image.fromarray(np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5))
    with pytest.raises(BadImage, match="32 bits"):
        decode(encoded(deep, "TIFF"))
