"""Images of any size for networks that need certain ones: padded at the right and the bottom, the output cropped."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def padded(images: Tensor, height: int, width: int) -> Tensor:
    """(N, I, H, W) -> (N, I, height, width), the image in the upper left corner; the same tensor where it fits.

    The image is mirrored at its edge where it is large enough (the edge itself is not repeated), else its last row or
    column is repeated. Raises ValueError where the image is larger.
    """
    right, below = width - images.shape[-1], height - images.shape[-2]
    if min(right, below) < 0:
        raise ValueError(f"a {images.shape[-2]}x{images.shape[-1]} image can't be padded to {height}x{width}")
    for amount, size, sides in ((right, images.shape[-1], (0, right)), (below, images.shape[-2], (0, 0, 0, below))):
        if amount:
            sides = sides + (0,) * (4 - len(sides))
            images = F.pad(images, sides, mode="reflect" if amount < size else "replicate")
    return images


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """The upper left height x width pixels of (N, I, H, W)."""
    return images[..., :height, :width]


def take_any_size(network: nn.Module, tall: int, wide: int) -> None:
    """Have a network of images whose outputs are images, or scores of pixels, pad what it is given to multiples of
    `tall` and `wide`, and crop what it gives. Its parameters and their names stay."""
    network.forward = partial(_padded_forward, network.forward, tall, wide)


def _padded_forward(forward: Callable[[Tensor], Tensor], tall: int, wide: int, images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    whole = padded(images, -(-height // tall) * tall, -(-width // wide) * wide)
    out = forward(whole)
    factor = out.shape[-1] // whole.shape[-1]
    return cropped(out, factor * height, factor * width)
