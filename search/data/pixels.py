"""One image file as pixels: read as the file says, or refused by what it is that would be read otherwise."""

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from search.errors import UserError, present

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm",
)  # fmt: skip
# Named, because Pillow also knows formats which start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 1 << 24  # declared size of one image, checked before it is decoded
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")


def read(
    content: bytes, resize: tuple[int, int] | None = None, allow: Callable[[int], None] = lambda size: None
) -> np.ndarray:
    """The pixels of an image file, upright, in sRGB, opaque.

    Args:
        resize: height and width to stretch it to, antialiased.
        allow: called with the bytes the result may have at most, before anything is decoded; it may raise.
    Returns:
        uint8 (H, W) of a grey image, (H, W, 3) of one in colour. One with a palette is grey where all its pixels are:
            colours that no pixel has are often padding of the program that saved it.
    Raises:
        UserError: more than 8 bits a channel, transparent in places, animated or of several pages, a colour space or
            profile that can't be turned into sRGB, too large, damaged.
    """
    try:
        return _read(content, resize, allow)
    except UserError:
        raise
    except Exception as error:  # Pillow's plug-ins raise many kinds for damaged files
        reason = str(error).split("<")[0].strip() or type(error).__name__  # without "<_io.BytesIO object at …>"
        raise UserError(f"unreadable image ({reason}); replace or remove it") from error


def _read(content: bytes, resize: tuple[int, int] | None, allow: Callable[[int], None]) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UserError(f"{width} x {height} pixels, more than {MAX_PIXELS:,} are refused")
        height, width = resize or (height, width)
        allow(height * width * (1 if image.mode in ("1", "L", "LA", "La") else 3))
        _refuse_other_kinds(image)
        if image.format == "PNG":  # the checksum of each of its chunks, which decoding does not look at
            Image.open(io.BytesIO(content), formats=("PNG",)).verify()
        colours = len(image.palette.palette) // 3 if image.format == "PNG" and image.palette else 256
        palette, profile = image.mode in ("P", "PA"), image.info.get("icc_profile")
        image = ImageOps.exif_transpose(image)
    if image.mode == "P" and _extremes(image)[1] >= colours:
        raise UserError("a pixel's colour is not in its palette; save it anew")
    image = _opaque(image)
    if image.mode in ("P", "YCbCr", "RGBX"):
        image = image.convert("RGB")
    if palette and _is_grey(image):
        image = image.getchannel("R")
    if profile:
        image = _in_srgb(image, profile)
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if resize:
        image = image.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)  # antialiased where it shrinks
    return np.asarray(image)


def _refuse_other_kinds(image: Image.Image) -> None:
    """Refuse what Pillow would cut to 8 bits or to its first frame without a word."""
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:  # an MPO's others are previews
        raise UserError(f"it has {frames} frames or pages; save the one that is meant as a file of its own")
    tile = getattr(image, "tile", None)  # of a file's image alone
    arguments = tile[0][3] if tile else ""
    raw, most = arguments if image.format == "PPM" and len(arguments) == 2 else (arguments, 0)
    raw = raw if isinstance(raw, str) else str(raw[0])
    if raw.endswith((";16B", ";16L", ";16N")) or isinstance(most, int) and most > 255:
        raise UserError("it has 16 bits a channel; only images of 8 bits a channel are read")
    if image.mode not in PLAIN + ALPHA:
        raise UserError(f"mode {image.mode}; only images of 8 bits a channel, grey or RGB, are read")


def _extremes(channel: Image.Image) -> tuple[Any, Any]:
    """The least and the greatest value of an image with one channel."""
    least, greatest = channel.getextrema()
    return least, greatest


def _opaque(image: Image.Image) -> Image.Image:
    """Without its alpha channel or transparent colour, which nothing in it may use."""
    if image.mode not in ALPHA and "transparency" not in image.info:
        return image
    grey = image.mode in ("1", "L", "LA", "La")
    image = image.convert("LA" if grey else "RGBA")
    if _extremes(image.getchannel("A"))[0] < 255:
        raise UserError("it is transparent in places; save it without transparency")
    return image.convert("L" if grey else "RGB")


def _is_grey(image: Image.Image) -> bool:
    """Whether red, green and blue are the same in every pixel of an RGB image."""
    pixels = np.asarray(image)
    return bool((pixels == pixels[..., :1]).all())


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    grey = image.mode in ("1", "L")
    try:
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile  # of a class without a name in Pillow
        space = opened.xcolor_space.strip()
        image = image.convert({"GRAY": "L", "RGB": "RGB"}[space]) if grey else image
        transform = _transform(profile, image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError) as error:
        raise UserError("its colour profile can't be applied; save it as sRGB") from error
    if transform is not None:
        image = present(ImageCms.applyTransform(image, transform))  # None is of a change in place
    return image.convert("L") if grey else image


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of this colour profile into sRGB; None where they are that already, but for rounding."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    steps = np.indices((18,) * len(mode), np.uint8).reshape(len(mode), 1, -1) * np.uint8(15)
    probe = Image.merge(mode, [Image.fromarray(channel) for channel in steps])
    changed = np.asarray(ImageCms.applyTransform(probe, transform), int)
    return None if abs(changed - np.asarray(probe.convert("RGB"), int)).max() <= 2 else transform
