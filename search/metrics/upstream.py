"""What upstream's published code computes, written anew from a description of it, to be run on the same predictions.

Nothing here is a standard metric and nothing is used to judge a network; `search/published/protocols.toml` names the
files. The first two differ from the standard metrics in `segmentation` and in a plain accuracy, the third from
`super_resolution`.
"""

import torch
from torch import Tensor

SMOOTH = 1e-6  # added to both sums, so that an image of zeros alone, all of them predicted, scores 1


def mean_of_batches(values: Tensor, batch: int) -> float:
    """Mean of the means of batches of `batch` in the given order: (N,) -> a number.

    A smaller last batch weighs as much as the others. With `values` that are 1 for a right answer and 0 for a wrong one
    it is the accuracy of github.com/pranavphoenix/WaveMix, Image_Classification, and of pranavphoenix/DualOpt,
    dualopt/classification.py. Raises ValueError where `values` is empty or `batch` below 1.
    """
    if not len(values) or batch < 1:
        raise ValueError("a mean of batches needs values and a batch of 1 or more")
    return float(torch.stack([part.double().mean() for part in values.split(batch)]).mean())


def bitwise_score(predicted: Tensor, true: Tensor) -> Tensor:
    """What Semantic_Segmentation/Cityscapes.py calls IoU, of each image: (N, H, W) class numbers, twice -> (N,).

    Predicted and true *numbers* are combined bit by bit, with "and" and with "or"; each is summed over the image, the
    sums are divided (1e-6 added to both), and the quotient q becomes (q - 0.5) * 2, rounded up to a multiple of 0.1
    and kept between 0 and 1. A car (14) taken for a truck (15) everywhere gives 14 / 15, and then 0.9. The reported
    "mIoU" is `mean_of_batches` of it, batches of 6 images. Raises ValueError where the shapes differ.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predictions of shape {tuple(predicted.shape)} for labels of {tuple(true.shape)}")
    a, b = predicted.long(), true.long()
    # in float32, as in the published code: a quotient at the edge of a step is rounded up by its last bit
    both, either = ((x.float().sum((1, 2)) + SMOOTH) for x in (a & b, a | b))
    return torch.ceil((20 * (both / either - 0.5)).clamp(0, 10)) / 10


def full_range_luma(image: Tensor) -> Tensor:
    """Y of JFIF (BT.601's weights, 0 to 1): (…, 3, H, W) of 0 to 1 -> (…, H, W). Neither clipped nor rounded."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    return torch.einsum("c,...chw->...hw", weights, image)


def luma_psnr(found: Tensor, true: Tensor) -> float:
    """PSNR in dB as wavemixsr/*.py of pranavphoenix/WaveMixSR computes it, of two full-range lumas (H, W).

    No border is cut off, nothing is rounded to 8 bits, and the data range is the metric's own default: from the darkest
    value of the true image, or 0, to the brightest, or 0. The reported figure is the mean over the images.
    """
    error = (found.double() - true.double()).square().mean()
    span = true.double().max().clamp(min=0) - true.double().min().clamp(max=0)
    return float(10 * torch.log10(span**2 / error))
