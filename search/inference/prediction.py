"""What a stored network says of images: their files read as those of class folders are, and its probabilities."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search.data import pixels
from search.data.class_folders import MAX_FILE
from search.data.entries import JUNK
from search.errors import UserError
from search.inference.loading import module, scores
from search.inference.stored import Stored
from search.metrics.classification import softmax
from search.records.environment import Model

Size = tuple[int, int]  # height and width


class Prediction(Model):
    """The classes of an image with their probabilities, the most probable first."""

    image: str
    probabilities: dict[str, float]

    @property
    def best(self) -> str:
        return next(iter(self.probabilities))


def predict(
    stored: Stored, images: Sequence[Path], seed: int | None = None, resize: Size | None = None, skip: bool = False
) -> tuple[list[Prediction], list[str]]:
    """Classify image files, and those in folders (also in their folders), by the network of `seed` (default: first).

    Args:
        resize: height and width to stretch them to, as for class folders. Without, their size has to be the network's.
        skip: leave out images that can't be used.
    Returns:
        The predictions in the order of the files, and one line for each that was left out.

    Raises UserError where there are no images, or without `skip`, before any is classified, in one line for all that
    can't be used.
    """
    if stored.inputs is not None and not stored.inputs.any_size and resize not in (None, stored.inputs.shape[1:]):
        raise UserError(f"--resize {_size(resize)}: {stored.name} takes {_size(stored.inputs.shape[1:])}")
    found: dict[Path, np.ndarray] = {}
    problems = usable(files(images), lambda path: found.update({path: read(path, stored, resize)}), skip)
    batch = _stacked(found, stored)
    classifier = module(stored, seed)
    predictions = []
    for path, row in zip(found, softmax(scores(classifier, batch))):
        order = np.argsort(-row, kind="stable")
        shares = {classifier.classes[k]: float(row[k]) for k in order}
        predictions.append(Prediction(image=str(path), probabilities=shares))
    return predictions, problems


def files(places: Sequence[Path]) -> list[Path]:
    """Files, and those of folders, in order. Raises UserError where there are none."""
    return [path for place in places for path in _files(place)]


def usable(paths: Sequence[Path], read: Callable[[Path], object], skip: bool) -> list[str]:
    """`read` all of them; a line for each that can't be read. Raises UserError where there is one, without `skip`, or
    where none can be read."""
    problems = []
    for path in paths:
        try:
            read(path)
        except UserError as error:
            problems.append(f"{path}: {error}")
    if problems and not skip or len(problems) == len(paths):
        count = f" ({len(problems)} of {len(paths)} images can't be used)" if len(problems) > 1 else ""
        hint = "" if skip else "; --skip-unreadable leaves out what can't be used"
        raise UserError(f"{'; '.join(problems[:3])}{count}{hint}")
    return problems


def _files(place: Path) -> Iterator[Path]:
    """The file itself, or a folder's images in the order of their names. Raises UserError where there are none."""
    if not place.is_dir():
        if not place.exists():
            raise UserError(f"{place}: there is no such image or folder")
        yield place
        return
    inside = []
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".") and name.casefold() not in JUNK]
        inside += [Path(folder) / name for name in files if name.lower().endswith(pixels.SUFFIXES) and name[0] != "."]
    if not inside:
        raise UserError(f"{place}: no images found; their names end in {', '.join(pixels.SUFFIXES[:3])}, …")
    yield from sorted(inside, key=lambda path: unicodedata.normalize("NFC", str(path)))


def read(path: Path, stored: Stored, resize: Size | None) -> np.ndarray:
    """uint8 (C, H, W) as the network takes it; one for super-resolution takes grey and colour. Raises UserError."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise UserError(f"more than {MAX_FILE:,} bytes, refused")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from error
    image = pixels.read(content, resize)
    height, width = image.shape[:2]
    any_size = stored.inputs is None or stored.inputs.any_size
    if stored.inputs is not None and not any_size and (height, width) != stored.inputs.shape[1:]:
        wanted = _size(stored.inputs.shape[1:])
        raise UserError(f"its height and width are {height},{width}, the network's {wanted}: --resize {wanted}")
    try:
        stored.config.check_image_size(height, width)
    except ValueError as error:
        raise UserError(f"does not fit: {error}") from error
    if stored.config.task == "super-resolution" and stored.config.in_channels == 1:
        return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if stored.config.in_channels == 1 and image.ndim == 3:
        if not (image == image[..., :1]).all():
            raise UserError(f"is in colour, {stored.name} takes grey images")
        image = image[..., 0]
    if image.ndim == 3:
        return image.transpose(2, 0, 1)
    return np.broadcast_to(image, (stored.config.in_channels, height, width))  # grey is the same in each channel


def _stacked(images: dict[Path, np.ndarray], stored: Stored) -> Tensor:
    sizes = Counter(image.shape[1:] for image in images.values())
    if len(sizes) > 1:  # only where the weights don't say what they take
        usual = sizes.most_common(1)[0][0]
        odd = next(path for path, image in images.items() if image.shape[1:] != usual)
        raise UserError(f"{odd}: images of one size are wanted; --resize {_size(usual)} makes them so")
    return torch.from_numpy(np.stack(list(images.values())))


def _size(size: Sequence[int] | None) -> str:
    return ",".join(map(str, size or ()))
