"""The scale on which the sampler compares scores: networks of one kind, twice as large, differ by about as much on it
wherever their scores lie."""

import math

from search.sampling.learning_curves import relative_error
from search.tasks.score import Score

LEAST = 1e-4  # what a mean IoU of nothing counts as
PER_DECIBEL = 2.0  # what a decibel is to the sampler


def shortfall(score: Score, value: float, target: float) -> float:
    """How far a score is from the target: at most 0 where it is reached.

    Of an accuracy log((1 - accuracy) / (1 - target)). Of a mean IoU the difference of the logits, which goes on
    falling evenly where scores are near 0. A PSNR is a logarithm of the error already; twice its decibels: half a
    decibel between networks of one kind takes about as many more parameters as a third less of errors does in
    classification (FSRCNN, Dong et al. 2016: 3,937 parameters give 36.57 dB, 12,464 give 37.00 on Set5).
    """
    if score.scale == "linear":
        return PER_DECIBEL * (target - value)
    plain = relative_error(value, target)
    return plain if score.scale == "error" else plain - math.log(max(value, LEAST) / target)


def score_at(score: Score, distance: float, target: float) -> float:
    """The score whose `shortfall` of the target is `distance`."""
    if score.scale == "linear":
        return target - distance / PER_DECIBEL
    if score.scale == "error":
        return 1 - (1 - target) * math.exp(distance)
    return 1 / (1 + (1 - target) / target * math.exp(distance))
