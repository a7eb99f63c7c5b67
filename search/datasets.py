"""Data sets as one thing: a `Split` of images and labels, loaded by name or from a folder of images.

The training and the test part are loaded by separate calls, from separate files, so that a search cannot touch
the test part by accident.
"""

import hashlib
import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from search import fetch
from search.errors import UserError
from search.fetch import EMNIST_PARTS, Part
from search.formats import read_idx

Variant = Literal["official", "jpeg", "folder"]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                   "Ankle boot")


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        name: what `load` was called with.
        label: what tables print: "MNIST", "CIFAR-10 (JPEG copy)", a folder's own name.
        part: "train" or "test"; a validation set split off the training part stays "train".
        images: uint8 tensor (N, C, H, W).
        labels: int64 tensor (N,), indices into `classes`.
        classes: names in the order of the labels.
        variant: "official" (digests checked), "jpeg" (recompressed copy) or "folder".
        digest: SHA-256, hexadecimal, over the bytes of images and labels (computed).
    """

    name: str
    label: str
    part: Part
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    variant: Variant
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError("images must be a uint8 tensor (N, C, H, W)")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError("labels must be an int64 tensor (N,)")
        sha = hashlib.sha256()
        for tensor in (self.images, self.labels):
            sha.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B"))
        object.__setattr__(self, "digest", sha.hexdigest())

    def __len__(self) -> int:
        return len(self.labels)


def split_validation(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """Split `count` images off for validation, by a plain seeded permutation (not stratified).

    Both parts keep the order of `split`; the same split, count and seed give the same parts (their digests tell).

    Returns:
        The remaining training images and the validation images.
    Raises:
        UserError: `count` does not leave at least one image in each.
    """
    if not 0 < count < len(split):
        raise UserError(f"{count} validation images cannot be split off {split.label}'s {len(split)}; "
                        f"choose 1 to {len(split) - 1}")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    validation, train = order[:count].sort().values, order[count:].sort().values
    return (replace(split, images=split.images[train], labels=split.labels[train]),
            replace(split, images=split.images[validation], labels=split.labels[validation]))


Arrays = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W) uint8, labels (N,)


@dataclass(frozen=True)
class Reader:
    """How a registered data set is read: `read(found, part)` gets the verified files' paths."""

    read: Callable[[str, Part, Path], Arrays]
    classes: tuple[str, ...]


def _read_idx_pair(name: str, part: Part, folder: Path) -> Arrays:
    official = fetch.OFFICIAL[name]
    paths = fetch.files_in(folder, official, part) or []
    images, labels = (read_idx(fetch.read_verified(path, file), str(path)) for path, file in paths)
    return images[:, None], labels


READERS: dict[str, Reader] = {
    "mnist": Reader(_read_idx_pair, tuple(string.digits)),
    "fashion-mnist": Reader(_read_idx_pair, FASHION_CLASSES),
}


def load(name: str, part: Part, data_dir: Path | None = None) -> Split:
    if part not in get_args(Part):
        raise UserError(f"part {part!r} is neither 'train' nor 'test'")
    if name not in READERS:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(READERS)}")
    reader, official = READERS[name], fetch.OFFICIAL[name]
    folder = fetch.locate(name, part, data_dir) or fetch.fetch(name, data_dir)
    images, labels = reader.read(name, part, folder)
    return Split(name, official.label, part, torch.from_numpy(np.array(images)),
                 torch.from_numpy(labels.astype(np.int64)), reader.classes, "official")
