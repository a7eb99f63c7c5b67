"""Data sets as one thing: a `Split` of images and labels, loaded by name or from a folder of images.

The training and the test part are loaded by separate calls and cached in separate files, so that a search
cannot touch the test part by accident.
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from search.data import class_folders as folder
from search.data import decoded_cache as decoded
from search.data import fetch, picture_folders
from search.data.archives import SUFFIXES, read_members
from search.data.catalogue import CIFAR10_CLASSES, CLASSES, COPIES, OFFICIAL, names
from search.data.decoded_cache import Arrays, cached, stamp_of
from search.data.entries import contents_of
from search.data.formats import read_cifar_binary, read_cifar_python, read_idx, unzip_idx
from search.data.pictures import Pictures
from search.data.source import PLAIN, File, Part, Source, Variant
from search.data.split import Portion, Split
from search.errors import UserError

MAX_OFFICIAL_MEMBER = 512 << 20  # EMNIST's largest file, gzipped


def load(source: Source | str, part: Part, data_dir: Path | None = None) -> Portion:
    """Load one part of a data set; official files that are missing on this machine are fetched.

    Args:
        source: one of `names()`, or the path of a folder or archive of class folders (see `search.data.entries`) and
            how it is read; for tasks on pixels the path of a folder (see `search.data.picture_folders`).
        part: "train" or "test".
        data_dir: where to look first for a registered data set (see `search.data.fetch.locate`).
    Returns:
        The part, images as stored unless `source` says to resize them; of a folder or archive it has been checked that
        its other parts go with it.
    Raises:
        UserError: an unknown name; files that are damaged, malformed or not to be had; no such part.
    """
    if part not in get_args(Part):
        raise UserError(f"part {part!r} is neither 'train' nor 'test'")
    source = source if isinstance(source, Source) else Source(str(source))
    if source.reading.task != "classification":
        return _load_pictures(source, part)
    return load_classes(source, part, data_dir)


def load_classes(source: Source, part: Part, data_dir: Path | None = None) -> Split:
    """`load` for classification."""
    name = source.name
    if name in names() and source.reading != PLAIN:
        raise UserError(f"{name} is read as it is: --resize, --test-split and --skip-unreadable are for folders")
    if name in OFFICIAL:
        return _split(source, OFFICIAL[name].label, part, _load_official(name, part, data_dir), "official")
    if name in COPIES:
        copy = COPIES[name]
        path = fetch.fetch(name, data_dir)
        arrays = _load_folder(path, part, source)
        if arrays.classes != CIFAR10_CLASSES or arrays.images.shape != (copy.counts[part], 3, 32, 32):
            raise UserError(
                f"{path}: {len(arrays.images):,} {part} images of shape {tuple(arrays.images.shape[1:])} in "
                f"{len(arrays.classes)} classes are no copy of CIFAR-10"
            )
        return _split(source, copy.label, part, arrays, "jpeg")
    path = Path(os.path.expanduser(name))  # an unknown ~user stays as it is
    try:
        exists = path.is_dir() or path.is_file()
    except (OSError, ValueError):  # a name too long for a path, or with a zero byte
        exists = False
    if exists and name:
        label = _plain_name(path)
        if source.reading.resize:
            label += " {1}x{0}".format(*source.reading.resize)
        return _split(source, label, part, _load_folder(path, part, source), "folder")
    if "/" in name or name.lower().endswith(SUFFIXES):
        raise UserError(f"{name}: there is no such folder or archive")
    near = difflib.get_close_matches(name, names(), 1)
    meant = f" (did you mean {near[0]}?)" if near else ", and there is no such folder here"
    raise UserError(
        f"unknown data set {name!r}{meant}; known: {', '.join(names())}, or the path of a folder or archive of class "
        "folders"
    )


def _load_pictures(source: Source, part: Part) -> Pictures:
    reading = source.reading
    if (reading.task == "super-resolution") != (reading.scale is not None):
        raise UserError("--scale 2, 3 or 4 is for --task super-resolution, which needs it")
    if source.name in names():
        raise UserError(f"{source.name} is for classification; --task {reading.task} takes a folder of pictures")
    if reading.test_set is not None and reading.task != "super-resolution":
        raise UserError("--test-set is for --task super-resolution")
    path = Path(os.path.expanduser(source.name))
    if not source.name or not path.exists():
        raise UserError(f"{source.name}: there is no such folder")
    label = _plain_name(path)
    if reading.scale:
        label = " ".join([reading.test_set or label, f"{reading.scale}x"])
    return picture_folders.load(path, part, source, label)


def compare(train: Portion, test: Portion) -> None:
    """Raise UserError for a test part that can't test networks trained on `train`: the same images, or another kind."""
    if test.digest == train.digest:
        raise UserError(f"the test images of {train.label} are its training images: put others into test/")
    if isinstance(train, Split) and test.shape != train.shape:
        one, other = ("x".join(map(str, part.shape)) for part in (test, train))
        raise UserError(
            f"the test images of {train.label} are {one} (channels, height, width), those to train on {other}"
        )


