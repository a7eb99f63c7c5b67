"""Upstream's network for Cityscapes: its classifier with a dense head in place of the pooled one."""

from torch import nn

from . import classification
from .heads import doubled


class WaveMix(classification.WaveMix):
    """Images (N, 3, H, W) -> class scores of each pixel, (N, num_classes, H, W) with patches of 4x4.

    Two transposed convolutions to `widths` channels, each doubling the size, then a 1x1 convolution, in the state dict
    `pool` as in upstream's Saved_weights/cityscapes. Stem and blocks take the weights of an ImageNet classifier
    (`classification.WaveMix`). Raises ValueError as that does.
    """

    def __init__(
        self,
        *,
        num_classes: int = 20,
        depth: int = 16,
        mult: int = 2,
        ff_channel: int = 192,
        final_dim: int = 192,
        dropout: float = 0.5,
        level: int = 3,
        initial_conv: str = "pachify",
        patch_size: int | tuple[int, int] = 4,
        stride: int | tuple[int, int] = 2,
        widths: tuple[int, int] = (128, 64),
    ):
        super().__init__(
            num_classes=num_classes,
            depth=depth,
            mult=mult,
            ff_channel=ff_channel,
            final_dim=final_dim,
            dropout=dropout,
            level=level,
            initial_conv=initial_conv,
            patch_size=patch_size,
            stride=stride,
        )
        first, second = widths
        self.pool = nn.Sequential(doubled(final_dim, first), doubled(first, second), nn.Conv2d(second, num_classes, 1))
