"""What a confirmation says, and when it has seen enough seeds.

Three words. *Confirmed*: the lower one-sided 95 % bound of the mean over training seeds, adjusted for attempts and
looks, reaches the target. *Reached*: the mean does, the bound does not. *Missed*: neither does. So of networks whose
true mean is just at the target at most 5 % are confirmed, however many a row tries.

Looks: a group-sequential Student t test (Pocock 1977, Biometrika 64:191; Lan & DeMets 1983, Biometrika 70:659). After
3, 5, 10, 20, ... seeds it is asked whether the bound reaches the target; from 5 seeds on a yes ends the confirmation.
The error probability is spent in equal parts over these looks, which is safe for whatever dependence there is between
them (a union bound; Pocock's own levels for correlated looks are hardly wider: 0.03 instead of 0.025 for two). From 3
on it also ends where the bound can no longer be reached; the levels do not count on that. Betting confidence sequences
(Waudby-Smith & Ramdas 2024, JRSS B 86:1) would need no normality, but for numbers in [0, 1] near the target 0.99 a seed
multiplies their wealth by 1.001: ten seeds decide nothing.

Attempts: candidates are tried in ascending order of size until one is confirmed, so a row of the table takes an unknown
number of them. The k-th is judged at the level 0.05 / (k (k + 1)); over any number of attempts these sum to 0.05, which
bounds the probability that a row claims what is not so (Bonferroni; alpha spending in Foster & Stine 2008, JRSS B
70:429).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from scipy.special import stdtr, stdtrit

ALPHA = 0.05  # probability of confirming what is not so, over all looks and attempts
HOPE = 0.01  # that the seeds left come out so well: less than this is no hope
FIRST, ENOUGH = 3, 5  # seeds at the first look, and those that a confirmation takes if it may have so many


class Judgement(NamedTuple):
    """What test accuracies come to; the confidences are one-sided, that the mean over many seeds reaches the target."""

    verdict: Literal["confirmed", "reached", "missed"]
    confidence: float | None  # by itself; None for fewer than two accuracies
    adjusted: float | None  # for attempts and looks; None where the adjustment leaves nothing to say


def looks(most: int) -> list[int]:
    """Numbers of seeds after which a confirmation of at most `most` seeds may end: 3, 5, 10, 20, ... and `most`."""
    counts, count = [FIRST], ENOUGH
    while count < most:
        counts.append(count)
        count *= 2
    return [n for n in counts if n < most] + [most]


def successes(planned: Sequence[int]) -> list[int]:
    """Those of the looks `planned` that can end in success."""
    return [n for n in planned if n >= min(ENOUGH, planned[-1])]


def mean_of(accuracies: Sequence[float]) -> float:
    """Their mean, between the least and the greatest also where rounding would leave that range."""
    return min(max(accuracies), max(min(accuracies), math.fsum(accuracies) / len(accuracies)))


def _deviation(accuracies: Sequence[float], images: int | None) -> float:
    """Their standard deviation. On a test set of `images` accuracies are multiples of 1 / images: at the least that
    rounding's, 1 / (images sqrt(12))."""
    mean = mean_of(accuracies)
    rounding = 1 / (images * 12**0.5) if images else 0.0
    return max(math.sqrt(math.fsum((a - mean) ** 2 for a in accuracies) / (len(accuracies) - 1)), rounding)


def nominal(accuracies: Sequence[float], target: float, images: int | None = None) -> float | None:
    """One-sided confidence that the mean over seeds reaches `target` (Student's t), as if nothing else were tested.

    None for fewer than two, and where all are equal and `images`, the size of the test set, is not known.
    """
    n = len(accuracies)
    error = _deviation(accuracies, images) / n**0.5 if n > 1 else 0.0
    return float(stdtr(n - 1, (mean_of(accuracies) - target) / error)) if error > 1e-12 else None


def _level(planned: Sequence[int], attempt: int) -> float:
    """The error probability that one look of an attempt may spend."""
    return ALPHA / (len(successes(planned) if planned else [1]) * attempt * (attempt + 1))


def judge(
    accuracies: Sequence[float],
    target: float,
    planned: Sequence[int] = (),
    attempt: int = 1,
    images: int | None = None,
) -> Judgement:
    """The verdict on accuracies of one test, the attempt number `attempt` of its row.

    `planned` are the numbers of seeds after which it could end (left out: it could not before all were trained),
    `images` is the size of the test set.
    """
    plain = nominal(accuracies, target, images)
    adjusted = None
    if plain is not None and (not planned or len(accuracies) in successes(planned)):
        adjusted = 1 - (1 - plain) * ALPHA / _level(planned, attempt)
    if adjusted is not None and adjusted >= 1 - ALPHA:
        return Judgement("confirmed", plain, adjusted)
    reached = bool(accuracies) and mean_of(accuracies) >= target
    return Judgement("reached" if reached else "missed", plain, adjusted if adjusted and adjusted > 0 else None)


def hopeless(
    accuracies: Sequence[float],
    target: float,
    planned: Sequence[int],
    attempt: int = 1,
    images: int | None = None,
    best: float = 1.0,
) -> bool:
    """Whether the bound can no longer be reached: not by the last of the looks `planned`, and not even where the mean
    of the seeds left comes out as high as those so far let one expect once in a hundred times (Student's t), and as no
    score exceeds `best`."""
    n, most = len(accuracies), planned[-1]
    if n < 2 or n >= most:
        return False
    deviation, mean = _deviation(accuracies, images), mean_of(accuracies)
    rest = min(best, mean + float(stdtrit(n - 1, 1 - HOPE)) * deviation * (1 / n + 1 / (most - n)) ** 0.5)
    needed = target + float(stdtrit(most - 1, 1 - _level(planned, attempt))) * deviation / most**0.5
    return (n * mean + (most - n) * rest) / most < needed


def enough(
    accuracies: Sequence[float],
    target: float,
    planned: Sequence[int],
    attempt: int = 1,
    images: int | None = None,
    best: float = 1.0,
) -> bool:
    """Whether a test ends with these accuracies, those up to one of the looks `planned`."""
    return (
        len(accuracies) >= planned[-1]
        or judge(accuracies, target, planned, attempt, images).verdict == "confirmed"
        or hopeless(accuracies, target, planned, attempt, images, best)
    )


def summary(accuracies: Sequence[float]) -> dict[str, Any]:
    """mean, interval, min, max (None of nothing) and n; the interval as in `Confirmation`, not clipped to [0, 1]."""
    n = len(accuracies)
    if n == 0:
        return {"mean": None, "interval": None, "min": None, "max": None, "n": 0}
    low, high = min(accuracies), max(accuracies)
    mean = mean_of(accuracies)
    interval = None
    if n > 1:
        deviation = math.sqrt(math.fsum((a - mean) ** 2 for a in accuracies) / (n - 1))
        half = float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)
        interval = (mean - half, mean + half)
    return {"mean": mean, "interval": interval, "min": low, "max": high, "n": n}