def check_test(train: Portion, data_dir: Path | None = None) -> list[str]:
    """Find out before anything is trained whether a confirmation can test: its part is decoded, compared and let go.

    Returns lines that say what there is, and how many test images are training images, too. Raises UserError where
    there is no test part, or one that can't be used.
    """
    test = load(train.source, "test", data_dir)
    compare(train, test)
    lines = [f"{train.label}: {_described(train, test)}", *train.told]
    if common := _common(train, test):
        if common == len(test):
            raise UserError(f"all test images of {train.label} are training images, too: put others into test/")
        lines.append(f"warning: {common:,} of the {len(test):,} test images are training images, too")
    return lines


def kind_of_test(train: Portion, data_dir: Path | None = None) -> Portion:
    """The test images, for what depends on what kind of images they are, and on no network: a task may bring a target
    from them to validation images of another kind."""
    return load(train.source, "test", data_dir)


def _described(train: Portion, test: Portion) -> str:
    channels, height, width = train.shape
    size = f"{width} x {height} pixels, {'grey' if channels == 1 else 'colour'}"
    if not isinstance(test, Pictures):
        return f"{len(train):,} training and {len(test):,} test images of {len(train.classes)} classes, {size}"
    sets = dict.fromkeys(test.sets)
    tests = f"{len(test):,} test images"
    if len(sets) > 1:
        tests += f" ({', '.join(f'{name} {test.sets.count(name)}' for name in sets)}; {test.sets[0]} decides)"
    classes = f" of {len(train.classes)} classes" if train.classes else ""
    return f"{len(train):,} training and {tests}{classes}, the largest to train on {size}"


def _common(train: Portion, test: Portion) -> int:
    """How many test images are training images, too, pixel by pixel."""
    known = {hashlib.blake2b(image, digest_size=16).digest() for image in train.prints()}
    return sum(hashlib.blake2b(image, digest_size=16).digest() in known for image in test.prints())


def _split(source: Source, label: str, part: Part, arrays: Arrays, variant: Variant) -> Split:
    images, labels, classes, validation, skipped, told = arrays
    if len(images) != len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise UserError(
            f"{label}, {part}: {len(images):,} images and {len(labels):,} labels from "
            f"{int(labels.min())} to {int(labels.max())} do not fit {len(classes)} classes"
        )
    return Split(source.name, label, part, images, labels, classes, variant, source, validation, skipped, told)


def _plain_name(path: Path) -> str:
    name = path.resolve().name
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix) and path.is_file()), "")
    return name[: len(name) - len(suffix)] or name


