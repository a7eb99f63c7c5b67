"""Learning curves of a study: where a training will end, and whether it still can reach the threshold.

A one-cycle training's error falls most in its last epochs, by much the same factor for every network of a study. So
what finished trials still gained after a given fraction of their epochs, in log error, is what an unfinished one may
hope for; a wide prior worth one trial stands in for the first ones.
"""

import math

PRIOR = 0.9  # log error that a training of a tiny network loses from start to end
# deviation of the gain left at the end and for each e-fold of epochs to come: of recorded MNIST and Fashion-MNIST
# curves of 6 and 24 epochs, whose gains from the first of 24 epochs on differ by 1.2
SPREAD, GROWTH = 0.1, 0.25


def relative_error(accuracy: float, threshold: float) -> float:
    """log((1 - accuracy) / (1 - threshold)), at most 0 from the threshold on; no error counts as 1e-4 at most."""
    return math.log(max(1 - accuracy, min(1e-4, (1 - threshold) / 2)) / (1 - threshold))


class Curves:
    """Complete curves of trainings of `epochs` epochs; `add` one as each trial ends."""

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.count = 0
        self._sums = [[0.0, 0.0] for _ in range(epochs)]  # of the gains and of their squares, by epoch

    def add(self, curve: list[float]) -> None:
        """Accuracies by epoch; a curve of another length tells nothing and is left out."""
        if len(curve) == self.epochs:
            errors = [relative_error(accuracy, 0.0) for accuracy in curve]
            self.count += 1
            for sums, error in zip(self._sums, errors):
                sums[0] += error - errors[-1]
                sums[1] += (error - errors[-1]) ** 2

    def gain(self, epoch: int) -> tuple[float, float]:
        """Mean and standard deviation of the log error lost from the end of `epoch` to the end of the training."""
        total, squares = self._sums[epoch - 1]
        fraction = epoch / self.epochs
        guess, spread = PRIOR * (1 - fraction), SPREAD - GROWTH * math.log(fraction)
        mean = (total + guess) / (self.count + 1)
        variance = (squares - 2 * mean * total + self.count * mean**2 + (guess - mean) ** 2 + spread**2) / (
            self.count + 1
        )
        return mean, math.sqrt(max(variance, 0.0)) + 0.05

    def end(self, epoch: int, accuracy: float, threshold: float) -> tuple[float, float]:
        """Expected relative log error after the last epoch, and the deviation of that guess."""
        mean, deviation = self.gain(min(epoch, self.epochs))
        return relative_error(accuracy, threshold) - mean, deviation
