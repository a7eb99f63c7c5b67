"""Upstream's WaveMix V3, an image classifier (Image_Classification/WaveMixV3.py in its repository)."""

from torch import nn

from . import classification
from .shuffle_blocks import ShuffleBlock


class WaveMix(classification.WaveMix):
    """Images (N, 3, H, W) -> logits (N, num_classes): stem and head of `classification.WaveMix`, with `ShuffleBlock`s.

    Upstream's constructor, of which `ff_channel` and `level` change nothing (there is one level), and its state dict.
    Its file needs mult=4; here the 3x3 convolution takes the mult C / 4 channels that PixelShuffle leaves. Raises
    ValueError as `classification.WaveMix` does.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        depth: int = 16,
        mult: int = 4,
        ff_channel: int = 192,
        final_dim: int = 192,
        dropout: float = 0.5,
        level: int = 3,
        initial_conv: str = "patch",
        patch_size: int | tuple[int, int] = 4,
        stride: int | tuple[int, int] = 1,
    ):
        super().__init__(
            num_classes=num_classes,
            depth=0,
            level=1,
            mult=mult,
            ff_channel=ff_channel,
            final_dim=final_dim,
            dropout=dropout,
            initial_conv="patchify" if initial_conv == "patch" else initial_conv,
            patch_size=patch_size,
            stride=stride,
        )
        self.layers = nn.ModuleList(
            ShuffleBlock(final_dim=final_dim, mult=mult, dropout=dropout, widened=False) for _ in range(depth)
        )
