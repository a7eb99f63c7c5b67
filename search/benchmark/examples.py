"""Images with what they are labelled as, in memory or read one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from search.benchmark.shards import Shards
from search.errors import UserError


class Examples(Protocol):
    """Images with what they are labelled as: a class's number, or a mask (H, W), uint8, of classes and 255 for none;
    0 where the image itself is the target.

    An image is one of Pillow's, or a uint8 tensor (C, H, W).
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Parts:
    """Training, test and (where the data have such a part) validation examples, and the names of the classes.

    `split`: how the test part was made, where the data have none. `beside`: further test sets by name.
    """

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    validation: Examples | None = None
    split: str = ""
    beside: Mapping[str, Examples] = field(default_factory=dict)


class Stored:
    """Examples in memory."""

    def __init__(self, images: Sequence[torch.Tensor] | torch.Tensor, targets: Sequence[torch.Tensor] | torch.Tensor):
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        target = self.targets[number]
        return self.images[number], int(target) if target.ndim == 0 else target


class Changed:
    """Examples whose images or targets are stored otherwise than they are meant."""

    def __init__(self, examples: Examples, image: Callable = lambda x: x, target: Callable = lambda x: x):
        self.examples, self.image, self.target = examples, image, target

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        image, target = self.examples[number]
        return self.image(image), self.target(target)


def chosen(examples: Any, numbers: Sequence[int]) -> Any:
    """Those of these numbers. Raises UserError for examples that are streamed."""
    if isinstance(examples, Shards):
        raise UserError("images can't be chosen from shards: list fewer shards in shards.json")
    return torch.utils.data.Subset(examples, list(numbers))


def divided(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """All but a share of the examples, and the share, by a seeded permutation; each keeps the order of `examples`."""
    if isinstance(examples, Shards):
        return examples.divided(share, seed)
    count = max(1, round(share * len(examples)))
    if not 0 < count < len(examples):
        raise UserError(f"of {len(examples)} images none can be split off")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    kept, off = order[count:].sort().values.tolist(), order[:count].sort().values.tolist()
    return chosen(examples, kept), chosen(examples, off)
