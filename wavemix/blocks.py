"""Upstream's Waveblocks, levels 1 to 4, as one module."""

import torch
from torch import Tensor, nn

from .dwt import haar


class Waveblock(nn.Module):
    """Wavelet token mixer with transposed convolutions (arXiv 2205.14375, section 3.2).

    (N, final_dim, H, W) -> the same shape, without the residual connection. A 1x1 reduction to final_dim/4, `level`
    Haar transforms, and from the coarsest level on a feed-forward whose output joins the next finer level's bands.
    State-dict keys, shapes and outputs are those of the PyPI package wavemix 0.2.4.

    Defaults: mult=2, ff_channel=16, final_dim=16, dropout=0.5. Raises ValueError where final_dim is not a multiple of
    4 (level 1) or H or W is not a multiple of 2**level.
    """

    def __init__(
        self, *, level: int, mult: int = 2, ff_channel: int = 16, final_dim: int = 16, dropout: float = 0.5
    ):
        super().__init__()
        if final_dim % 4:
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
        low, bands = self.reduction(x), []
        for _ in range(self.level):
            low, details = haar(low)
            bands.append(torch.cat([low, details], 1))
        coarse = None
        for n in range(self.level, 0, -1):
            y = bands[n - 1] if coarse is None else torch.cat([bands[n - 1], coarse], 1)
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


def waveblocks(*, depth: int, level: int, **knobs) -> nn.ModuleList:
    """`depth` Waveblocks of upstream's networks; like there, a level outside 2..4 means 1."""
    kind = {4: Level4Waveblock, 3: Level3Waveblock, 2: Level2Waveblock}.get(level, Level1Waveblock)
    return nn.ModuleList(kind(**knobs) for _ in range(depth))
