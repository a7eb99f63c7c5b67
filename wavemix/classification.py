"""Upstream's image classifier, `wavemix.classification.WaveMix`."""

from torch import Tensor, nn

from .blocks import waveblocks


class WaveMix(nn.Module):
    """Images (N, 3, H, W) -> logits (N, num_classes); constructor, state dict and outputs of wavemix 0.2.4.

    `initial_conv` is 'pachify' (upstream's spelling) or 'patchify': two 3x3 convolutions and one of
    patch_size x patch_size; or 'strided': two 3x3 convolutions of stride `stride`. Raises ValueError for another one,
    and for images whose feature map after the stem is not divisible by 2**level.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        depth: int = 16,
        mult: int = 2,
        ff_channel: int = 192,
        final_dim: int = 192,
        dropout: float = 0.5,
        level: int = 3,
        initial_conv: str = "pachify",
        patch_size: int = 4,
        stride: int = 2,
    ):
        super().__init__()
        self.layers = waveblocks(
            depth=depth, level=level, mult=mult, ff_channel=ff_channel, final_dim=final_dim, dropout=dropout
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(final_dim, num_classes))
        if initial_conv == "strided":
            self.conv = nn.Sequential(
                nn.Conv2d(3, final_dim // 2, 3, stride, 1),
                nn.Conv2d(final_dim // 2, final_dim, 3, stride, 1),
            )
        elif initial_conv in ("pachify", "patchify"):
            self.conv = nn.Sequential(
                nn.Conv2d(3, final_dim // 4, 3, 1, 1),
                nn.Conv2d(final_dim // 4, final_dim // 2, 3, 1, 1),
                nn.Conv2d(final_dim // 2, final_dim, patch_size, patch_size),
                nn.GELU(),
                nn.BatchNorm2d(final_dim),
            )
        else:
            raise ValueError(f"initial_conv is 'patchify' (or 'pachify') or 'strided', not {initial_conv!r}")

    def forward(self, img: Tensor) -> Tensor:
        x = self.conv(img)
        for layer in self.layers:
            x = layer(x) + x
        return self.pool(x)
