"""What a network sees of the examples: augmented images in training, prepared ones at test, in batches.

What is random about an image follows from the seed, the phase, the epoch and the image's place in the epoch, and from
nothing else: neither from how many processes or workers there are, nor from where a training was interrupted.
"""

import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from search.benchmark.examples import Examples
from search.benchmark.recipe import Recipe
from search.benchmark.setup import Share
from search.benchmark.shards import Shards
from search.data.split import IGNORED
from search.errors import UserError

NOBODY = -1  # the number of an example that fills up a process's share, and the label of its image
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's documentation of its pretrained networks
MEASURED = 2000  # images that normalisation is measured on
UNREADABLE = (OSError, ValueError, RuntimeError, LookupError)  # what readers of images and files raise
ENLARGED = 8 / 7  # 256 / 224, of which the middle is tested


def seed_of(*parts: int) -> int:
    """A seed for torch that these numbers decide."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "little")


@dataclass(frozen=True)
class Draws:
    """The batches of one epoch from one step on, as this process takes them: (number of the example, its seed) each.

    A step's images are a stretch of the epoch's permutation; the processes take equal parts of it in their order.
    """

    count: int
    batch: int
    seed: tuple[int, ...]
    share: Share
    start: int = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed_of(*self.seed))).tolist()
        width = self.batch // (self.share.world * self.share.accumulate)
        for step in range(self.start, self.count // self.batch):
            for part in range(self.share.accumulate):
                first = step * self.batch + (part * self.share.world + self.share.rank) * width
                yield [(order[place], seed_of(*self.seed, place)) for place in range(first, first + width)]

    def __len__(self) -> int:
        return max(0, self.count // self.batch - self.start) * self.share.accumulate


class View(Dataset):
    """Examples as the network sees them. An item is asked for by its number and, in training, a seed.

    Items are (image (C, H, W) uint8, target). What can't be read is an item, too: the sentence that says so, as an
    exception would come out of a worker with the worker's traceback.
    """

    def __init__(self, examples: Examples, recipe: Recipe, channels: int, masks: bool, training: str | None = None):
        """`training`: "all", or "flips" alone; None at test."""
        self.examples, self.recipe, self.channels, self.masks = examples, recipe, channels, masks
        self.training = training
        self._transform = None

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, asked: int | tuple[int, int]) -> Any:
        number, seed = asked if isinstance(asked, tuple) else (asked, None)
        try:
            return self.seen(self.examples[max(number, 0)], seed, number == NOBODY)
        except UNREADABLE as error:
            return f"image {number} can't be used: {' '.join(str(error).split())[:200]}"

    def seen(self, example: tuple[Any, Any], seed: int | None, nobody: bool = False) -> tuple[Tensor, Any]:
        """An example as the network sees it; that of `nobody` is counted by no score."""
        from torchvision.tv_tensors import Mask

        image, target = pixels(example[0], self.channels), example[1]
        if self.masks:
            target = torch.as_tensor(target)
            if target.shape != image.shape[-2:]:
                raise ValueError(f"its mask is {tuple(target.shape)}, the image {tuple(image.shape[-2:])}")
            target = Mask(torch.full_like(target, IGNORED) if nobody else target)
        transform = self.transform()
        if seed is None:
            image, target = transform(image, target)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                image, target = transform(image, target)
        if self.masks:
            return image.as_subclass(Tensor), target.as_subclass(Tensor)
        return image.as_subclass(Tensor), NOBODY if nobody else int(target)

    def check(self) -> None:
        """Raise UserError for images that can't be used, where that can be told without decoding all."""

    def transform(self) -> Any:
        """Made when it is first needed, in the worker."""
        if self._transform is None:
            self._transform = _transform(self.recipe, self.training)
        return self._transform


def pixels(image: Any, channels: int) -> Tensor:
    """An image as (channels, H, W), uint8, grey and colour made of each other."""
    from torchvision.transforms.v2 import functional

    if not isinstance(image, Tensor):
        image = image.convert("L" if channels == 1 else "RGB")
    image = functional.to_image(image)
    if image.shape[0] == channels:
        return image
    return functional.rgb_to_grayscale(image) if channels == 1 else functional.grayscale_to_rgb(image)


def _transform(recipe: Recipe, training: str | None) -> Any:
    from torchvision.transforms import v2

    steps: list[Any] = []
    size = list(recipe.size or ())
    everything = training == "all"
    if recipe.fit == "stretch":
        steps.append(v2.Resize(size, antialias=True))
    elif recipe.fit == "resized-crop" and everything:
        steps.append(v2.RandomResizedCrop(size, (recipe.area, 1.0), antialias=True))
    elif recipe.fit == "resized-crop":
        steps += [v2.Resize(round(min(size) * ENLARGED), antialias=True), v2.CenterCrop(size)]
    elif recipe.fit == "pad-crop" and everything:
        steps.append(v2.RandomCrop(size, padding=recipe.padding, padding_mode="reflect"))
    elif recipe.fit == "crop" and training:
        if recipe.scale and everything:
            sizes = 1 - recipe.scale, 1 + recipe.scale
            smooth = v2.InterpolationMode.BILINEAR
            steps.append(v2.RandomAffine((0.0, 0.0), scale=sizes, interpolation=smooth, fill=_fills()))
        steps.append(v2.RandomCrop(size, pad_if_needed=True, fill=_fills()))
    if recipe.flip and training:
        steps.append(v2.RandomHorizontalFlip())
    if everything and recipe.colour:
        steps.append(v2.ColorJitter(recipe.colour, recipe.colour, recipe.colour))
    if everything and recipe.auto:
        steps.append(v2.TrivialAugmentWide() if recipe.auto == "trivial" else v2.RandAugment())
    return v2.Compose(steps) if steps else v2.Identity()


