"""Folders of pictures: which are for training and which for testing, and which mask goes with which image.

Segmentation reads images beside masks, in one of these layouts (PART is train, val or test):

    PART/ beside PARTannot/                 CamVid's, as in SegNet's split; also PART_labels/ and PART_masks/
    leftImg8bit/PART/, gtFine/PART/         Cityscapes', which has no public masks for its test part: val is tested
    images/PART/ beside masks/PART/         also labels/ and annotations/
    PART/images/ beside PART/masks/         also labels/ and annotations/
    images/ beside masks/                   no parts: --test-split

Super-resolution reads images alone: a folder whose name begins with train, perhaps one that begins with val, and a
folder for each test set.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from search.data import pixels
from search.data.entries import JUNK, PARTS
from search.data.masks import CAMVID, CITYSCAPES, CITYSCAPES_IDS, Classes, classes_of, found_in, labels_of, read_mask
from search.data.pictures import Pictures
from search.data.source import Part, Source
from search.errors import UserError

MASKS = ("annot", "_annot", "_labels", "_masks", "labels", "masks")  # what a part's name gets for its masks
FOLDERS = ("masks", "labels", "annotations")
MAX_FILE, MAX_DECODED = 64 << 20, 8 << 30  # bytes of a file, and of all pictures of a part in memory


@dataclass(frozen=True)
class Found:
    """The files of one part: a set's name, an image, and its mask where there are masks."""

    set: str
    image: Path
    mask: Path | None = None


def load(root: Path, part: Part, source: Source, label: str) -> Pictures:
    """One part of a folder of pictures, for the task that `source` names; validation images are the training part's
    last ones. Raises UserError for what can't be read, or has no such part."""
    if not root.is_dir():
        raise UserError(f"{root}: pictures for {source.reading.task} are read from a folder: unpack the archive")
    if source.reading.resize or source.reading.skip_unreadable:
        raise UserError(f"--resize and --skip-unreadable are for classification, not for {source.reading.task}")
    segmented = source.reading.task == "segmentation"
    parts, classes = _segmentation(root) if segmented else (_super_resolution(root, source.reading.test_set), None)
    told: list[str] = []
    if source.reading.test_split is not None:
        if "test" in parts:
            raise UserError(f"{root}: it has a test part: leave --test-split out")
        parts["train"], parts["test"] = _split(parts["train"], source.reading.test_split)
        told.append(
            f"{len(parts['test'])} images, {source.reading.test_split:g} of all, are split off as the test part"
        )
    if not parts.get(part):
        raise UserError(f"{root}: it has no {part} part; --test-split 0.2 splits one off, or see `wavemix data --help`")
    files = parts[part] + (parts.get("validation", []) if part == "train" else [])
    if part == "train" and len(files) < 2:
        raise UserError(f"{root}: one training image is not enough: at least two are needed, one of them to validate")
    if part == "train" and parts.get("validation"):
        told.append(f"{len(parts['validation'])} images are for validation, those of its own part")
    images = _channels(_read(files, root))
    masks = ()
    if segmented:
        values = [read_mask(_content(file.mask or file.image)) for file in files]
        if classes is None:
            trained = values if part == "train" else [read_mask(_content(f.mask or f.image)) for f in parts["train"]]
            classes = found_in(trained)
        masks = tuple(labels_of(v, classes, _name(f.mask or f.image, root)) for v, f in zip(values, files))
        for file, image, mask in zip(files, images, masks):
            if image.shape[-2:] != mask.shape:
                raise UserError(
                    f"{_name(file.image, root)} is {image.shape[-1]} x {image.shape[-2]} pixels, its mask "
                    f"{mask.shape[-1]} x {mask.shape[-2]}: they must have one size"
                )
    return Pictures(
        source.name,
        label,
        part,
        images,
        masks,
        tuple(file.image.stem for file in files),
        tuple(file.set for file in files),
        source,
        classes.names if classes else (),
        classes.colours if classes else (),
        validation=len(parts.get("validation", [])) if part == "train" else 0,
        told=tuple(told),
    )