def _load_folder(path: Path, part: Part, source: Source) -> Arrays:
    reading = source.reading
    contents = None if path.is_file() else contents_of(path)  # an archive's would take as long as reading it

    def build() -> dict[Part, Arrays]:
        found = folder.read(path, reading, contents)
        if part not in found:
            raise UserError(
                f"{path}: it has no test part; put images into test/<class>/ (and train/<class>/), or split one off by "
                "--test-split 0.2"
            )
        return found

    if contents is not None and len(contents.images) < decoded.FEWEST:
        return build()[part]
    if contents is not None:
        contents.check(reading.skip_unreadable)
    return cached(path, part, reading.model_dump_json(), folder.stamp(contents) if contents else stamp_of(path), build)


def _load_official(name: str, part: Part, data_dir: Path | None) -> Arrays:
    folder = fetch.locate(name, part, data_dir) or fetch.fetch(name, data_dir)
    try:
        return _read_official(name, part, folder)
    except UserError:
        if not folder.is_relative_to(fetch.cache_dir()):
            raise
        return _read_official(name, part, fetch.fetch(name, data_dir))  # it replaces what is damaged in the cache


def _read_official(name: str, part: Part, folder: Path) -> Arrays:
    official, classes = OFFICIAL[name], CLASSES[name]
    files = fetch.files_in(folder, official, part)
    if not files:
        raise UserError(f"{folder}: {official.label}'s files are gone; fetch them again")
    read = READERS["emnist" if name.startswith("emnist-") else name]

    def build() -> Arrays:
        images, labels = read(name, part, files)
        return Arrays(torch.from_numpy(np.array(images)), torch.from_numpy(labels.astype(np.int64)), classes)

    path, file = files[0]
    if file.part is None:  # an archive of both parts takes a while to unpack
        return cached(path, part, name, stamp_of(path), lambda: {part: build()})
    return build()


Files = Sequence[tuple[Path, File]]


def _read_idx_pair(name: str, part: Part, files: Files) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (read_idx(fetch.read_verified(path, file), str(path)) for path, file in files)
    return images[:, None], labels


def _read_cifar10(name: str, part: Part, files: Files) -> tuple[np.ndarray, np.ndarray]:
    """The binary archive, the Python archive or its unpacked batches: the same images in the same order."""
    path, file = files[0]
    if file.part is not None:
        batches = [read_cifar_python(fetch.read_verified(path, file), str(path)) for path, file in files]
    else:
        fetch.verify(path, file)
        binary = file.name == "cifar-10-binary.tar.gz"
        stems = [f"data_batch_{n}" for n in range(1, 6)] if part == "train" else ["test_batch"]
        members = [f"cifar-10-batches-bin/{stem}.bin" if binary else f"cifar-10-batches-py/{stem}" for stem in stems]
        content = _members(path, members)
        read = read_cifar_binary if binary else read_cifar_python
        batches = [read(content[member], f"{path}: {member}") for member in members]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def _read_emnist(name: str, part: Part, files: Files) -> tuple[np.ndarray, np.ndarray]:
    """EMNIST (Cohen et al. 2017) stores its images transposed and counts its letters from 1."""
    ((path, file),) = files
    fetch.verify(path, file)
    members = [f"gzip/{name}-{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    content = _members(path, members)
    images, labels = (read_idx(unzip_idx(content.pop(member), member), f"{path}: {member}") for member in members)
    if images.ndim != 3 or labels.ndim != 1:
        raise UserError(f"{path}: {members[0]} holds no images")
    first = 1 if name == "emnist-letters" else 0
    return images.transpose(0, 2, 1)[:, None], labels.astype(np.int64) - first


def _members(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    found = {
        name: content
        for name, content in read_members(path, set(names).__contains__, MAX_OFFICIAL_MEMBER)
        if content is not None
    }
    if missing := set(names) - set(found):
        raise UserError(f"{path}: lacks {min(missing)}")
    return found


READERS: dict[str, Callable[[str, Part, Files], tuple[np.ndarray, np.ndarray]]] = {
    "mnist": _read_idx_pair,
    "fashion-mnist": _read_idx_pair,
    "cifar10": _read_cifar10,
    "emnist": _read_emnist,
}
