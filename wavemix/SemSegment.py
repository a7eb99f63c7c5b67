"""Upstream's semantic segmentation network, `wavemix.SemSegment.WaveMix`."""

from torch import Tensor, nn

from .blocks import WaveMixBody, squared, strided_stem


class WaveMix(WaveMixBody):
    """Images (N, 3, H, W) -> class scores of each pixel; constructor, state dict and outputs of wavemix 0.2.4.

    With stride 2 the scores are (N, num_classes, H, W): the stem divides the size by stride**2, the head multiplies
    it by 4. Raises ValueError for images whose feature map after the stem is not divisible by 2**level.
    """

    def __init__(
        self,
        *,
        num_classes: int = 20,
        depth: int = 16,
        mult: int = 2,
        ff_channel: int = 256,
        final_dim: int = 256,
        dropout: float = 0.0,
        level: int = 4,
        stride: int | tuple[int, int] = 2,
    ):
        super().__init__(
            depth=depth,
            level=level,
            mult=mult,
            ff_channel=ff_channel,
            final_dim=final_dim,
            dropout=dropout,
            downscale=squared(stride),
        )
        self.expand = nn.Sequential(
            nn.ConvTranspose2d(final_dim, final_dim // 2, 4, stride=2, padding=1),
            nn.ConvTranspose2d(final_dim // 2, final_dim // 4, 4, stride=2, padding=1),
            nn.Conv2d(final_dim // 4, num_classes, 1),
        )
        self.conv = strided_stem(final_dim, stride)

    def forward(self, img: Tensor) -> Tensor:
        return self.expand(self.features(img))