def _fills() -> Any:
    """What lies outside an image: black, and in its mask no class."""
    from torchvision.tv_tensors import Image, Mask

    return {Image: 0, Mask: IGNORED}


def collated(items: list[Any]) -> Any:
    """A batch of examples: images (N, C, H, W), uint8, and targets; or the sentence that says what is wrong."""
    if broken := [item for item in items if isinstance(item, str)]:
        return broken[0]
    shapes = sorted({tuple(image.shape) for image, _ in items})
    if len(shapes) > 1:
        return (
            f"images of a batch have several sizes, such as {shapes[0]} and {shapes[1]}: the recipe's fit can say one"
        )
    return torch.stack([image for image, _ in items]), torch.stack([torch.as_tensor(target) for _, target in items])


def mixed(images: Tensor, labels: Tensor, recipe: Recipe, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) of floats and their classes (N,), each mixed with its neighbour of the batch, the first with
    the second and so on, by torchvision's MixUp or CutMix; labels are shares (N, classes) then.

    Pairs are never divided among processes, and what is random about pair k follows from `seed` + k.
    """
    from torchvision.transforms import v2

    kinds = [
        kind(num_classes=classes, alpha=alpha)
        for kind, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
        if alpha
    ]
    pairs = []
    with torch.random.fork_rng(devices=[]):
        for pair in range(len(images) // 2):
            torch.manual_seed(seed + pair)
            kind = kinds[int(torch.randint(len(kinds), ()))]
            pairs.append(kind(images[2 * pair : 2 * pair + 2], labels[2 * pair : 2 * pair + 2]))
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


def loader(view: View, batches: Sequence | Draws, workers: int, pinned: bool = False) -> DataLoader:
    """Batches of a view, decoded in `workers` processes (0: in this one)."""
    if isinstance(view.examples, Shards):
        stream = Streamed(view, view.examples, batches)
        single = min(workers, 1) if not isinstance(batches, Draws) else workers
        return DataLoader(stream, batch_size=None, num_workers=single, pin_memory=pinned, worker_init_fn=_deaf)
    return DataLoader(
        view,
        batch_sampler=batches,  # pyright: ignore[reportArgumentType]
        collate_fn=collated,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_deaf,
    )


class Streamed(IterableDataset):
    """The batches of a view whose examples are streamed: those of an epoch, or of numbers that ascend."""

    def __init__(self, view: View, shards: Shards, batches: Sequence | Draws):
        self.view, self.shards, self.batches = view, shards, batches

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._drawn(self.batches) if isinstance(self.batches, Draws) else self._in_order(self.batches)
        except UNREADABLE as error:
            yield f"the shards can't be read: {' '.join(str(error).split())[:200]}"

    def _drawn(self, draws: Draws) -> Iterator[Any]:
        worker = get_worker_info()
        here, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        share, seed = draws.share, seed_of(*draws.seed, draws.start)
        part = share.rank * workers + here
        samples = self.shards.endless(seed, part, share.world * workers)
        width = draws.batch // (share.world * share.accumulate)
        for number in range(here, len(draws), workers):
            seeds = (seed_of(seed, part, number, place) for place in range(width))
            yield collated([self.view.seen(next(samples), each) for each in seeds])

    def _in_order(self, batches: Sequence) -> Iterator[Any]:
        samples = self.shards.chosen([number for batch in batches for number in batch if number != NOBODY])
        last: Any = None
        for batch in batches:
            items = []
            for number in batch:
                last = last if number == NOBODY and last is not None else next(samples)[1]
                items.append(self.view.seen(last, None, number == NOBODY))
            yield collated(items)


def _deaf(worker: int) -> None:
    """A worker ends when the training does; Ctrl-C, which reaches it too, is for that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def whole(batch: Any) -> tuple[Tensor, Tensor]:
    """A batch that has been read. Raises UserError for one that could not be."""
    if isinstance(batch, str):
        raise UserError(batch)
    return batch


def in_order(count: int, batch: int, share: Share) -> list[list[int]]:
    """All examples in batches, the share of one process of several: all have as many batches, of equal sizes, as those
    of networks whose weights are divided have to run at once. What is too much is NOBODY."""
    mine = list(range(share.rank, count, share.world))
    mine += [NOBODY] * (-(-count // share.world) - len(mine))
    return [mine[first : first + batch] for first in range(0, len(mine), batch)]


def measured(view: View, workers: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel over evenly spread images as they are prepared for a test, on 0 to 1.

    Raises UserError for an image that can't be read.
    """
    count = min(MEASURED, len(view))
    apart = 1 if isinstance(view.examples, Shards) else len(view) / count  # a stream's first ones
    numbers = [int(place * apart) for place in range(count)]
    total, squares, seen = torch.zeros(view.channels).double(), torch.zeros(view.channels).double(), 0
    for batch in loader(view, [[number] for number in numbers], workers):
        values = whole(batch)[0].double() / 255
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
        seen += values[:, 0].numel()
    mean = total / seen
    deviation = (squares / seen - mean.square()).clamp_min(1e-12).sqrt()
    return mean.tolist(), deviation.tolist()
