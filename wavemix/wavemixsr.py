"""Upstream's networks that double images on their luma: WaveMixSR and WaveMixSR-V2.

Written from what github.com/pranavphoenix/WaveMixSR describes; names in the state dict are those of its files. Papers:
Jeevan et al., "WaveMixSR", WACV 2024; "WaveMixSR-V2", arXiv 2409.10582.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .blocks import Level1Waveblock
from .shuffle_blocks import ShuffleBlock


class LumaDoubling(nn.Module):
    """(N, 1 or 3, H, W), Y or YCbCr, to (N, the same, 2H, 2W): Y by a network, colours bicubically.

    The network enlarges Y bicubically, two 3x3 convolutions make final_dim / 2 and then final_dim channels of it, the
    residual `blocks` follow, and a 3x3 convolution to final_dim / 2 and a 1x1 convolution to Y. RGB has to be converted
    first. Raises ValueError for another number of channels.
    """

    def __init__(self, blocks: Iterable[nn.Module], final_dim: int):
        super().__init__()
        half = final_dim // 2
        self.layers = nn.ModuleList(blocks)
        self.final = nn.Sequential(nn.Conv2d(final_dim, half, 3, padding=1), nn.Conv2d(half, 1, 1))
        self.path1 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bicubic"),
            nn.Conv2d(1, half, 3, padding=1),
            nn.Conv2d(half, final_dim, 3, padding=1),
        )
        self.path2 = nn.Upsample(scale_factor=2, mode="bicubic")

    def forward(self, img: Tensor) -> Tensor:
        if img.shape[1] not in (1, 3):
            raise ValueError(f"images are Y (1 channel) or YCbCr (3 channels), not {img.shape[1]} channels")
        luma = self.path1(img[:, :1])
        for layer in self.layers:
            luma = layer(luma) + luma
        luma = self.final(luma)
        if img.shape[1] == 1:
            return luma
        return torch.cat([luma, self.path2(img[:, 1:]).to(luma.dtype)], 1)


class WaveMixSR(LumaDoubling):
    """WaveMixSR for 2x: `LumaDoubling` with `depth` level-1 Waveblocks, with upstream's constructor and state dict.

    Published: depth 4, mult 1, 144 channels, 1,704,385 parameters.
    """

    def __init__(
        self, *, depth: int = 4, mult: int = 1, ff_channel: int = 144, final_dim: int = 144, dropout: float = 0.3
    ):
        hyperparameters = dict(mult=mult, ff_channel=ff_channel, final_dim=final_dim)
        super().__init__((Level1Waveblock(**hyperparameters, dropout=dropout) for _ in range(depth)), final_dim)


class WaveMixSRV2(nn.Module):
    """WaveMixSR-V2 for 2x, 4x, 8x: a `LumaDoubling` a doubling, each with `blocks` widened `ShuffleBlock`s.

    Upstream's file can't run: it builds its stages from a name that it does not define (`Level1Waveblock`), in place of
    its own block, and that block's 1x1 convolution has to have 4 final_dim outputs for the 3x3 convolution after
    PixelShuffle, which no caller gives it. This is what it describes, with those outputs. It has sr / 2 stages, which
    for sr=8 enlarge 16 times; here the size is what `sr` says. Raises ValueError where that is not 2, 4 or 8.
    """

    def __init__(self, *, sr: int = 2, blocks: int = 2, mult: int = 1, final_dim: int = 144, dropout: float = 0.3):
        super().__init__()
        if sr not in (2, 4, 8):
            raise ValueError(f"sr is 2, 4 or 8, not {sr!r}")
        hyperparameters = dict(final_dim=final_dim, mult=mult)
        self.SR_blocks = nn.ModuleList(
            LumaDoubling(
                (ShuffleBlock(**hyperparameters, dropout=dropout, widened=True) for _ in range(blocks)), final_dim
            )
            for _ in range(sr.bit_length() - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.SR_blocks:
            x = stage(x)
        return x
