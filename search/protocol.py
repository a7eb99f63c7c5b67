"""The rules of a search that make its results comparable: what is split off, what is to be beaten, what counts."""

import math

VALIDATION = {"mnist": 5000, "fashion-mnist": 5000, "cifar10": 5000, "cifar10-jpeg": 5000}
CEILINGS = {("mnist", 0.99): 3566, ("fashion-mnist", 0.9): 7156, ("cifar10", 0.8): 37058, ("cifar10", 0.9): 520106}
CEILINGS |= {("cifar10-jpeg", target): CEILINGS["cifar10", target] for target in (0.8, 0.9)}
# the published networks' width and an up-sampling: searches start from them
STARTS = {"mnist": (8, "bilinear"), "fashion-mnist": (8, "bilinear")}
STARTS |= {("cifar10", 0.8): (32, "bilinear"), ("cifar10", 0.9): (64, "bilinear")}


def margin(target: float, validation_count: int) -> float:
    """What a validation mean must exceed the target by: a quarter of the standard error of an accuracy measured on that
    many images, less where that leaves nothing below 1. The smallest of several candidates that pass is picked, so
    passing by luck is likelier than it looks; against that, a confirmation trains on the validation images too."""
    return min(0.25 * math.sqrt(target * (1 - target) / validation_count), 0.5 * (1 - target))


def threshold(target: float, validation_count: int) -> float:
    """The validation mean from which a trial is feasible; where the number of images is not known (0), the target."""
    return target + (margin(target, validation_count) if validation_count else 0.0)
