"""Upstream's single-image super-resolution network, `wavemix.sisr.WaveMix`."""

from torch import Tensor, nn

from .blocks import waveblocks


class WaveMix(nn.Module):
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
        super().__init__()
        self.layers = waveblocks(
            depth=depth, level=level, mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout
        )
        self.expand = nn.Sequential(
            nn.ConvTranspose2d(final_dim, final_dim // 2, 4, stride=2, padding=1),
            nn.Conv2d(final_dim // 2, 3, 1),
        )
        self.conv = nn.Sequential(
            nn.Conv2d(3, final_dim // 2, 3, 1, 1),
            nn.Conv2d(final_dim // 2, final_dim, 3, 1, 1),
        )

    def forward(self, img: Tensor) -> Tensor:
        x = self.conv(img)
        for layer in self.layers:
            x = layer(x) + x
        return self.expand(x)
