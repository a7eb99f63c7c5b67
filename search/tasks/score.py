"""Scores: what a task is judged by. For each of them more is better.

Records keep a score as a plain number: an accuracy or a mean IoU as a share between 0 and 1, a PSNR in dB.
"""

import math
from dataclasses import dataclass
from typing import Literal

MOST_DECIBELS = 100.0  # the PSNR of equal images, whose own has no end


class Decibels(float):
    """A number of dB; tables print it as such."""


class Share(float):
    """A number between 0 and 1 that tables print in per cent, whatever column it stands in."""


@dataclass(frozen=True)
class Score:
    """A score's name, its unit, and the scale on which networks differ evenly.

    Attributes:
        name: what tables call it.
        unit: "%" of a share between 0 and 1, or "dB".
        scale: what `search.tasks.scale` models: the logarithm of 1 - score ("error"), that of score / (1 - score)
            ("logit"), or the score itself ("linear").
        counted: whether it is a share of the test examples, so that it comes in steps of one example.
    """

    name: str
    unit: Literal["%", "dB"]
    scale: Literal["error", "logit", "linear"]
    counted: bool = False

    @property
    def most(self) -> float:
        """What no network can exceed."""
        return 1.0 if self.unit == "%" else MOST_DECIBELS

    def number(self, value: float | None) -> float | None:
        """A value for a table's cell, which prints it with its unit."""
        if value is None or self.counted:  # of accuracies tables know the columns
            return value
        return Decibels(value) if self.unit == "dB" else Share(value)

    def shown(self, value: float | None) -> str:
        """A value as it is written everywhere: "51.30 %", "36.66 dB"; "-" where there is none."""
        if value is None:
            return "-"
        return f"{100 * value:.2f} %" if self.unit == "%" else f"{value:.2f} dB"

    def goal(self, target: float) -> str:
        """A target: "99.5 %", "36.66 dB"."""
        return f"{100 * target:.6g} %" if self.unit == "%" else f"{target:g} dB"

    def difference(self, value: float) -> str:
        """A difference of two scores: "0.12 points", "0.12 dB"."""
        return f"{100 * value:.2f} points" if self.unit == "%" else f"{value:.2f} dB"

    def tag(self, target: float) -> str:
        """A target in a name: "99.5", "36.66dB"."""
        return f"{100 * target:g}" if self.unit == "%" else f"{target:g}dB"

    def possible(self, target: float) -> bool:
        """Whether a network could reach it without being perfect."""
        return 0 < target < self.most

    def margin(self, target: float, count: int) -> float:
        """What a validation score must exceed the target by, on `count` examples; 0 where that is not known.

        Of a share of examples a quarter of its standard error, less where that leaves nothing below 1. The smallest of
        several candidates that pass is picked, so passing by luck is likelier than it looks; against that, a
        confirmation trains on the validation examples too. Of a mean IoU or a PSNR nothing: how it scatters from image
        to image is not known in advance, and the image counts as one example here.
        """
        if not (self.counted and count):
            return 0.0
        return min(0.25 * math.sqrt(target * (1 - target) / count), 0.5 * (1 - target))

    def threshold(self, target: float, count: int) -> float:
        """The validation score from which a trial is feasible."""
        return target + self.margin(target, count)


ACCURACY = Score("accuracy", "%", "error", counted=True)
MEAN_IOU = Score("mIoU", "%", "logit")
PSNR = Score("PSNR", "dB", "linear")
SCORES: dict[str, Score] = {  # by the name of a task
    "classification": ACCURACY,
    "segmentation": MEAN_IOU,
    "super-resolution": PSNR,
}
