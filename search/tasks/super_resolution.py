"""Super-resolution: an image 2, 3 or 4 times as large from one that was made small, judged by PSNR on luma.

As the field measures it since SRCNN (Dong et al., ECCV 2014): the low resolution is made from the high one by bicubic
reduction with antialiasing, as MATLAB's `imresize` does it, and stored in 8 bits; networks see and give the luma Y of
ITU-R BT.601; PSNR is of Y rounded to 8 bits, with as many pixels cut off at every border as the scale. Images are cut
to multiples of the scale first.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search import signals
from search.data.pictures import Pictures
from search.data.split import Portion
from search.errors import UserError
from search.metrics.super_resolution import RANGE, compared, cropped, imresize, reduced, smallest
from search.tasks import losses
from search.tasks.patches import Examples, interleaved
from search.tasks.pixel_task import Loss, PixelTask, pictures
from search.tasks.score import MOST_DECIBELS
from search.tasks.task import Measured
from search.training.recipe import Recipe
from wavemix.config import LiteConfig, Views
from wavemix.heads import Enlarged


class SuperResolution(PixelTask):
    """Images alone; the low resolution is made of them."""

    name = "super-resolution"
    losses = tuple(losses.OF_IMAGES)

    def own(self, data: Portion) -> dict[str, Any]:
        return {"in_channels": 1}

    def choices(self, data: Portion) -> dict[str, tuple]:
        return {
            "final_dim": (4, 8, 12, 16, 20, 24, 32, 40),
            "initial_conv": ("strided", "single", "separable"),
            "stride": ("1,1",),
            "patch_size": (4,),
            "pad": (0,),
            "activation": ("relu", "gelu"),
            "stem_activation": (True,),
            "norm": ("scale",),
        }

    def heads(self, data: Portion) -> dict[str, dict[str, Any]]:
        common = {"task": self.name, "scale": _scale(data), "bicubic": True, "activation": True}
        return {
            "shuffle3": common | {"kind": "shuffle", "kernel": 3},
            "shuffle1": common | {"kind": "shuffle", "kernel": 1},
            "transposed": common | {"kind": "transposed"},
        }

    def views(self, recipe: Recipe) -> tuple[Views, ...]:
        return ("eight", "one") if recipe.flip and recipe.turns else super().views(recipe)

    def image(self, data: Portion) -> tuple[int, int, int]:
        _, height, width = data.shape
        return 1, height // _scale(data), width // _scale(data)

    def recipe(self, data: Portion, parameters: int) -> Recipe:
        """Patches of 32 low-resolution pixels, flipped and turned, as is usual; the rest is tried in
        results/pages/tasks.md."""
        return Recipe(
            epochs=20,
            batch_size=16,
            optimizer="adamw",
            lr=0.01,
            patch=32,
            patches=8,
            flip=True,
            turns=True,
            average=0.05,
        )

    def validation_count(self, data: Portion) -> int:
        return max(1, len(data) // 10)

    def check(self, config: LiteConfig, recipe: Recipe, data: Portion) -> None:
        super().check(config, recipe, data)
        scale = getattr(config.head, "scale", None)
        if scale != _scale(data):
            raise UserError(f"the network enlarges {scale} times, --scale is {_scale(data)}: change one of them")

    def check_recipe(self, recipe: Recipe, data: Portion) -> None:
        super().check_recipe(recipe, data)
        if recipe.colour or not recipe.patch:
            raise UserError("super-resolution is trained on patches that are not recoloured: set patch, not colour")

    def sizes(self, data: Pictures) -> list[tuple[int, int]]:
        return [(height // _scale(data), width // _scale(data)) for height, width in super().sizes(data)]

    def threshold(self, target: float, validation: Portion, test: Callable[[], Portion] | None) -> float:
        """What is gained over bicubic enlargement on the test images, brought to the validation images.

        A decibel is not worth the same on both: what bicubic enlargement gains over bilinear one on either is the
        yardstick. No network has to do with it. It agrees with what is published: SRCNN gains 3.00 dB on Set5, 2.21 on
        Set14 and 1.80 on BSD100 at 2x (Dong et al. 2016, table 3), in proportion to Set5's 0.74 and 0.60; the yardstick
        has 0.75 and, on the 68 images of CBSD68, 0.63.
        """
        if test is None:
            return target
        tested = pictures(test())
        deciding = tested.chosen(torch.tensor([i for i, name in enumerate(tested.sets) if name == tested.sets[0]]))
        (here, gain_here), (there, gain_there) = yardstick(pictures(validation)), yardstick(deciding)
        share = gain_here / gain_there if min(gain_here, gain_there) > 0 else 1.0
        return here + (target - there) * share

    def examples(self, data: Pictures) -> Examples:
        scale = _scale(data)
        inputs, targets = [], []
        for low, high in pairs(data, scale):
            inputs.append((low / RANGE).float()[None])
            targets.append((high / RANGE).float()[None])
        return Examples(tuple(inputs), tuple(targets), scale, *_spread(inputs))

    def network(self, config: LiteConfig) -> nn.Module:
        network = super().network(config)
        head = getattr(network, "expand", None)
        if isinstance(head, Enlarged):
            head.add_nothing()
        return network

    def normalisation(self, data: Portion) -> tuple[Tensor, Tensor]:
        """Of the luma at low resolution. Edges are a few per cent of white: beside a mean of 45 % an activation is
        nearly linear for them (results/pages/tasks.md)."""
        examples = self.examples(pictures(data))
        return examples.mean, examples.deviation

    def loss(self, recipe: Recipe, data: Pictures) -> Loss:
        return losses.OF_IMAGES[recipe.loss or "charbonnier"]

    @torch.no_grad()
    def judged(self, network: nn.Module, examples: Examples, data: Pictures, beside: bool) -> Measured:
        device = next(network.parameters()).device
        values: dict[str, list[tuple[float, float]]] = {}
        for low, high, name in zip(examples.inputs, examples.targets, data.sets):
            signals.check()
            found = network(interleaved(examples.normalised(low[None]).to(device)))
            found = examples.restored(found)[0, 0].cpu() * RANGE
            decibels, alike = compared(found, high[0] * RANGE, examples.factor, beside)
            values.setdefault(name, []).append((min(decibels, MOST_DECIBELS), alike))
        means = {name: [math.fsum(column) / len(column) for column in zip(*rows)] for name, rows in values.items()}
        found = Measured([means[data.sets[0]][0]])
        if beside:
            for name, (decibels, alike) in means.items():
                found.beside |= {f"PSNR {name}": [decibels], f"SSIM {name}": [alike]}
        return found


TASK = SuperResolution()


def _spread(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all pixels of images (1, h, w), each (1,)."""
    values = torch.cat([image.flatten() for image in images]).double()
    return values.mean()[None].float(), values.std(correction=0).clamp_min(1e-3)[None].float()


