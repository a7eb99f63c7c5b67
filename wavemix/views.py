"""Views of an image: what a network makes of an image and of its likes, averaged, in evaluation.

No parameter is added; a forward pass takes as many times the multiply-accumulates as there are views. Training is of
one view, whose augmentation shows the others. Averaging a classifier over shifted and mirrored images is old practice
(Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012, section 4.1); of
super-resolution it is called self-ensemble (Timofte et al., "Seven Ways to Improve Example-Based Single Image Super
Resolution", CVPR 2016, section 3.5).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .config import COUNTS, Views


def averaged(
    views: Views, network: Callable[[Tensor], Tensor], images: Tensor, axis: int = -2, turned_back: bool = False
) -> Tensor:
    """The mean of what `network` makes of each view of images, whose rows are at `axis` and columns at the next one.

    With `turned_back` its outputs are images or scores of pixels (N, K, H, W), brought back to how the image lies.
    """
    if views == "one":
        return network(images)
    total: Tensor | None = None
    for number in range(COUNTS[views]):
        out = network(_seen(views, number, images, axis))
        if turned_back:
            out = _turned(out.flip(-1) if number % 2 else out, -(number // 2), -2)
        total = out if total is None else total + out
    assert total is not None  # since there is a first view
    return total / COUNTS[views]


def _seen(views: Views, number: int, images: Tensor, axis: int) -> Tensor:
    """View 0 is the image itself; shifts are by a pixel to the right, down, and both, the edge repeated."""
    if views == "shifts":
        for places, at in ((number % 2, axis + 1), (number // 2, axis)):
            if places:
                index = torch.arange(images.shape[at], device=images.device) - places
                images = images.index_select(at, index.clamp_min(0))
        return images
    images = _turned(images, number // 2, axis)
    return (images.flip(axis + 1) if number % 2 else images).contiguous()


def _turned(images: Tensor, quarters: int, axis: int) -> Tensor:
    return torch.rot90(images, quarters, (axis, axis + 1)) if quarters else images
