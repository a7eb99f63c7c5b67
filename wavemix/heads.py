"""Heads of WaveMix-Lite networks for dense predictions and super-resolution, as `head_config` describes them."""

import torch.nn.functional as F
from torch import Tensor, nn

from .config import LiteConfig
from .head_config import DenseHead, SuperResolutionHead
from .padding import cropped


def doubled(inside: int, out: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(inside, out, 4, stride=2, padding=1)


class DenseScores(nn.Module):
    """Features (N, C, h, w) and the map inside the stem (N, C/2, h', w') -> scores (N, K, H, W); see `DenseHead`.

    `coarse` is applied up to the size of the skip, `fine` after it; without a skip all layers are in `fine`.
    """

    def __init__(self, config: LiteConfig, head: DenseHead, activation: type[nn.Module]):
        super().__init__()
        c, k, (inner, outer) = config.final_dim, config.num_classes, config.head_factors
        self.coarse, self.join = nn.Sequential(), None
        joint = head.joint(c, inner)
        if head.kind == "transposed":
            doublings = (inner * outer).bit_length() - 1
            widths = [c, *(head.narrowed(c, doubling) for doubling in range(1, doublings + 1))]
            steps = [doubled(*pair) for pair in zip(widths, widths[1:])]
            first = inner.bit_length() - 1 if head.skip else 0
            self.coarse, steps = nn.Sequential(*steps[:first]), steps[first:]
            self.fine = nn.Sequential(*steps, nn.Conv2d(widths[-1], k, 1))
        elif head.skip:
            self.coarse = nn.Sequential(nn.Conv2d(c, joint, 1), _bilinear(inner))
            self.fine = nn.Sequential(nn.Conv2d(joint, k, 1), _bilinear(outer))
        else:
            self.fine = nn.Sequential(nn.Conv2d(c, k, 1), _bilinear(inner * outer))
        if head.skip:
            self.join = nn.Conv2d(c // 2, joint, 1, bias=False) if joint != c // 2 else nn.Identity()
            self.activation = activation()

    def forward(self, features: Tensor, inside: Tensor) -> Tensor:
        if self.join is None:
            return self.fine(features)
        return self.fine(self.activation(self.coarse(features) + self.join(inside)))


def _bilinear(factor: int) -> nn.Module:
    return nn.Identity() if factor == 1 else nn.Upsample(scale_factor=factor, mode="bilinear")


class Enlarged(nn.Module):
    """Features (N, C, h, w), of a padded image or not, and images (N, I, H, W) -> (N, I, scale H, scale W); see
    `SuperResolutionHead`."""

    def __init__(self, config: LiteConfig, head: SuperResolutionHead, activation: type[nn.Module]):
        super().__init__()
        c, i, factor = config.final_dim, config.in_channels, head.scale * config.downscale
        self.scale, self.bicubic = head.scale, head.bicubic
        self.activation = activation() if head.activation else nn.Identity()
        if head.kind == "shuffle":
            convolution = nn.Conv2d(c, i * factor**2, head.kernel, padding=head.kernel // 2)
            self.enlarge = nn.Sequential(convolution, nn.PixelShuffle(factor))
        else:
            edge = head.edge(factor)
            self.enlarge = nn.Sequential(nn.ConvTranspose2d(c, i, edge, factor, (edge - factor) // 2))

    def add_nothing(self) -> None:
        """Begin with the bicubic enlargement: else a network spends its first epochs on taking back noise."""
        if self.bicubic:
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        residual = cropped(self.enlarge(self.activation(features)), self.scale * height, self.scale * width)
        return residual + bicubic(images, self.scale) if self.bicubic else residual


def bicubic(images: Tensor, scale: int) -> Tensor:
    """Images `scale` times as large, by cubic convolution (Keys, IEEE TASSP 29, 1981) with PyTorch's a = -3/4.

    It is sharper than with the a = -1/2 of MATLAB and Pillow, and so a better start for what is added to it. Baselines
    called "bicubic" in the literature have -1/2.
    """
    return F.interpolate(images, scale_factor=float(scale), mode="bicubic", align_corners=False)
