"""How well scores classify: accuracy, top-k, confusion matrix, accuracy of each class, calibration.

Arrays: `labels` (N,) of integers from 0 to K - 1; `scores` and `probabilities` (N, K) of floats, one column a class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15  # as in Guo et al., section 5


def ranks(scores: NDArray, labels: NDArray) -> NDArray[np.intp]:
    """How many classes are ahead of an image's own one, (N,): 0 where it is classified right.

    Of equal scores the first class is ahead, as for argmax. A score that is not a number is ahead of all others, and
    an image whose own score is none is right for no k.
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    ahead = ~(scores <= own) | (scores == own) & before
    ahead[np.arange(len(labels)), labels] = np.isnan(own[:, 0])
    return ahead.sum(1)


def top(scores: NDArray, labels: NDArray, k: int = 1) -> float:
    """Share of images whose class is among the `k` with the highest scores. Raises ValueError without images."""
    _checked(scores, labels)
    return float((ranks(scores, labels) < k).mean())


def confusion(scores: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """(K, K) counts: of the images of the row's class those that are classified as the column's."""
    _checked(scores, labels)
    classes = scores.shape[1]
    cells = labels.astype(np.int64) * classes + scores.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def per_class(matrix: NDArray) -> NDArray[np.float64]:
    """(K,) share of the images of each class that are classified right, from a confusion matrix (K, K); NaN for a
    class without images."""
    counts = matrix.sum(1)
    return np.divide(matrix.diagonal(), counts, out=np.full(len(matrix), np.nan), where=counts > 0)


def softmax(scores: NDArray) -> NDArray[np.float64]:
    """Probabilities (N, K), a row's sum is 1."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


@dataclass(frozen=True)
class Calibration:
    """How far a network's confidence, the probability of the class it says, is from the share that is right.

    Attributes:
        counts: (bins,) images by confidence; bin m (from 1) of M has those above (m - 1) / M, up to m / M.
        confidence, accuracy: (bins,) their mean confidence and the share that is right; 0 in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: NDArray, labels: NDArray, bins: int = BINS) -> "Calibration":
        """That of `probabilities`. Raises ValueError without images."""
        _checked(probabilities, labels)
        sure, right = probabilities.max(1), probabilities.argmax(1) == labels
        which = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
        counts = np.bincount(which, minlength=bins)
        filled = np.maximum(counts, 1)
        return cls(
            counts,
            np.bincount(which, weights=sure, minlength=bins) / filled,
            np.bincount(which, weights=right, minlength=bins) / filled,
        )

    @property
    def error(self) -> float:
        """The expected calibration error, between 0 and 1 (Guo et al., "On Calibration of Modern Neural Networks",
        2017, arXiv 1706.04599, equation 3): the mean over images of their bin's |accuracy - confidence|."""
        return float((self.counts * abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def _checked(scores: NDArray, labels: NDArray) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ValueError(f"scores (N, K) and labels (N,) of at least one image, not {scores.shape} and {labels.shape}")
    if not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise ValueError(f"labels are from 0 to {scores.shape[1] - 1}, not {labels.min()} to {labels.max()}")
