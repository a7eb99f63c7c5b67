"""Upstream's image classifier, `wavemix.classification.WaveMix`."""

from torch import Tensor, nn

from .blocks import WaveMixBody, pair, squared, strided_stem


class WaveMix(WaveMixBody):
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
        patch_size: int | tuple[int, int] = 4,
        stride: int | tuple[int, int] = 2,
    ):
        if initial_conv not in ("pachify", "patchify", "strided"):
            raise ValueError(f"initial_conv is 'patchify' (or 'pachify') or 'strided', not {initial_conv!r}")
        super().__init__(
            depth=depth,
            level=level,
            mult=mult,
            ff_channel=ff_channel,
            final_dim=final_dim,
            dropout=dropout,
            downscale=squared(stride) if initial_conv == "strided" else pair(patch_size),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(final_dim, num_classes))
        if initial_conv == "strided":
            self.conv = strided_stem(final_dim, stride)
        else:
            self.conv = nn.Sequential(
                nn.Conv2d(3, final_dim // 4, 3, 1, 1),
                nn.Conv2d(final_dim // 4, final_dim // 2, 3, 1, 1),
                nn.Conv2d(final_dim // 2, final_dim, patch_size, patch_size),
                nn.GELU(),
                nn.BatchNorm2d(final_dim),
            )

    def forward(self, img: Tensor) -> Tensor:
        return self.pool(self.features(img))
