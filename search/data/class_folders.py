"""A folder or archive of images as arrays. Its parts are read together: they must have one size and number of channels.

Nothing is read otherwise than the files say (`search.data.pixels`), and nothing is left out silently
(`search.data.entries`).
"""

import hashlib
import os
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search.data import pixels
from search.data.archives import limit_of, read_members
from search.data.decoded_cache import Arrays
from search.data.entries import Contents, ImageFile, contents_of
from search.data.source import Part, Reading
from search.errors import UserError, present

MAX_FILE = 64 << 20  # bytes of one image file
MAX_DECODED = 8 << 30  # bytes of all images
CHUNK, CHUNK_BYTES = 256, 64 << 20  # images, and bytes of their files, that are decoded at once


@dataclass(frozen=True)
class Picture:
    """An image's pixels, uint8 (H, W) or (H, W, 3), and the digest of its file."""

    pixels: np.ndarray
    digest: bytes


def read(path: Path, reading: Reading, contents: Contents | None = None) -> dict[Part, Arrays]:
    """The training part of a folder or archive, and its test part if there is one or `reading` splits one off.

    A validation part's images are the last ones of the training part. Images are uint8 (N, C, H, W), with C = 3 if any
    of any part has colour and else 1.

    Raises:
        UserError: as `Contents.check`; an image that can't be read, unless `reading` says to go on without; two sizes,
            unless it says how to resize; too much of it in memory; a test part and one to be split off.
    """
    contents = contents or contents_of(path)
    contents.check(reading.skip_unreadable)
    if reading.test_split and "test" in contents.parts:
        raise UserError(f"{path}: it has a test part, {contents.folders['test']}/: leave --test-split out")
    pictures, unreadable = _decoded(path, contents, reading)
    if unreadable:
        contents = contents.without(unreadable)
        contents.check(reading.skip_unreadable)
    train, test = contents.parts["train"], contents.parts.get("test", [])
    validation = contents.parts.get("validation", [])
    told = [contents.left_out] * bool(contents.left_out)
    if reading.test_split:
        train, test = _split(train, pictures, reading.test_split, str(path))
        told.append(f"{len(test):,} images, {reading.test_split:g} of each class, are split off as the test part")
    if validation:
        told.append(f"{len(validation):,} images are for validation, those of {contents.folders['validation']}/")
    channels = 3 if any(picture.pixels.ndim == 3 for picture in pictures.values()) else 1
    classes, skipped = contents.classes, len(contents.unreadable)
    index = {category: label for label, category in enumerate(classes)}
    found: dict[Part, Arrays] = {}
    parts: tuple[tuple[Part, list[ImageFile], int], ...] = (
        ("train", train + validation, len(validation)),
        ("test", test, 0),
    )
    for part, images, held_out in parts:
        if images:
            stacked = _stacked([pictures.pop(image.name).pixels for image in images], channels)
            labels = torch.tensor([index[image.category] for image in images])
            found[part] = Arrays(stacked, labels, classes, held_out, skipped, tuple(told))
    return found


def stamp(contents: Contents) -> str:
    """A digest of all that a folder's images come from: their names and contents, and what is said of the others."""

    def digest_of(image: ImageFile) -> bytes:
        try:
            return hashlib.sha256(_content(image)).digest()
        except UserError as error:  # decoding will say it, or pass over it
            return str(error).encode()

    sha = hashlib.sha256(contents.left_out.encode("utf-8", "surrogateescape"))
    with _pool() as pool:
        for image, digest in zip(contents.images, pool.map(digest_of, contents.images)):
            sha.update(f"{image.name}\0{image.category}\0".encode("utf-8", "surrogateescape") + digest)
    return sha.hexdigest()


def _content(image: ImageFile) -> bytes:
    try:
        path = present(image.path)
        if path.stat().st_size > MAX_FILE:
            raise UserError(f"more than {MAX_FILE:,} bytes, refused")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from error


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# --- decoding


class _TooMuch(UserError):
    """More pixels than may be in memory: no image's own fault, so that none is skipped for it."""


