"""What a row's network is trained to do: the loss of a batch, and what is counted to judge it.

Losses come as a sum and what to divide it by, scores from counts that add up over batches: so the parts of a batch that
several processes hold come to what one process would have found.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from search.benchmark.recipe import Recipe
from search.data.split import IGNORED
from search.metrics import segmentation
from search.metrics.super_resolution import RANGE, compared, luma, rounded
from search.tasks.losses import OF_IMAGES, focal, lovasz_softmax, median_frequency, squares
from search.tasks.score import MOST_DECIBELS


class Task(Protocol):
    """`loss` of outputs and targets: the sum, and the weight that it is divided by to be a mean; of a loss with several
    terms all sums and weights, (T,), whose quotients are added.

    `counts` of outputs and targets: whole numbers. `scores` of their sums: the metric first, others beside it.
    `masks`: targets are masks. `scale`: targets are images so many times as large, 0 where they are not.
    """

    masks: bool
    scale: int

    @property
    def dense(self) -> bool:
        """Whether targets belong to pixels, so that images may differ in size."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]: ...

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor: ...

    def scores(self, counts: Tensor) -> dict[str, float]: ...


class Classification:
    """Outputs (N, K), targets (N,) classes or (N, K) shares. Counts: right, among the first five, all."""

    masks = dense = False
    scale = 0

    def __init__(self, recipe: Recipe, classes: tuple[str, ...]):
        self.smoothing, self.classes = recipe.label_smoothing, len(classes)

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        summed = F.cross_entropy(outputs.float(), targets, reduction="sum", label_smoothing=self.smoothing)
        return summed, torch.tensor(float(len(outputs)), device=outputs.device)

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        kept = targets >= 0
        best = outputs[kept].topk(min(5, outputs.shape[1]), 1).indices == targets[kept, None]
        return torch.stack([best[:, 0].sum(), best.sum(), kept.sum()])

    def scores(self, counts: Tensor) -> dict[str, float]:
        right, five, all_of = counts.tolist()
        found = {"accuracy": right / all_of}
        return found | {"top-5 accuracy": five / all_of} if self.classes > 5 else found


class Segmentation:
    """Outputs (N, K, H, W), targets (N, H, W) classes or IGNORED. Counts: a confusion matrix (K, K)."""

    masks = dense = True
    scale = 0

    def __init__(self, recipe: Recipe, classes: tuple[str, ...], masks: Iterable[Tensor]):
        """`masks`: the training part's, read where classes are weighted."""
        self.kind, self.smoothing, self.classes = recipe.loss, recipe.label_smoothing, classes
        self.weights = median_frequency(masks, len(classes)) if recipe.class_weights else torch.ones(len(classes))

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        outputs, targets, weights = outputs.float(), targets.long(), self.weights.to(outputs.device)
        kept = targets != IGNORED
        weight = (weights[targets.where(kept, 0)] * kept).sum()
        if self.kind == "focal":
            return focal(outputs, targets, weights) * weight, weight
        summed = F.cross_entropy(
            outputs, targets, weights, ignore_index=IGNORED, reduction="sum", label_smoothing=self.smoothing
        )
        if self.kind != "lovasz":
            return summed, weight
        # of each image by itself: of a batch's pixels together it would depend on how many processes share the batch
        each = torch.stack([lovasz_softmax(o[None], t[None]) for o, t in zip(outputs, targets)])
        judged = kept.flatten(1).any(1).sum()
        return torch.stack([summed, each.sum()]) / 2, torch.stack([weight, judged.to(weight.dtype)])

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return segmentation.confusion(outputs.argmax(1), targets, len(self.classes), IGNORED)

    def scores(self, counts: Tensor) -> dict[str, float]:
        counts = counts.cpu()
        each = segmentation.class_iou(counts).tolist()
        found = {"mIoU": segmentation.mean_iou(counts), "pixel accuracy": segmentation.pixel_accuracy(counts)}
        return found | {f"IoU {name}": value for name, value in zip(self.classes, each) if value == value}


class SuperResolution:
    """Outputs (N, C, H, W) between 0 and 1, targets of 0 to 255: luma (C 1) or RGB (C 3). Counts of an image, which
    comes alone: its PSNR on luma in millionths of a dB, its SSIM in millionths, and itself."""

    masks, dense = False, True

    def __init__(self, recipe: Recipe, scale: int):
        self.loss_of = (OF_IMAGES | {"squares": squares})[recipe.loss or "charbonnier"]
        self.scale = scale

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.tensor(float(targets.numel()), device=outputs.device)
        return self.loss_of(outputs.float(), targets.float() / RANGE) * values, values

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not targets.numel():
            return torch.zeros(3, dtype=torch.int64, device=outputs.device)
        found, true = outputs[0].double() * RANGE, targets[0]
        one = len(found) == 1
        lumas = (found[0], true[0]) if one else (luma(rounded(found)), luma(true))
        decibels, alike = compared(lumas[0], lumas[1], self.scale)
        return torch.tensor([round(1e6 * min(decibels, MOST_DECIBELS)), round(1e6 * alike), 1], device=outputs.device)

    def scores(self, counts: Tensor) -> dict[str, float]:
        decibels, alike, images = counts.tolist()
        return {"PSNR": decibels / images / 1e6, "SSIM": alike / images / 1e6}
