"""One part of a data set in memory: images, labels, and what is known of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import torch

from search.data.source import Part, Source, Variant
from search.errors import UserError

IGNORED = 255  # the label of a pixel that has no class
Colour = tuple[int, int, int]
OF_NAME = Source("")  # what stands for the source of a split that is given none: its name alone


class Portion(ABC):
    """One part of a data set, whatever its examples are.

    Attributes:
        name: what `load` was called with.
        label: what tables print: "MNIST", "CIFAR-10 (JPEG copy)", a folder's own name.
        part: "train" or "test"; a validation set split off the training part stays "train".
        classes: names in the order of the labels.
        variant: "official" (digests checked), "jpeg" (recompressed copy) or "folder".
        source: what `load` was called with, and how its files were read.
        validation: so many images, the last ones, are a validation part of the data's own.
        skipped: files that could not be read and were left out.
        told: lines about what was read and what was left out.
        digest: SHA-256, hexadecimal, over what the examples are (computed).
    """

    name: str
    label: str
    part: Part
    classes: tuple[str, ...]
    variant: Variant
    source: Source
    validation: int
    skipped: int
    told: tuple[str, ...]
    digest: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image, of the largest where they differ."""

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def prints(self) -> Iterable[bytes]:
        """The pixels of each image, for finding those that are the same."""

    @abstractmethod
    def chosen(self, index: torch.Tensor) -> Self:
        """The images of these numbers (N,), none of which is kept for validation."""


@dataclass(frozen=True, eq=False)
class Split(Portion):
    """Images with a class each, all of one size.

    Attributes: those of a portion, and
        images: uint8 tensor (N, C, H, W).
        labels: int64 tensor (N,), indices into `classes`.
    """

    name: str
    label: str
    part: Part
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    variant: Variant
    source: Source = OF_NAME
    validation: int = 0
    skipped: int = 0
    told: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", Source(self.name) if self.source is OF_NAME else self.source)
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError("images must be a uint8 tensor (N, C, H, W)")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError("labels must be an int64 tensor (N,)")
        object.__setattr__(self, "digest", digest_of(self.images, self.labels))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def prints(self) -> Iterable[bytes]:
        return (image.tobytes() for image in self.images.numpy())

    def chosen(self, index: torch.Tensor) -> Self:
        return replace(self, images=self.images[index], labels=self.labels[index], validation=0)


Some = TypeVar("Some", bound=Portion)


def split_validation(split: Some, count: int, seed: int) -> tuple[Some, Some]:
    """Split `count` images off for validation, by a plain seeded permutation (not stratified).

    Where the data have a validation part of their own it is that one, whatever `count` and `seed`. Both parts keep the
    order of `split`; the same split, count and seed give the same parts.

    Returns:
        The remaining training images and the validation images.
    Raises:
        UserError: `count` does not leave at least one image in each.
    """
    count = split.validation or count
    if not 0 < count < len(split):
        raise UserError(
            f"{count} validation images cannot be split off {split.label}'s {len(split)}; choose 1 to {len(split) - 1}"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    if split.validation:
        order = torch.arange(len(split)).flip(0)
    validation, train = order[:count].sort().values, order[count:].sort().values
    return split.chosen(train), split.chosen(validation)


def digest_of(images: torch.Tensor, labels: torch.Tensor) -> str:
    """SHA-256, hexadecimal, over the bytes of images and labels."""
    sha = hashlib.sha256()
    for tensor in (images, labels):
        sha.update(tensor.detach().cpu().contiguous().numpy().data.cast("B"))
    return sha.hexdigest()