def _scale(data: Portion) -> int:
    scale = data.source.reading.scale
    if scale is None:
        raise UserError("--scale 2, 3 or 4 is needed for --task super-resolution")
    return scale


def pairs(data: Pictures, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each image the luma at low resolution (h, w), not rounded, of an image stored in 8 bits, and at high
    resolution (scale h, scale w), rounded to 8 bits; float64 from 16 to 235. Raises UserError for one too small."""
    for image, name in zip(data.images, data.names):
        signals.check()
        high = cropped(image, scale)
        height, width = high.shape[-2:]
        if min(height, width) < smallest(scale):
            raise UserError(
                f"{name} of {data.label} is {image.shape[-1]} x {image.shape[-2]} pixels: super-resolution {scale}x "
                f"needs at least {smallest(scale)} both ways"
            )
        yield reduced(high, scale)


def yardstick(data: Pictures) -> tuple[float, float]:
    """The mean PSNR of bicubic enlargement on the images, and by how much it exceeds that of bilinear enlargement."""
    scale, plain, gains = _scale(data), [], []
    for low, high in pairs(data, scale):
        bicubic = imresize(low, *high.shape)
        bilinear = F.interpolate(low[None, None], list(high.shape), mode="bilinear", align_corners=False)[0, 0]
        smooth, sharp = (compared(made, high, scale, structure=False)[0] for made in (bilinear, bicubic))
        plain.append(min(sharp, MOST_DECIBELS))
        gains.append(plain[-1] - min(smooth, MOST_DECIBELS))
    return math.fsum(plain) / len(plain), math.fsum(gains) / len(gains)
