"""Augmentation: what is done to the images of a batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from search.training.recipe import Recipe
from wavemix.kernels import LANES


def moves(recipe: Recipe, order: Tensor, epoch: int, seed: int, generator: torch.Generator) -> Tensor | None:
    """Random affine maps (N, 6) of the images `order` (N,) in one epoch; None where the recipe moves nothing."""
    if not (recipe.shift or recipe.rotate or recipe.scale or recipe.shear or recipe.flip):
        return None
    count = len(order)
    u = torch.rand(6, count, generator=generator) * 2 - 1
    angle, size = u[0] * math.radians(recipe.rotate), 1 + u[1] * recipe.scale
    cos, sin = angle.cos() / size, angle.sin() / size
    shear = u[2] * recipe.shear
    mirror = torch.ones(count)
    if recipe.flip:  # alternating flip: an image seen mirrored in one epoch is not in the next (airbench, 2024)
        first = torch.rand(int(order.max()) + 1, generator=torch.Generator().manual_seed(seed)) < 0.5
        mirror = torch.where(first[order] ^ bool(epoch % 2), -1.0, 1.0)
    dy, dx = u[3] * recipe.shift, u[4] * recipe.shift
    return torch.stack([cos, sin, dy, (-sin + shear * cos) * mirror, (cos + shear * sin) * mirror, dx], 1)


def mixed(x: Tensor, share: Tensor) -> Tensor:
    """x (K, G, I, H, W, LANES) with a `share` (K, N) of every image taken from the one as far from the batch's end as
    it is from its beginning (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, section 2)."""
    return torch.lerp(x, x.flip(1, 5), share.unflatten(1, (-1, LANES))[:, :, None, None, None])


def cut(x: Tensor, hole: Tensor, edge: float) -> Tensor:
    """x (K, G, I, H, W, LANES) with a square of `edge` pixels of every image at its mean colour, which is zero.

    hole (K, N, 2) are the squares' centres as fractions of height and width; what lies outside the image is lost
    (DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, section 3.1).
    """
    centre = hole.unflatten(1, (-1, LANES))[:, :, None]  # (K, G, 1, LANES, 2)
    inside = []
    for axis, size in enumerate(x.shape[3:5]):
        place = torch.arange(size, device=x.device)[:, None] + 0.5
        inside.append((place - centre[..., axis].unsqueeze(3) * size).abs() < edge / 2)  # (K, G, 1, size, LANES)
    return x.masked_fill(inside[0][:, :, :, :, None] & inside[1][:, :, :, None], 0.0)


def affine(x: Tensor, move: Tensor, outside: str = "black") -> Tensor:
    """x (N, I, H, W) sampled at `move` (N, 6): y' = m0 y + m1 x + m2, x' = m3 y + m4 x + m5 from the centre."""
    height, width = x.shape[-2:]
    m = move.view(-1, 2, 3)
    # grid_sample's order is (x, y) in units of half an edge
    theta = torch.stack(
        [
            torch.stack([m[:, 1, 1], m[:, 1, 0] * height / width, m[:, 1, 2] / (width / 2)], 1),
            torch.stack([m[:, 0, 1] * width / height, m[:, 0, 0], m[:, 0, 2] / (height / 2)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="zeros" if outside == "black" else outside, align_corners=False)