class _Allowance:
    """Counts the bytes that images become, and raises _TooMuch before those that are one too many are decoded."""

    def __init__(self, files: int):
        self.most, self.taken, self.lock = limit_of(files, MAX_DECODED), 0, threading.Lock()

    def __call__(self, size: int) -> None:
        with self.lock:
            self.taken += size
            if self.taken > self.most:
                raise _TooMuch(f"its images are more than {self.most:,} bytes in memory, refused; --resize makes less")


def _decoded(path: Path, contents: Contents, reading: Reading) -> tuple[dict[str, Picture], list[tuple[str, str]]]:
    """By name the pictures, and why the others can't be read."""
    archived = path.is_file()
    files = path.stat().st_size if archived else sum(_size(image) for image in contents.images)
    allowance = _Allowance(files)

    def decode(item: tuple[ImageFile, bytes | None]) -> Picture | str:
        image, content = item
        try:
            content = _content(image) if content is None else content
            return Picture(pixels.read(content, reading.resize, allowance), hashlib.sha256(content).digest())
        except _TooMuch:
            raise
        except UserError as error:
            return str(error)

    pictures: dict[str, Picture] = {}
    unreadable: list[tuple[str, str]] = []
    sizes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    with warnings.catch_warnings(), _pool() as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks about odd metadata; what matters here is an error
        for chunk in _chunks(path, contents):
            try:
                results = list(pool.map(decode, chunk))
            except _TooMuch as error:
                raise UserError(f"{path}: {error}") from None
            for (image, _), result in zip(chunk, results):
                if isinstance(result, Picture):
                    pictures[image.name] = result
                    sizes[result.pixels.shape[:2]].append(image.name)
                elif reading.skip_unreadable:
                    unreadable.append((image.name, result))
                else:
                    raise UserError(f"{path}: {image.name}: {result}; or --skip-unreadable leaves it out")
            if len(sizes) > 1:
                raise UserError(_odd_one(sizes, str(path)))
    if len(pictures) + len(unreadable) < len(contents.images):
        raise UserError(f"{path}: it was changed while it was read; try again")
    return pictures, unreadable


def _size(image: ImageFile) -> int:
    try:
        return present(image.path).stat().st_size
    except OSError:  # it will be said when it is read
        return 0


def _chunks(path: Path, contents: Contents) -> Iterator[list[tuple[ImageFile, bytes | None]]]:
    """Images with their content, where it comes out of an archive, a few at a time."""
    images = {image.name: image for image in contents.images}
    if path.is_file():
        members = read_members(path, images.__contains__, MAX_FILE)
        items = ((images[name], content, len(content)) for name, content in members if content is not None)
    else:
        items = ((image, None, _size(image)) for image in contents.images)
    chunk, size = [], 0
    for image, content, length in items:
        chunk.append((image, content))
        size += length
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _odd_one(sizes: dict[tuple[int, ...], list[str]], where: str) -> str:
    usual = max(sizes, key=lambda size: len(sizes[size]))
    odd, names = next((size, names) for size, names in sizes.items() if size != usual)
    return (
        f"{where}: {names[0]} is {odd[1]} x {odd[0]}, others are {usual[1]} x {usual[0]}; all images of all parts must "
        f"have one size: --resize {usual[0]},{usual[1]} (height,width) makes them so"
    )


def _stacked(pictures: list[Any], channels: int) -> torch.Tensor:
    """(N, C, H, W); grey among colour is the same in each channel."""
    out = np.empty((len(pictures), channels, *pictures[0].shape[:2]), np.uint8)
    for number, picture in enumerate(pictures):
        out[number] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
        pictures[number] = None  # its memory is wanted
    return torch.from_numpy(out)


def _split(
    images: Sequence[ImageFile], pictures: dict[str, Picture], share: float, where: str
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Split a share of each class off, by the digests of the files: the same ones whatever they are called or resized
    to, and no image falls on both sides by standing there twice."""
    chosen: set[bytes] = set()
    for category, count in Counter(image.category for image in images).items():
        digests = sorted(pictures[image.name].digest for image in images if image.category == category)
        wanted = max(1, round(count * share))
        chosen.update(digests[:wanted])
    train = [image for image in images if pictures[image.name].digest not in chosen]
    if lost := sorted({image.category for image in images} - {image.category for image in train}):
        raise UserError(f"{where}: --test-split {share:g} leaves class {lost[0]!r} no training images")
    return train, [image for image in images if pictures[image.name].digest in chosen]
