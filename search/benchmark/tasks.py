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
from search.tasks.losses import median_frequency


class Task(Protocol):
    """`loss` of outputs and targets: the sum, and the weight that it is divided by to be a mean.

    `counts` of outputs and targets: whole numbers. `scores` of their sums: the metric first, others beside it.
    """

    masks: bool

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]: ...

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor: ...

    def scores(self, counts: Tensor) -> dict[str, float]: ...


class Classification:
    """Outputs (N, K), targets (N,) classes or (N, K) shares. Counts: right, among the first five, all."""

    masks = False

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

    masks = True

    def __init__(self, recipe: Recipe, classes: tuple[str, ...], masks: Iterable[Tensor]):
        """`masks`: the training part's, read where classes are weighted."""
        self.smoothing, self.classes = recipe.label_smoothing, classes
        self.weights = median_frequency(masks, len(classes)) if recipe.class_weights else torch.ones(len(classes))

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        weights, targets = self.weights.to(outputs.device), targets.long()
        summed = F.cross_entropy(
            outputs.float(), targets, weights, ignore_index=IGNORED, reduction="sum", label_smoothing=self.smoothing
        )
        kept = targets != IGNORED
        return summed, (weights[targets.where(kept, 0)] * kept).sum()

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return segmentation.confusion(outputs.argmax(1), targets, len(self.classes), IGNORED)

    def scores(self, counts: Tensor) -> dict[str, float]:
        counts = counts.cpu()
        each = segmentation.class_iou(counts).tolist()
        found = {"mIoU": segmentation.mean_iou(counts), "pixel accuracy": segmentation.pixel_accuracy(counts)}
        return found | {f"IoU {name}": value for name, value in zip(self.classes, each) if value == value}
