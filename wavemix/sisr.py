"""Upstream's single-image super-resolution network, `wavemix.sisr.WaveMix`."""

from torch import Tensor, nn

from .blocks import WaveMixBody, strided_stem


class WaveMix(WaveMixBody):
    """Images (N, 3, H, W) -> (N, 3, 2H, 2W); constructor, state dict and outputs of wavemix 0.2.4.

    Raises ValueError for images whose size is not divisible by 2**level.
    """

    def __init__(
        self,
        *,
        depth: int = 4,
        mult: int = 2,
        ff_channel: int = 144,
        final_dim: int = 144,
        dropout: float = 0.0,
        level: int = 1,
    ):
        super().__init__(
            depth=depth,
            level=level,
            mult=mult,
            ff_channel=ff_channel,
            final_dim=final_dim,
            dropout=dropout,
            downscale=(1, 1),
        )
        self.expand = nn.Sequential(
            nn.ConvTranspose2d(final_dim, final_dim // 2, 4, stride=2, padding=1),
            nn.Conv2d(final_dim // 2, 3, 1),
        )
        self.conv = strided_stem(final_dim)

    def forward(self, img: Tensor) -> Tensor:
        return self.expand(self.features(img))
