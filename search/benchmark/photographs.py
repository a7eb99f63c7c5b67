"""Photographs for super-resolution: files in folders, and the pairs of small and large that are made of them.

As the field measures it since SRCNN (`search.metrics.super_resolution`), and as searches of this project do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from search.benchmark.examples import Examples, Parts
from search.benchmark.recipe import Recipe
from search.benchmark.views import View, pixels
from search.data.pixels import SUFFIXES, read
from search.errors import UserError
from search.metrics.super_resolution import cropped, imresize, reduced, smallest

TEST_SETS = ("Set5", "Set14", "BSD100", "CBSD68", "Urban100")  # all that are there are tested
MARGIN = 3  # low-resolution pixels around a patch that the bicubic kernel reaches, and one


class Photographs:
    """The image files of a folder, decoded when they are asked for; an item is (image (1 or 3, H, W), uint8, 0).

    Raises UserError where there is no such folder, or it has no images.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UserError(f"there is no {folder.name}/")
        self.paths = [str(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
        if not self.paths:
            raise UserError(f"{folder.name}/ has no images")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        path = Path(self.paths[number])
        try:
            found = torch.from_numpy(read(path.read_bytes()).copy())
        except UserError as error:
            raise ValueError(f"{path.name}: {error}") from error
        return (found[None] if found.ndim == 2 else found.permute(2, 0, 1)), 0

    def size(self, number: int) -> tuple[int, int]:
        """Height and width, by the file's first bytes alone; turned as it is stored. Raises UserError."""
        try:
            with Image.open(self.paths[number]) as image:
                return image.height, image.width
        except OSError as error:
            raise UserError(f"{self.paths[number]}: unreadable image; replace or remove it") from error


def folders(root: Path, train: Sequence[str], validation: str | None, test: str) -> Parts:
    """Parts of folders below `root`; several training folders are one, and the other test sets are tested beside."""
    found = [Photographs(root / name) for name in train]
    for more in found[1:]:
        found[0].paths += more.paths
    beside: Mapping[str, Examples] = {
        name: Photographs(root / name) for name in TEST_SETS if name != Path(test).name and (root / name).is_dir()
    }
    kept = Photographs(root / validation) if validation else None
    return Parts(found[0], Photographs(root / test), (), kept, beside=beside)


class Enlarging(View):
    """Photographs as a network for `scale`x sees them: (the small image (C, h, w), float32 of 0 to 255, the image
    (C, scale h, scale w), uint8), with C 1 their luma, with C 3 RGB. Grey images go with coloured ones.

    The luma of a small image is that of its 8 bits, not rounded again.
    """

    def __init__(self, examples: Examples, recipe: Recipe, channels: int, scale: int, training: str | None = None):
        super().__init__(examples, recipe, channels, False, training)
        self.scale = scale

    def seen(self, example: tuple[Any, Any], seed: int | None, nobody: bool = False) -> tuple[Tensor, Any]:
        image = cropped(pixels(example[0], 3).as_subclass(Tensor), self.scale)
        if seed is None:
            low, high = self._pair(image)
            return low, high.new_empty(len(high), 0, 0) if nobody else high
        chance = torch.Generator().manual_seed(seed)
        low, high = self._patch(image, chance) if self.recipe.fit == "crop" else self._pair(image)
        if self.recipe.flip and _drawn(2, chance):
            low, high = low.flip(-1), high.flip(-1)
        if self.recipe.turns and self.training == "all":
            times = _drawn(4, chance)
            low, high = low.rot90(times, (-2, -1)), high.rot90(times, (-2, -1))
        return low, high

    def _patch(self, image: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        """A part of the whole image's pair, for which only what is around it is made small."""
        assert self.recipe.size is not None
        places = []
        for side, edge in zip(image.shape[-2:], self.recipe.size):
            if edge * self.scale > side:
                raise ValueError(f"a patch of {edge * self.scale} pixels is larger than its {side}")
            first = _drawn(side // self.scale - edge + 1, chance)
            places.append((first, min(first, MARGIN), edge))
        (top, above, rows), (left, beside, columns) = places
        around = [
            slice(self.scale * (first - before), self.scale * (first + edge + MARGIN)) for first, before, edge in places
        ]
        low, high = self._pair(image[:, around[0], around[1]])
        low = low[:, above : above + rows, beside : beside + columns]
        above, rows, beside, columns = (self.scale * number for number in (above, rows, beside, columns))
        return low, high[:, above : above + rows, beside : beside + columns]

    def _pair(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self.channels == 1:
            low, high = reduced(image, self.scale)
            return low.float()[None], high.byte()[None]
        height, width = image.shape[-2:]
        return imresize(image, height // self.scale, width // self.scale).float(), image

    def check(self) -> None:
        least = smallest(self.scale), smallest(self.scale)
        if self.training and self.recipe.fit == "crop" and self.recipe.size:
            least = self.recipe.size[0] * self.scale, self.recipe.size[1] * self.scale
        sizes = set()
        for number in range(len(self.examples)):
            photographs, place = _origin(self.examples, number)
            height, width = photographs.size(place)
            sizes.add((height, width))
            if height < least[0] or width < least[1]:
                name = Path(photographs.paths[place]).name
                raise UserError(f"{name} is {width} x {height} pixels: at least {least[1]} x {least[0]} are needed")
        if self.training and self.recipe.fit == "as-is" and self.recipe.batch > 1 and len(sizes) > 1:
            raise UserError("images have several sizes: the recipe has to crop them, or take them one by one (batch 1)")


def _drawn(choices: int, chance: torch.Generator) -> int:
    return int(torch.randint(choices, (), generator=chance))


def _origin(examples: Any, number: int) -> tuple[Photographs, int]:
    """The photographs that an example has been chosen from, and its number there."""
    while isinstance(examples, Subset):
        examples, number = examples.dataset, examples.indices[number]
    return examples, number
