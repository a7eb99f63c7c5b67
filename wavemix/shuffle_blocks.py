"""Level-1 Waveblocks that up-sample by PixelShuffle: those of WaveMix V3 and of WaveMixSR-V2."""

from torch import Tensor, nn

from .dwt import pyramid


class ShuffleBlock(nn.Module):
    """(N, C, H, W) -> the same shape, without the residual connection: a 1x1 reduction to C/4, the Haar transform, and
    a feed-forward whose PixelShuffle(2) (Shi et al., arXiv 1609.05158) doubles the size.

    The feed-forward is a 1x1 convolution to mult C channels, GELU, dropout, with `widened` (WaveMixSR-V2) a 1x1
    convolution to 4 C, PixelShuffle, a 3x3 convolution to C, BatchNorm. Raises ValueError where C is not a multiple of
    4, or H or W is odd.
    """

    def __init__(self, *, final_dim: int, mult: int, dropout: float, widened: bool):
        super().__init__()
        if final_dim % 4 or final_dim < 4:
            raise ValueError(f"final_dim must be a multiple of 4, not {final_dim}")
        hidden = final_dim * mult
        self.reduction = nn.Conv2d(final_dim, final_dim // 4, 1)
        self.feedforward = nn.Sequential(
            nn.Conv2d(final_dim, hidden, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            *([nn.Conv2d(hidden, 4 * final_dim, 1)] if widened else []),
            nn.PixelShuffle(2),
            nn.Conv2d(final_dim if widened else hidden // 4, final_dim, 3, padding=1),
            nn.BatchNorm2d(final_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        (bands,) = pyramid(self.reduction(x), 1)
        return self.feedforward(bands)
