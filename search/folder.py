"""Class folders of images: `<class>/<image>`, or `train/` and `test/` of them, on disk or in an archive."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from search.archive import read_members
from search.errors import UserError
from search.fetch import Part

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Named, because Pillow also knows formats which start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_FILE = 64 << 20  # bytes of one image file
MAX_PIXELS = 1 << 24  # declared size of one image, checked before it is decoded
MAX_DECODED = 8 << 30  # bytes of all images of a part
CHUNK = 256


@dataclass(frozen=True)
class ImageFile:
    """One image of a part: its class, the name errors call it, and its content or where to read it."""

    category: str
    name: str
    content: bytes | Path

    def read(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        try:
            if self.content.stat().st_size > MAX_FILE:
                raise UserError(f"{self.name}: more than {MAX_FILE:,} bytes, refused")
            return self.content.read_bytes()
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class Listing:
    """The images of one part, ordered by class and name, and the classes of the whole data set."""

    images: list[ImageFile]
    classes: tuple[str, ...]


def list_folder(root: Path, part: Part) -> Listing:
    """List a part's images in a folder.

    With a folder `train` or `test` in it, these are the parts and whatever lies beside them is not read;
    without them all images are the training part. Classes are the folders with an image in them, in
    alphabetical order, of the training part where there is one: so labels agree between parts. Hidden
    files and files without an image's suffix are not read.

    Raises:
        UserError: no such part, no images, one class only, a test class without training images, nested
            folders.
    """
    try:
        parts = [name for name in ("train", "test") if (root / name).is_dir()]
        files = {name: _class_files(root / name, f"{name}/") for name in parts if name in ("train", part)}
        if not parts:
            files[None] = _class_files(root, "")
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be read ({error.strerror})") from error
    return _listing(files, part, str(root))


def _class_files(folder: Path, prefix: str) -> list[ImageFile]:
    files = []
    with os.scandir(folder) as categories:
        for category in categories:
            if category.name.startswith(".") or not category.is_dir():
                continue
            with os.scandir(category.path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        raise UserError(
                            f"{entry.path} is a folder inside the class folder {category.name!r}: images "
                            "must lie directly in class folders; name the folder which holds these"
                        )
                    if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                        name = f"{prefix}{category.name}/{entry.name}"
                        files.append(ImageFile(category.name, name, Path(entry.path)))
    return files


def list_archive(path: Path, part: Part) -> Listing:
    """List, and read into memory, a part's images in a tar or zip archive.

    As `list_folder`; the folders may lie in one more which holds everything. The other part's images are not
    read. Raises as `list_folder` and `search.archive.read_members`.
    """
    other = "test" if part == "train" else "train"

    def wanted(name: str) -> bool:
        return _is_image(name) and _part_of(name) != other

    files: dict[str | None, list[ImageFile]] = {}
    above: dict[str | None, dict[str, str]] = {}  # of each part: the folders its class folders lie in
    for name, content in read_members(path, wanted, MAX_FILE):
        if not _is_image(name):
            continue
        *folders, category = name.split("/")[:-1] or [""]
        found = _part_of(name)
        above.setdefault(found, {}).setdefault("/".join(folders[:-1] if found else folders), name)
        files.setdefault(found, []).append(ImageFile(category, name, content or b""))
    if set(files) - {None}:  # there are parts: what lies beside them does not matter
        files.pop(None, None)
        above.pop(None, None)
    places = {place: name for names in above.values() for place, name in names.items()}
    for place, name in places.items():
        if "/" in place or name.count("/") == 0:
            raise UserError(
                f"{path}: {name!r} lies in no class folder; images must lie in <class>/ or in "
                "train/<class>/ and test/<class>/"
            )
    if len(places) > 1:
        raise UserError(
            f"{path}: class folders lie in several folders ({', '.join(sorted(places)[:4])}); one data set an archive"
        )
    return _listing(files, part, str(path))


def _part_of(name: str) -> Part | None:
    parent = name.split("/")[-3:-2]
    return parent[0] if parent and parent[0] in ("train", "test") else None  # type: ignore[return-value]


def _is_image(name: str) -> bool:
    hidden = any(piece.startswith((".", "__MACOSX")) for piece in name.split("/"))
    return not hidden and name.lower().endswith(IMAGE_SUFFIXES)


def _listing(files: dict[str | None, list[ImageFile]], part: Part, where: str) -> Listing:
    if None in files:
        files = {"train": files[None]}
    images = files.get(part, [])
    if not images:
        if files.get("train"):
            raise UserError(f"{where}: it has no test part; put images into test/<class>/ (and train/<class>/)")
        raise UserError(
            f"{where}: no {part} images found; they must lie in <class>/ or in train/<class>/ and "
            f"test/<class>/ and end in {', '.join(IMAGE_SUFFIXES[:3])}, …"
        )
    classes = sorted({image.category for image in files.get("train") or images})
    if len(classes) < 2:
        raise UserError(f"{where}: only one class, {classes[0]!r}; a data set needs at least two class folders")
    present = {image.category for image in images}
    if strange := sorted(present - set(classes)):
        raise UserError(f"{where}: class {strange[0]!r} has {part} images and no training images")
    if missing := sorted(set(classes) - present):
        raise UserError(
            f"{where}: class {missing[0]!r} has training images and no {part} images: put some into "
            f"{part}/{missing[0]}/, an accuracy without them would be of the other classes alone"
        )
    return Listing(sorted(images, key=lambda image: (image.category, image.name)), tuple(classes))


def decode(listing: Listing, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Decode a listing in threads.

    Returns:
        Images, uint8 (N, C, H, W), with C = 3 if any image has colour and else 1, and labels, int64 (N,).
    Raises:
        UserError: an image that cannot be read, is transparent, not 8 bits deep or too large; two sizes
            (nothing is resized silently); more than `MAX_DECODED` bytes in all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about odd metadata; what matters here is an error
        decoded = _decode_all(listing.images, where)
    height, width = decoded[0].shape[:2]
    channels = 3 if any(image.ndim == 3 for image in decoded) else 1
    out = np.empty((len(decoded), channels, height, width), np.uint8)
    for row, image in zip(out, decoded, strict=True):
        row[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image  # grey among colour: the same in each
    index = {category: label for label, category in enumerate(listing.classes)}
    return out, np.array([index[image.category] for image in listing.images], np.int64)


def _decode_all(images: Sequence[ImageFile], where: str) -> list[np.ndarray]:
    first = _decode_image(images[0], where, None)
    height, width = first.shape[:2]
    if len(images) * height * width * 3 > MAX_DECODED:
        raise UserError(f"{where}: {len(images):,} images of {width} x {height} are more than {MAX_DECODED:,} bytes")

    def decode_chunk(start: int) -> list[np.ndarray]:
        return [_decode_image(image, where, (width, height)) for image in images[start : start + CHUNK]]

    decoded: list[np.ndarray] = []
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode")
    try:
        for chunk in pool.map(decode_chunk, range(0, len(images), CHUNK)):
            decoded += chunk
    except _OtherSize as error:
        raise UserError(_odd_one(images, error, where)) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return decoded


class _OtherSize(Exception):
    pass


def _decode_image(file: ImageFile, where: str, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W) for grey, (H, W, 3) for colour; `_OtherSize` if it is not of `size` (width, height)."""
    try:
        with Image.open(io.BytesIO(file.read()), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,} are refused")
            if size is not None and image.size != size:
                raise _OtherSize(file.name, image.size)
            if image.mode == "P":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() != (255, 255):
                raise UserError("it is transparent in places; save it without transparency")
            if image.mode in ("1", "L", "LA"):
                return np.asarray(image.convert("L"))
            if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
                return np.asarray(image.convert("RGB"))
            raise UserError(f"mode {image.mode}; only images of 8 bits a channel are read")
    except _OtherSize:
        raise
    except UserError as error:
        raise UserError(f"{where}: {file.name}: {error}") from None
    except Exception as error:  # Pillow's plug-ins raise many kinds for damaged files
        reason = str(error).split("<")[0].strip() or type(error).__name__  # without "<_io.BytesIO object at …>"
        raise UserError(f"{where}: {file.name}: unreadable image ({reason}); replace or remove it") from error


def _odd_one(images: Sequence[ImageFile], error: _OtherSize, where: str) -> str:
    """Which file is the odd one: the first image may be it, so ask a thousand of them."""
    sizes = {}
    for image in images[:1000]:
        try:
            with Image.open(io.BytesIO(image.read()), formats=FORMATS) as opened:
                sizes[image.name] = opened.size
        except Exception:  # it is not the one we look for
            continue
    sizes[error.args[0]] = error.args[1]
    (usual, _), *_ = Counter(sizes.values()).most_common(1)
    name, size = next((name, size) for name, size in sizes.items() if size != usual)
    return (
        f"{where}: {name} is {size[0]} x {size[1]}, others are {usual[0]} x {usual[1]}; all images must have "
        "one size, resize them first"
    )
