"""Every depth, mode, palette, transparency, profile and orientation: read as the file says, or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from search.data.pixels import read
from search.errors import UserError

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
GREY = Image.fromarray(RAMP)
COLOUR = Image.merge("RGB", [GREY, GREY.point(lambda value: 255 - value), GREY.point(lambda value: value // 2)])


def saved(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, kind: int, row: bytes, width: int, *more: tuple[bytes, bytes]) -> bytes:
    """One row of packed samples; `more` are further chunks."""
    header = struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)
    data = chunk(b"IHDR", header) + b"".join(chunk(*each) for each in more)
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


PALETTE = b"PLTE", bytes([9, 8, 7, 1, 2, 3])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(1, 0, b"\xa0", 4), [255, 0, 255, 0]),
        (png(2, 0, b"\x1b", 4), [0, 85, 170, 255]),
        (png(4, 0, b"\x1b", 2), [17, 187]),
        (png(8, 0, b"\x1b\x05", 2), [27, 5]),
        (png(8, 2, bytes(range(6)), 2), [[0, 1, 2], [3, 4, 5]]),
        (png(1, 3, b"\x40", 2, PALETTE), [[9, 8, 7], [1, 2, 3]]),
        (png(2, 3, b"\x10", 2, PALETTE), [[9, 8, 7], [1, 2, 3]]),
        (png(4, 3, b"\x10", 2, PALETTE), [[1, 2, 3], [9, 8, 7]]),
        (png(8, 3, b"\x01\x00", 2, PALETTE), [[1, 2, 3], [9, 8, 7]]),
        (png(8, 4, b"\x05\xff\x06\xff", 2), [5, 6]),
        (png(8, 6, b"\x05\x06\x07\xff", 1), [[5, 6, 7]]),
        # a transparent colour that no pixel has
        (png(8, 0, b"\x01\x02", 2, (b"tRNS", b"\0\3")), [1, 2]),
        (png(8, 2, b"\x01\x02\x03", 1, (b"tRNS", b"\0\1\0\2\0\4")), [[1, 2, 3]]),
        (png(8, 3, b"\x00\x00", 2, PALETTE, (b"tRNS", b"\xff\x00")), [[9, 8, 7], [9, 8, 7]]),
        (b"P6 2 1 15\n" + bytes(range(6)), [[0, 17, 34], [51, 68, 85]]),
        (b"P2 2 1 7\n 1 7", [36, 255]),
        (b"P4 8 1\n\xa0", [0, 255, 0, 255, 255, 255, 255, 255]),
    ],
)
def test_depths_and_palettes(content, expected):
    assert read(content)[0].tolist() == expected


def tiff16() -> bytes:
    """A TIFF of two RGB pixels with 16 bits a channel."""
    tags = {256: 2, 257: 1, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: 1, 279: 12}
    tags[258] = 8 + 2 + 12 * len(tags) + 4
    tags[273] = tags[258] + 6
    entries = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, v) for tag, v in tags.items()
    )
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return head + struct.pack("<3H", 16, 16, 16) + bytes(range(12))


BITS = "16 bits a channel; only images of 8 bits"
CUT = saved(COLOUR, "JPEG")[:-60]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png(16, 0, bytes(4), 2), BITS),
        (png(16, 2, bytes(6), 1), BITS),
        (png(16, 4, b"\0\1\xff\xff", 1), BITS),
        (png(16, 6, b"\0\1\0\1\0\1\xff\xff", 1), BITS),
        (tiff16(), BITS),
        (saved(GREY.convert("I;16"), "TIFF"), "mode I;16"),
        (saved(GREY.convert("I"), "TIFF"), "mode I;"),
        (saved(GREY.convert("F"), "TIFF"), "mode F"),
        (b"P6 2 1 65535\n" + bytes(12), BITS),
        (b"P5 2 1 1000\n" + bytes(4), BITS),
        (b"P3 1 1 1000\n 1 2 3", BITS),
        (png(8, 0, b"\x01\x02", 2, (b"tRNS", b"\0\1")), "transparent"),
        (png(1, 0, b"\xa0", 4, (b"tRNS", b"\0\1")), "transparent"),
        (png(8, 2, b"\x01\x02\x03", 1, (b"tRNS", b"\0\1\0\2\0\3")), "transparent"),
        (png(8, 3, b"\x01\x00", 2, PALETTE, (b"tRNS", b"\xff\x00")), "transparent"),
        (png(8, 4, b"\x05\x7f", 1), "transparent"),
        (saved(GREY.convert("P"), "GIF", transparency=0), "transparent"),
        (png(8, 3, b"\x02\x00", 2, PALETTE), "not in its palette"),
        (saved(GREY.convert("P"), "GIF", save_all=True, append_images=[GREY.convert("P").rotate(180)]), "2 frames"),
        (saved(COLOUR, "WEBP", save_all=True, append_images=[COLOUR.rotate(180)]), "2 frames"),
        (saved(COLOUR, "PNG", save_all=True, append_images=[COLOUR.rotate(180)]), "2 frames"),
        (saved(COLOUR, "TIFF", save_all=True, append_images=[COLOUR.rotate(180)]), "2 frames or pages"),
        (saved(COLOUR, "PNG", icc_profile=b"nonsense"), "colour profile can't be applied"),
        (CUT, "unreadable image"),
    ],
)
def test_what_would_be_read_otherwise_is_refused(content, reason):
    with pytest.raises(UserError, match=reason):
        read(content)


SHADES = b"PLTE", bytes([9, 9, 9, 7, 7, 7, 1, 2, 3])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(8, 3, b"\x01\x00", 2, SHADES), [7, 9]),  # the colour that is left counts for nothing
        (png(8, 3, b"\x01\x02", 2, SHADES), [[7, 7, 7], [1, 2, 3]]),
        (png(8, 3, b"\x01\x00", 2, SHADES, (b"tRNS", b"\xff\xff\x00")), [7, 9]),
        (png(8, 2, bytes([7, 7, 7, 9, 9, 9]), 2), [[7, 7, 7], [9, 9, 9]]),  # a colour image without a palette
    ],
)
def test_palettes_of_greys_are_grey(content, expected):
    assert read(content)[0].tolist() == expected


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("icc", [False, True])
def test_a_palette_of_greys_is_read_as_grey_pixels_are(form, icc):
    brighter = GREY.point(lambda value: 255 - value // 2)  # no entry at the place of its own brightness
    profile = {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()} if icc else {}
    palette = brighter.convert("RGB").quantize(64)
    assert palette.mode == "P"
    pixels = read(saved(palette, form, **(profile if form in ("PNG", "TIFF") else {})))
    assert np.array_equal(pixels, read(saved(brighter, "PNG")))
    with pytest.raises(UserError, match="transparent"):
        read(saved(palette, "PNG", transparency=palette.getpixel((0, 0))))


def test_each_bit_of_a_png_is_guarded():
    whole = saved(COLOUR, "PNG")
    for place in range(8, len(whole) - 12):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        with pytest.raises(UserError):
            read(bytes(damaged))


TURNS = {
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1], 5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).T, 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_upright(form, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(form, {})
    found = read(saved(GREY.convert("RGB"), form, exif=exif, **options))[..., 0].astype(int)
    expected = TURNS[orientation](RAMP)
    assert found.shape == expected.shape and abs(found - expected).max() <= 3


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_is_read_as_the_colours_it_means(form):
    flat = Image.new("CMYK", (8, 8), (0, 255, 0, 51))
    options = {"quality": 100} if form == "JPEG" else {}
    assert abs(read(saved(flat, form, **options)).astype(int) - [204, 0, 204]).max() <= 3


def test_previews_in_a_photograph_are_no_pages():
    photograph = saved(COLOUR, "MPO", save_all=True, append_images=[COLOUR.rotate(180)])
    assert abs(read(photograph).astype(int) - read(saved(COLOUR, "JPEG"))).max() <= 1


def linear() -> bytes:
    """The colour profile of sRGB's primaries with linear intensities, made from Pillow's sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(struct.unpack(">I", profile[128:132])[0]):
        place = 132 + 12 * number
        if profile[place + 1 : place + 4] == b"TRC":
            offset = struct.unpack(">I", profile[place + 4 : place + 8])[0]
            profile[offset : offset + 16] = b"para" + bytes(4) + bytes(4) + struct.pack(">i", 1 << 16)
    return bytes(profile)


def test_colour_profiles_are_applied():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for image in (GREY, COLOUR):
        assert np.array_equal(read(saved(image, "PNG", icc_profile=srgb)), np.asarray(image))
        value = np.asarray(image) / 255
        expected = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055) * 255
        found = read(saved(image, "PNG", icc_profile=linear()))
        assert found.shape == expected.shape and abs(found - expected).max() <= 2


def test_resizing_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (8, 32)))
    small = read(saved(stripes, "PNG"), resize=(4, 16))
    assert small.shape == (4, 16) and abs(small[:, 1:-1].astype(int) - 127).max() <= 2
    assert read(saved(COLOUR, "PNG"), resize=(8, 3)).shape == (8, 3, 3)


def test_the_size_is_known_before_anything_is_decoded():
    asked = []
    read(png(8, 2, bytes(6), 2), allow=asked.append)
    read(png(8, 0, bytes(2), 2), resize=(5, 7), allow=asked.append)
    assert asked == [6, 35]