def test_sets(root: Path, named: str | None) -> list[str]:
    """The test sets of a folder for super-resolution, the one that decides first. Raises UserError where it is not
    clear which one that is."""
    found = sorted(f.name for f in _folders(root) if _part_of(f.name) in (None, "test") and _images(f))
    if named is not None:
        if named not in found:
            raise UserError(f"{root} has no test set {named!r}, only {', '.join(found) or 'none'}")
        return [named, *(name for name in found if name != named)]
    if len(found) > 1 and "test" not in found:
        raise UserError(f"{root} has the test sets {', '.join(found)}: --test-set says which one decides")
    return sorted(found, key=lambda name: name != "test")


# ----------------------------------------------------------------------------------------------------- layouts


def _super_resolution(root: Path, test_set: str | None) -> dict[str, list[Found]]:
    by_part: dict[str, list[Path]] = {}
    for folder in _folders(root):
        by_part.setdefault(_part_of(folder.name) or "test", []).append(folder)
    training = by_part.get("train", [])
    if len(training) > 1:
        raise UserError(f"{root} has {len(training)} training folders, {', '.join(f.name for f in training)}: keep one")
    if not training:
        alone = [Found(root.name, path) for path in _images(root)]
        if not alone:
            raise UserError(f"{root}: it has neither images nor a folder of images whose name begins with train")
        return {"train": alone}
    parts = {"train": [Found(training[0].name, path) for path in _images(training[0])]}
    if by_part.get("validation"):
        parts["validation"] = [Found(f.name, path) for f in by_part["validation"] for path in _images(f)]
    if tests := test_sets(root, test_set):
        parts["test"] = [Found(name, path) for name in tests for path in _images(root / name)]
    return parts


def _segmentation(root: Path) -> tuple[dict[str, list[Found]], Classes | None]:
    stated = classes_of(root)
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return _cityscapes(root, stated)
    pairs: dict[str, tuple[Path, Path]] = {}
    camvid = False
    for folder in _folders(root):
        part = PARTS.get(folder.name.lower())
        beside = [root / f"{folder.name}{suffix}" for suffix in MASKS]
        inside = [folder / name for name in FOLDERS if (folder / "images").is_dir()]
        for images, masks in [(folder, m) for m in beside] + [(folder / "images", m) for m in inside]:
            if part and masks.is_dir() and part not in pairs:
                pairs[part] = images, masks
                camvid |= masks.name.endswith("annot")
    images = root / "images"
    for masks in (root / name for name in FOLDERS):
        if images.is_dir() and masks.is_dir() and not pairs:
            within = {PARTS[f.name.lower()]: f for f in _folders(images) if f.name.lower() in PARTS}
            pairs = {part: (f, masks / f.name) for part, f in within.items()} or {"train": (images, masks)}
    if "train" not in pairs:
        raise UserError(
            f"{root}: no training images with masks: they must lie in train/ beside trainannot/ (or train_labels/, "
            "train_masks/), in images/train/ beside masks/train/, or as Cityscapes'"
        )
    found = {part: _paired(images, masks, root) for part, (images, masks) in pairs.items()}
    return found, stated or (CAMVID if camvid and _is_camvid(found["train"]) else None)


def _is_camvid(files: list[Found]) -> bool:
    """Whether the names are those of CamVid's sequences, as "0001TP_006690" is."""
    return all(file.image.stem[:6].upper() in ("0001TP", "0006R0", "0016E5", "SEQ05V") for file in files)


def _paired(images: Path, masks: Path, root: Path) -> list[Found]:
    """Each image with the mask of its stem. Raises UserError for one without."""
    if not masks.is_dir():
        raise UserError(f"{_name(images, root)}: there is no folder {_name(masks, root)} of its masks")
    by_stem = {path.stem: path for path in _images(masks)}
    files = _images(images)
    for path in files:
        if path.stem not in by_stem:
            raise UserError(f"{_name(path, root)} has no mask in {_name(masks, root)}: a mask has its image's name")
    if extra := by_stem.keys() - {path.stem for path in files}:
        raise UserError(f"{_name(by_stem[min(extra)], root)} is the mask of no image in {_name(images, root)}")
    return [Found(images.name, path, by_stem[path.stem]) for path in files]


