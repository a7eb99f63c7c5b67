"""Losses of dense tasks: of segmentation over the pixels that have a class, of super-resolution over all pixels."""

import ctypes
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from search.data.split import IGNORED
from wavemix import kernels
from wavemix.kernels import pointer
from wavemix.torch_internals import watched

GAMMA = 2.0  # of the focal loss: the value that its authors settle on
EPSILON = 1e-3  # of Charbonnier's loss, on values between 0 and 1
DELTA = 0.01  # of Huber's: differences below it count squared, about the size of what super-resolution gets wrong


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """logits (N, K, H, W), labels (N, H, W) -> the mean over pixels with a class, weighted by `weights` (K,).

    0 where no pixel has a class.
    """
    if not bool((labels != IGNORED).any()):
        return logits.sum() * 0
    logits = logits.contiguous()  # with channels innermost PyTorch takes half as long again
    return F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, label_smoothing=smoothing)


def focal(logits: Tensor, labels: Tensor, weights: Tensor | None = None, gamma: float = GAMMA) -> Tensor:
    """Cross-entropy with a pixel's share falling as (1 - p)^gamma, p the probability that its true class is given.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5; the weights stand for its alpha. A mean
    over pixels, weighted as `cross_entropy`'s; shapes as there.
    """
    kept = labels != IGNORED
    logs = logits.log_softmax(1).gather(1, labels.where(kept, 0)[:, None])[:, 0]
    share = kept.to(logs.dtype) if weights is None else weights[labels.where(kept, 0)] * kept
    return -(share * (1 - logs.exp()) ** gamma * logs).sum() / share.sum().clamp_min(1e-12)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """The Lovasz extension of the mean Jaccard loss, of all pixels of the batch together, over the classes in them.

    Berman et al., "The Lovász-Softmax loss", CVPR 2018, equations 7 to 9 and algorithm 1; shapes as `cross_entropy`'s.
    0 where no pixel has a class.
    """
    chances = logits.softmax(1)
    plain = chances.device.type == "cpu" and chances.dtype == torch.float32 and not watched()
    if plain and chances.numel() <= _Lovasz.MOST and kernels.library() is not None:
        return _Lovasz.apply(chances, labels)
    kept = labels != IGNORED
    chances, true = chances.movedim(1, -1)[kept], labels[kept]  # (P, K), (P,)
    losses = []
    for number in true.unique().tolist():
        here = (true == number).to(chances.dtype)
        errors, order = (here - chances[:, number]).abs().sort(descending=True)
        losses.append(errors @ _jaccard_steps(here[order]))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


class _Lovasz(torch.autograd.Function):
    """The loss of probabilities (N, K, H, W) by a compiled kernel, which finds the gradient on the way."""

    MOST = 2**31  # probabilities

    @staticmethod
    def forward(ctx, chances: Tensor, labels: Tensor) -> Tensor:
        chances, labels = chances.contiguous(), labels.long().contiguous()
        gradient, loss = torch.empty_like(chances), chances.new_empty(())
        (count, classes), pixels = chances.shape[:2], chances.shape[2:].numel()
        library = kernels.threaded()
        assert library is not None  # since there was one when this was chosen
        library.lovasz(*map(pointer, (chances, labels, gradient, loss)), count, classes, ctypes.c_long(pixels))
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None


def _jaccard_steps(here: Tensor) -> Tensor:
    """By how much the Jaccard loss grows with each pixel that is got wrong, in the order given; here (P,) is 1 where
    the pixel has the class."""
    intersection = here.sum() - here.cumsum(0)
    union = here.sum() + (1 - here).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def median_frequency(masks: Iterable[Tensor], classes: int) -> Tensor:
    """Weights (classes,): the median of the classes' frequencies by each one's own, 0 of a class without a pixel.

    A class's frequency is its pixels' share of those images that have it (Eigen & Fergus, "Predicting Depth, Surface
    Normals and Semantic Labels", ICCV 2015, section 4.3.2). masks: label images (H, W).
    """
    own, all_of = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for mask in masks:
        counts = torch.bincount(mask.flatten().long(), minlength=IGNORED + 1)[:classes]
        own += counts
        all_of += counts.sum() * (counts > 0)
    frequency = own / all_of.clamp_min(1)
    seen = frequency > 0
    weights = torch.zeros(classes, dtype=torch.float64)
    weights[seen] = frequency[seen].quantile(0.5) / frequency[seen]
    return weights.float()


def l1(found: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference."""
    return F.l1_loss(found, true)


def huber(found: Tensor, true: Tensor) -> Tensor:
    """Huber's (1964), by its DELTA, so that it is the absolute difference less half of DELTA where that is large."""
    return F.huber_loss(found, true, delta=DELTA) / DELTA


def charbonnier(found: Tensor, true: Tensor) -> Tensor:
    """Mean of sqrt(difference² + EPSILON²): Charbonnier et al., ICIP 1994; with EPSILON 1e-3 as in Lai et al., "Deep
    Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR 2017, section 3.3."""
    return ((found - true).square() + EPSILON**2).sqrt().mean()


def squares(found: Tensor, true: Tensor) -> Tensor:
    """Half the mean squared difference: Huber's loss where no difference is above its threshold."""
    return F.mse_loss(found, true) / 2


OF_IMAGES = {"l1": l1, "huber": huber, "charbonnier": charbonnier}  # by their names in recipes of super-resolution
