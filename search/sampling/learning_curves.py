"""Learning curves of a study: where a training will end, and whether it still can reach the threshold.

A one-cycle training's error falls most in its last epochs, by much the same factor for every network of a study. So
what finished trials still gained after a given fraction of their epochs, in log error, is what an unfinished one may
hope for, whatever their numbers of epochs; a wide prior worth one trial stands in for the first ones.
"""

import math
from collections.abc import Callable, Sequence

PRIOR = 0.9  # log error that a training of a tiny network loses from start to end
# deviation of the gain left at the end and for each e-fold of epochs to come: of recorded MNIST and Fashion-MNIST
# curves of 6 and 24 epochs, whose gains from the first of 24 epochs on differ by 1.2
SPREAD, GROWTH = 0.1, 0.25


def relative_error(accuracy: float, threshold: float) -> float:
    """log((1 - accuracy) / (1 - threshold)), at most 0 from the threshold on; no error counts as 1e-4 at most."""
    return math.log(max(1 - accuracy, min(1e-4, (1 - threshold) / 2)) / (1 - threshold))


class Curves:
    """Complete curves of trainings; `add` one as each trial ends.

    `error` of a score and a threshold is the scale on which they are compared; differences on it are those of any
    threshold, by default of `threshold`.
    """

    def __init__(self, error: Callable[[float, float], float] = relative_error, threshold: float = 0.0):
        self.error, self.threshold = error, threshold
        self.count = 0
        self._sums: dict[int, list[list[float]]] = {}  # by length: of the gains and of their squares, by epoch

    def add(self, curve: Sequence[float]) -> None:
        """Accuracies by epoch, of a whole training."""
        errors = [self.error(accuracy, self.threshold) for accuracy in curve]
        self.count += 1
        for sums, error in zip(self._sums.setdefault(len(curve), [[0.0, 0.0] for _ in curve]), errors):
            sums[0] += error - errors[-1]
            sums[1] += (error - errors[-1]) ** 2

    def gain(self, epoch: int, epochs: int) -> tuple[float, float]:
        """Mean and standard deviation of the log error lost from the end of `epoch` to the end of the training."""
        parts = [_between(sums, epoch * len(sums) / epochs) for sums in self._sums.values()]
        total, squares = map(sum, zip(*parts)) if parts else (0.0, 0.0)
        fraction = epoch / epochs
        guess, spread = PRIOR * (1 - fraction), SPREAD - GROWTH * math.log(fraction)
        mean = (total + guess) / (self.count + 1)
        variance = (squares - 2 * mean * total + self.count * mean**2 + (guess - mean) ** 2 + spread**2) / (
            self.count + 1
        )
        return mean, math.sqrt(max(variance, 0.0)) + 0.05

    def end(self, epoch: int, epochs: int, accuracy: float, threshold: float) -> tuple[float, float]:
        """Expected relative log error after the last of `epochs`, and the deviation of that guess."""
        mean, deviation = self.gain(min(epoch, epochs), epochs)
        return self.error(accuracy, threshold) - mean, deviation


def _between(sums: list[list[float]], place: float) -> list[float]:
    """The two sums at a place counted in epochs, from 1, which may lie between two of them."""
    place = max(1.0, place)
    before = min(int(place), len(sums))
    after = min(before + 1, len(sums))
    share = place - before
    return [low + share * (high - low) for low, high in zip(sums[before - 1], sums[after - 1])]
