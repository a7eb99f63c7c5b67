"""Segmentation: a confusion matrix over a whole data set, and what follows from it.

The definitions are those of PASCAL VOC (Everingham et al., "The Pascal Visual Object Classes Challenge: A
Retrospective", IJCV 2015, section 3.3) as the evaluation tools of Cityscapes (Cordts et al., CVPR 2016) apply them: one
matrix for all images together, and a mean over the classes that occur.
"""

import torch
from torch import Tensor


def confusion(predicted: Tensor, true: Tensor, classes: int, ignored: int | None = None) -> Tensor:
    """How many pixels of each class were taken for which: (classes, classes), row the true class, of int64.

    `predicted` and `true` hold class numbers in one shape, (N, H, W) or any other; pixels whose true label is `ignored`
    are left out. The matrix of a data set is the sum of its batches' matrices. Raises ValueError where the shapes
    differ or a number is no class.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predictions of shape {tuple(predicted.shape)} for labels of {tuple(true.shape)}")
    true, predicted = true.reshape(-1).long(), predicted.reshape(-1).long()
    if ignored is not None:
        kept = true != ignored
        true, predicted = true[kept], predicted[kept]
    for name, labels in (("label", true), ("prediction", predicted)):
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"a {name} is none of the {classes} classes 0 to {classes - 1}")
    return torch.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class: true positives / (true positives + false positives + false negatives).

    (classes, classes) -> (classes,), float64; NaN for a class without a pixel, true or predicted.
    """
    matrix = matrix.double()
    hits = matrix.diagonal()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)


def mean_iou(matrix: Tensor) -> float:
    """Mean of `class_iou` over the classes that occur, in the labels or in the predictions; NaN where none does."""
    return float(class_iou(matrix).nanmean())


def pixel_accuracy(matrix: Tensor) -> float:
    """Share of the pixels that have their true class; NaN where there is none."""
    return float(matrix.diagonal().sum().double() / matrix.sum())
