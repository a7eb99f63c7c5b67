"""Super-resolution as the field measures it since SRCNN (Dong et al., ECCV 2014): PSNR and SSIM of the luma Y.

The low resolution is a bicubic reduction with antialiasing, as MATLAB's `imresize` makes it. Images are rounded to 8
bits, luma is that of ITU-R BT.601 from 16 to 235, and of every border as many pixels are cut off as the scale.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 255.0  # of 8-bit images


def luma(image: Tensor) -> Tensor:
    """Y of ITU-R BT.601, 16 to 235, not rounded: (…, 3, H, W) or (…, 1, H, W) of 0 to 255 -> (…, H, W), float64.

    A grey image is taken for one whose three channels are equal. Raises ValueError for other numbers of channels.
    """
    channels = image.shape[-3]
    if channels not in (1, 3):
        raise ValueError(f"an image has 1 or 3 channels, not {channels}")
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=image.device)
    values = image.double() / RANGE
    if channels == 1:
        return 16 + weights.sum() * values[..., 0, :, :]
    return 16 + torch.einsum("c,...chw->...hw", weights, values)


def shaved(image: Tensor, border: int) -> Tensor:
    """(…, H, W) without `border` pixels on every side. Raises ValueError where nothing would be left."""
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ValueError(f"{border} pixels can't be cut off on all sides of {height}x{width}")
    return image[..., border : height - border, border : width - border]


def psnr(found: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio of two (H, W): 10 log10(255² / mean squared error) dB, inf where they are equal."""
    error = (found.double() - true.double()).square().mean()
    return float(10 * torch.log10(RANGE**2 / error))


def ssim(found: Tensor, true: Tensor) -> float:
    """Structural similarity of two (H, W) of 0 to 255, at least 11 x 11 pixels.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 2004, section
    III: a Gaussian window of 11 x 11 with a standard deviation of 1.5, K1 = 0.01, K2 = 0.03, data range 255, and the
    mean over all places where the window lies inside the image. Raises ValueError where it lies inside nowhere.
    """
    if min(true.shape) < 11:
        raise ValueError(f"SSIM needs 11x11 pixels, not {'x'.join(map(str, true.shape))}")
    x, y = found.double(), true.double()
    line = torch.exp(-((torch.arange(11, dtype=torch.float64, device=y.device) - 5) ** 2) / (2 * 1.5**2))
    line /= line.sum()

    def blurred(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image[None, None], line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))[0, 0]

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def psnr_and_ssim(found: Tensor, true: Tensor, scale: int) -> tuple[float, float]:
    """PSNR in dB and SSIM of two uint8 images (3, H, W) or (1, H, W), on Y, with `scale` border pixels cut off.

    Raises ValueError where the sizes differ, an image is not uint8 or too small.
    """
    if found.dtype != torch.uint8 or true.dtype != torch.uint8:
        raise ValueError("images are compared in 8 bits: round them first (`rounded`)")
    if found.shape[-2:] != true.shape[-2:]:
        raise ValueError(f"an image of {tuple(found.shape[-2:])} beside one of {tuple(true.shape[-2:])}")
    x, y = shaved(luma(found), scale), shaved(luma(true), scale)
    return psnr(x, y), ssim(x, y)


def reduced(image: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """What a network sees of a photograph, and what it should give: (3 or 1, H, W), uint8, of sides that are multiples
    of `scale`, to the luma (H / scale, W / scale) of the bicubic reduction in 8 bits, not rounded once more, and the
    luma (H, W), rounded to 8 bits; float64 from 16 to 235."""
    height, width = image.shape[-2:]
    low = imresize(image, height // scale, width // scale)
    return luma(low), rounded(luma(image)).double()


def compared(found: Tensor, true: Tensor, scale: int, structure: bool = True) -> tuple[float, float]:
    """PSNR (inf where they are equal) and SSIM (0 unless asked for) of two lumas (H, W) of 0 to 255, rounded to 8 bits,
    `scale` pixels cut off."""
    x, y = (shaved(rounded(image).double(), scale) for image in (found, true))
    return psnr(x, y), ssim(x, y) if structure else 0.0


def smallest(scale: int) -> int:
    """Pixels that an image has to have both ways for `compared`: the window of SSIM without the borders."""
    return 11 + 2 * scale


def rounded(image: Tensor) -> Tensor:
    """Values of 0 to 255 to the nearest integer, halves up as MATLAB rounds them, clipped: uint8."""
    return torch.floor(image.double() + 0.5).clamp(0, RANGE).to(torch.uint8)


def cropped(image: Tensor, scale: int) -> Tensor:
    """(…, H, W) cut at the bottom and on the right to multiples of `scale`."""
    height, width = image.shape[-2:]
    return image[..., : height - height % scale, : width - width % scale]


def imresize(image: Tensor, height: int, width: int) -> Tensor:
    """(…, H, W) -> (…, height, width) by bicubic interpolation as MATLAB's `imresize` does it by default.

    Keys's kernel with a = -0.5 ("Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981);
    where the image shrinks, the kernel is stretched by as much (antialiasing); beyond its border the image is
    mirrored. A uint8 image comes back as uint8, rounded once at the end; another one as float64.
    """
    rows, columns = (
        _weights(old, new).to(image.device) for old, new in zip(image.shape[-2:], (height, width), strict=True)
    )
    resized = rows @ image.double() @ columns.T
    return rounded(resized) if image.dtype == torch.uint8 else resized


@functools.lru_cache(maxsize=512)  # of patches the same few sizes are asked for again and again
def _weights(old: int, new: int) -> Tensor:
    """(new, old) matrix: how much of each old pixel goes into each new one."""
    scale = new / old
    stretch = max(1.0, 1 / scale)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) / scale - 0.5
    reach = int(2 * stretch) + 2
    places = torch.floor(centres)[:, None] + torch.arange(-reach, reach + 1)
    shares = _cubic((centres[:, None] - places) / stretch)
    shares /= shares.sum(1, keepdim=True)
    inside = places.long() % (2 * old)  # mirrored: 0 1 … n-1 n-1 … 1 0
    inside = torch.where(inside < old, inside, 2 * old - 1 - inside)
    return torch.zeros(new, old, dtype=torch.float64).scatter_add_(1, inside, shares)


def _cubic(x: Tensor) -> Tensor:
    """Keys's kernel, a = -0.5."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))
