"""One part of a data set for a task on pixels: pictures of any sizes, with a mask each where they are segmented."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from search.data.source import Part, Source, Variant
from search.data.split import Colour, Portion


@dataclass(frozen=True, eq=False)
class Pictures(Portion):
    """Pictures in memory.

    Attributes: those of a portion, and
        images: uint8 tensors (C, H, W), all of one number of channels.
        masks: of each its uint8 labels (H, W), indices into `classes` or IGNORED; empty where there are none.
        names: of each the stem of its file.
        sets: of each the name of the set it belongs to; the first set is the one that decides.
        colours: of each class, for showing it.
    """

    name: str
    label: str
    part: Part
    images: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    names: tuple[str, ...]
    sets: tuple[str, ...]
    source: Source
    classes: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    variant: Variant = "folder"
    validation: int = 0
    skipped: int = 0
    told: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.masks and [m.shape for m in self.masks] != [i.shape[-2:] for i in self.images]:
            raise ValueError("every image needs a mask of its size")
        if not len(self.images) == len(self.names) == len(self.sets):
            raise ValueError("every image needs a name and a set")
        object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        """SHA-256, hexadecimal, over shapes and bytes of images and masks, in their order, and the sets they are in."""
        sha = hashlib.sha256(repr(self.sets).encode())
        for tensor in (*self.images, *self.masks):
            sha.update(repr(tuple(tensor.shape)).encode())
            sha.update(tensor.contiguous().numpy().data.cast("B"))
        return sha.hexdigest()

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = max((i.shape for i in self.images), key=lambda shape: shape.numel())
        return channels, height, width

    @property
    def deciding(self) -> int:
        """How many images are in the set that decides."""
        return sum(name == self.sets[0] for name in self.sets)

    def __len__(self) -> int:
        return len(self.images)

    def prints(self) -> Iterable[bytes]:
        return (image.numpy().tobytes() for image in self.images)

    def chosen(self, index: Tensor) -> Self:
        numbers = index.tolist()

        def of(items: tuple) -> tuple:
            return tuple(items[number] for number in numbers) if items else ()

        held = {name: of(getattr(self, name)) for name in ("images", "masks", "names", "sets")}
        return replace(self, **held, validation=0)


def one_size(images: Iterable[Tensor]) -> bool:
    """Whether all have the same height and width."""
    return len({image.shape[-2:] for image in images}) == 1


def stacked(images: Iterable[Tensor]) -> Tensor:
    """(N, ...) of images of one size."""
    return torch.stack(list(images))
