"""Segmentation: a class for every pixel, judged by the mean over classes of intersection over union.

Of one confusion matrix over all images, at the labels' full size, from the image at one scale; pixels without a class
are neither trained on nor scored.
"""

from typing import Any

import torch
from torch import Tensor, nn

from search import signals
from search.data.pictures import Pictures
from search.data.split import IGNORED, Portion
from search.errors import UserError
from search.metrics.segmentation import class_iou, confusion, mean_iou, pixel_accuracy
from search.tasks import losses
from search.tasks.patches import Examples, interleaved
from search.tasks.pixel_task import Loss, PixelTask
from search.tasks.task import Measured
from search.training.recipe import Recipe

MEASURED = 200  # images that normalisation is measured on


class Segmentation(PixelTask):
    """Images with masks."""

    name = "segmentation"
    ceiling = 200_000
    losses = ("cross-entropy", "focal", "lovasz")

    def own(self, data: Portion) -> dict[str, Any]:
        return {"in_channels": data.shape[0], "num_classes": len(data.classes)}

    def choices(self, data: Portion) -> dict[str, tuple]:
        return {
            "final_dim": (16, 24, 32, 40, 48, 64, 80, 96),
            "initial_conv": ("strided", "patchify", "separable"),
            "stride": ("2,2", "2,1", "1,2"),
            "level": (1, 2, 3, 4),
            "pad": (0,),
        }

    def heads(self, data: Portion) -> dict[str, dict[str, Any]]:
        return {
            "interpolated": {"task": self.name},
            "skip": {"task": self.name, "skip": True},
            "transposed": {"task": self.name, "kind": "transposed"},
        }

    def recipe(self, data: Portion, parameters: int) -> Recipe:
        """Patches of half the image's height, scaled, flipped and recoloured; Muon as for photographs; a loss that is
        near what is scored (results/pages/what-helps.md)."""
        smallest = min(image.shape[-1 - axis] for image in getattr(data, "images", ()) for axis in (0, 1))
        return Recipe(
            epochs=20,
            batch_size=16,
            optimizer="muon",
            lr=0.01,
            weight_decay=0.1,
            patch=max(8, min(smallest, 240) // 16 * 16),
            scale=0.3,
            flip=True,
            colour=0.2,
            loss="lovasz",
        )

    def validation_count(self, data: Portion) -> int:
        return max(1, len(data) // 10)

    def examples(self, data: Pictures) -> Examples:
        if not data.masks:
            raise UserError(f"{data.label} has no masks")
        return Examples(data.images, data.masks, 0, *self.normalisation(data))

    def normalisation(self, data: Portion) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over all pixels of up to MEASURED images."""
        images = getattr(data, "images", ())
        step = max(1, len(images) // MEASURED)
        count, (total, squares) = 0, torch.zeros(2, data.shape[0], dtype=torch.float64)
        for image in images[::step]:
            values = image.flatten(1).double() / 255
            count, total, squares = count + values.shape[1], total + values.sum(1), squares + values.square().sum(1)
        mean = total / count
        return mean.float(), (squares / count - mean**2).clamp_min(1e-6).sqrt().float()

    def loss(self, recipe: Recipe, data: Pictures) -> Loss:
        weights = losses.median_frequency(data.masks, len(data.classes)) if recipe.class_weights else None

        def of(logits: Tensor, labels: Tensor) -> Tensor:
            labels, given = labels.long(), None if weights is None else weights.to(logits.device)
            if recipe.loss == "focal":
                return losses.focal(logits, labels, given)
            plain = losses.cross_entropy(logits, labels, given, recipe.label_smoothing)
            # alone it is slow to begin with: its authors fine-tune with it, others add it
            return (plain + losses.lovasz_softmax(logits, labels)) / 2 if recipe.loss == "lovasz" else plain

        return of

    @torch.no_grad()
    def judged(self, network: nn.Module, examples: Examples, data: Pictures, beside: bool) -> Measured:
        matrix = self.confusion(network, examples, len(data.classes))
        found = Measured([mean_iou(matrix)])
        if beside:
            found.beside["pixel accuracy"] = [pixel_accuracy(matrix)]
            for name, value in zip(data.classes, class_iou(matrix).tolist()):
                found.beside[f"IoU {name}"] = [value if value == value else 0.0]
        return found

    @torch.no_grad()
    def confusion(self, network: nn.Module, examples: Examples, classes: int) -> Tensor:
        """The confusion matrix (classes, classes) of a network over all images."""
        device = next(network.parameters()).device
        matrix = torch.zeros(classes, classes, dtype=torch.int64)
        for image, mask in zip(examples.inputs, examples.targets):
            signals.check()
            found = network(interleaved(examples.normalised(image[None]).to(device))).argmax(1)[0].cpu()
            matrix += confusion(found, mask.long(), classes, IGNORED)
        return matrix


TASK = Segmentation()
