"""Upstream's Waveblocks, levels 1 to 4, as one module, and the body that its three networks share."""

import torch
from torch import Tensor, nn

from .dwt import pyramid
from .layout import laid_out_alike


class Waveblock(nn.Module):
    """Wavelet token mixer with transposed convolutions (arXiv 2205.14375, section 3.2).

    (N, final_dim, H, W) -> the same shape, without the residual connection. A 1x1 reduction to final_dim/4, `level`
    Haar transforms, and from the coarsest level on a feed-forward whose output joins the next finer level's bands.
    State-dict keys, shapes and outputs are those of the PyPI package wavemix 0.2.4.

    Defaults: mult=2, ff_channel=16, final_dim=16, dropout=0.5. Raises ValueError where level is below 1, final_dim
    is not a multiple of 4, or H or W is not a multiple of 2**level.
    """

    def __init__(self, *, level: int, mult: int = 2, ff_channel: int = 16, final_dim: int = 16, dropout: float = 0.5):
        super().__init__()
        if level < 1:
            raise ValueError(f"a Waveblock has at least 1 level, not {level}")
        if final_dim % 4 or final_dim < 4:
            raise ValueError(f"final_dim must be a multiple of 4, not {final_dim}")
        self.level = level
        for n in range(1, level + 1):
            inside = final_dim if n == level else final_dim + final_dim // 2
            out = final_dim if n == 1 else final_dim // 2
            feedforward = nn.Sequential(
                nn.Conv2d(inside, final_dim * mult, 1),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Conv2d(final_dim * mult, ff_channel, 1),
                nn.ConvTranspose2d(ff_channel, out, 4, stride=2, padding=1),
                nn.BatchNorm2d(out),
            )
            setattr(self, self._branch(n), feedforward)
        self.reduction = nn.Conv2d(final_dim, final_dim // 4, 1)

    def _branch(self, level: int) -> str:
        return "feedforward" if self.level == 1 else f"feedforward{level}"

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        step = 2**self.level
        if height % step or width % step:
            raise ValueError(
                f"level {self.level} needs a feature map divisible by {step}, not {height}x{width}: resize or pad the "
                "image, or use fewer levels"
            )
        bands = pyramid(self.reduction(x), self.level)
        coarse = bands[-1]
        for n in range(self.level, 0, -1):
            y = coarse if n == self.level else torch.cat([bands[n - 1], coarse], 1)
            coarse = getattr(self, self._branch(n))(y)
        return coarse


class Level1Waveblock(Waveblock):
    """`Waveblock` of level 1, with upstream's constructor."""

    def __init__(self, *, mult: int = 2, ff_channel: int = 16, final_dim: int = 16, dropout: float = 0.5):
        super().__init__(level=1, mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout)


class Level2Waveblock(Waveblock):
    """`Waveblock` of level 2, with upstream's constructor."""

    def __init__(self, *, mult: int = 2, ff_channel: int = 16, final_dim: int = 16, dropout: float = 0.5):
        super().__init__(level=2, mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout)


class Level3Waveblock(Waveblock):
    """`Waveblock` of level 3, with upstream's constructor."""

    def __init__(self, *, mult: int = 2, ff_channel: int = 16, final_dim: int = 16, dropout: float = 0.5):
        super().__init__(level=3, mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout)


class Level4Waveblock(Waveblock):
    """`Waveblock` of level 4, with upstream's constructor."""

    def __init__(self, *, mult: int = 2, ff_channel: int = 16, final_dim: int = 16, dropout: float = 0.5):
        super().__init__(level=4, mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout)


LEVELS = {1: Level1Waveblock, 2: Level2Waveblock, 3: Level3Waveblock, 4: Level4Waveblock}


class WaveMixBody(nn.Module):
    """What upstream's three networks have in common: a stem `conv`, then `depth` residual Waveblocks `layers`.

    A network derived from it adds its head and then `conv` (in this order, so that one seed initialises both
    packages alike), and hands over `downscale`, the factors by which its stem divides heights and widths.
    Raises ValueError where level is not 1, 2, 3 or 4 (upstream takes any other number for 1).
    """

    conv: nn.Module

    def __init__(
        self,
        *,
        depth: int,
        level: int,
        mult: int,
        ff_channel: int,
        final_dim: int,
        dropout: float,
        downscale: tuple[int, int],
    ):
        super().__init__()
        if level not in LEVELS:
            raise ValueError(f"level is 1, 2, 3 or 4, not {level!r}")
        self.level, self.downscale = level, downscale
        self.layers = nn.ModuleList(
            LEVELS[level](mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout) for _ in range(depth)
        )

    def features(self, img: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> (N, final_dim, H / downscale[0], W / downscale[1])."""
        x = self.conv(img)
        (height, width), step = x.shape[-2:], 2**self.level
        if height % step or width % step:
            tall, wide = (step * factor for factor in self.downscale)
            sizes = f"multiples of {tall}" if tall == wide else f"multiples of {tall} in height and {wide} in width"
            raise ValueError(
                f"level {self.level} needs a feature map divisible by {step}; a {img.shape[-2]}x{img.shape[-1]} image "
                f"gives {height}x{width} after the stem: resize or pad it to {sizes}, or use fewer levels"
            )
        for layer in self.layers:
            x = laid_out_alike(layer(x) + x)
        return x


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """What PyTorch takes a stride or a kernel's size for: of rows and of columns."""
    return size if isinstance(size, tuple) else (size, size)


def squared(stride: int | tuple[int, int]) -> tuple[int, int]:
    """By what two convolutions of stride `stride` divide height and width."""
    rows, columns = pair(stride)
    return rows**2, columns**2


def strided_stem(final_dim: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    """Two 3x3 convolutions of stride `stride`: RGB -> final_dim / 2 -> final_dim channels."""
    return nn.Sequential(
        nn.Conv2d(3, final_dim // 2, 3, stride, 1),
        nn.Conv2d(final_dim // 2, final_dim, 3, stride, 1),
    )