def _cityscapes(root: Path, stated: Classes | None) -> tuple[dict[str, list[Found]], Classes]:
    """Its training part, and its validation part as the test: the test part's masks are not public."""
    parts, by_ids = {}, False
    for part, name in (("train", "train"), ("test", "val")):
        found = []
        for image in sorted((root / "leftImg8bit" / name).glob("*/*_leftImg8bit.png")):
            stem = image.name.removesuffix("_leftImg8bit.png")
            folder = root / "gtFine" / name / image.parent.name
            kinds = [folder / f"{stem}_gtFine_{kind}.png" for kind in ("labelTrainIds", "labelIds")]
            mask = next((path for path in kinds if path.is_file()), None)
            if mask is None:
                raise UserError(f"{_name(image, root)} has no mask {_name(kinds[1], root)}")
            by_ids |= mask == kinds[1]
            found.append(Found(name, image, mask))
        if found:
            parts[part] = found
    if "train" not in parts:
        raise UserError(f"{root}: leftImg8bit/train/ holds no *_leftImg8bit.png")
    return parts, stated or (CITYSCAPES_IDS if by_ids else CITYSCAPES)


# ------------------------------------------------------------------------------------------------------- files


def _part_of(name: str) -> str | None:
    """The part that a folder for super-resolution is of, as its name says: Train400, DIV2K_train_HR, val."""
    words = name.lower().replace("-", "_").split("_")
    for start, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        if any(word.startswith(start) for word in words):
            return part
    return None


def _folders(folder: Path) -> list[Path]:
    try:
        found = [f for f in folder.iterdir() if f.is_dir() and f.name[0] != "." and f.name.lower() not in JUNK]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted(found)


def _images(folder: Path) -> list[Path]:
    """The image files of a folder by name. Raises UserError for two of one stem, and for another kind of file."""
    paths = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name.startswith(".") or path.name.lower() in JUNK:
            continue
        if path.suffix.lower() in pixels.SUFFIXES:
            paths.append(path)
    stems = [path.stem for path in paths]
    if double := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UserError(f"{folder}: two images are called {double}: rename or remove one")
    return paths


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UserError(f"{path}: more than {MAX_FILE:,} bytes, refused")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _read(files: Iterable[Found], root: Path) -> list[np.ndarray]:
    left = [MAX_DECODED]

    def allow(size: int) -> None:
        left[0] -= size
        if left[0] < 0:
            raise UserError(f"the images are more than {MAX_DECODED:,} bytes in memory, refused: take fewer or smaller")

    def read(file: Found) -> np.ndarray:
        try:
            return pixels.read(_content(file.image), None, allow)
        except UserError as error:
            raise UserError(f"{_name(file.image, root)}: {error}") from error

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode") as pool:
        return list(pool.map(read, files))


def _channels(pictures: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
    """(C, H, W) each, with three channels if any has colour: grey among colour is the same in each channel."""
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    out = []
    for picture in pictures:
        planes = (
            picture.transpose(2, 0, 1) if picture.ndim == 3 else np.broadcast_to(picture, (channels, *picture.shape))
        )
        out.append(torch.from_numpy(np.array(planes, order="C")))
    return tuple(out)


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _split(files: list[Found], share: float) -> tuple[list[Found], list[Found]]:
    """A share of the images split off by the digests of their files: the same ones whatever they are called."""
    ordered = sorted(files, key=lambda file: hashlib.sha256(_content(file.image)).digest())
    count = max(1, round(share * len(files)))
    if count >= len(files):
        raise UserError(f"--test-split {share:g} leaves no training images")
    test = set(file.image for file in ordered[:count])
    return [f for f in files if f.image not in test], [f for f in files if f.image in test]
