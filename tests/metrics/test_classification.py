"""The metrics against their definitions, written out one image at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from search.metrics.classification import Calibration, confusion, per_class, softmax, top


@st.composite
def scored(draw, ties: bool = True):
    classes, count = draw(st.integers(2, 6)), draw(st.integers(1, 30))
    numbers = st.integers(-3, 3).map(float) if ties else st.floats(-30, 30)
    scores = draw(arrays.arrays(np.float64, (count, classes), elements=numbers))
    return scores, np.array(draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)))


@given(scored(), st.integers(1, 6))
def test_top_k_is_being_among_the_first_k_of_a_stable_order(given_, k):
    scores, labels = given_
    order = np.argsort(-scores, 1, kind="stable")
    assert top(scores, labels, k) == np.mean([label in row[:k] for row, label in zip(order, labels)])
    assert top(scores, labels) == (scores.argmax(1) == labels).mean()
    assert top(scores, labels, scores.shape[1]) == 1


@given(scored())
def test_a_confusion_matrix_counts_every_image_once(given_):
    scores, labels = given_
    matrix, said = confusion(scores, labels), scores.argmax(1)
    assert all(
        matrix[true, seen] == sum((a, b) == (true, seen) for a, b in zip(labels, said))
        for true in range(len(matrix))
        for seen in range(len(matrix))
    )
    assert matrix.trace() / matrix.sum() == top(scores, labels)
    for category, share in enumerate(per_class(matrix)):
        mine = labels == category
        assert math.isnan(share) if not mine.any() else share == (said[mine] == category).mean()


@given(scored(ties=False))
def test_probabilities_sum_to_one_and_keep_the_order(given_):
    scores, _ = given_
    found = softmax(scores)
    assert np.allclose(found.sum(1), 1) and (found >= 0).all()
    assert np.allclose(np.take_along_axis(found, scores.argmax(1)[:, None], 1)[:, 0], found.max(1))
    assert np.allclose(softmax(scores + 1000), found), "a constant added changes nothing, and overflows nothing"


@given(scored(ties=False), st.integers(1, 20))
def test_the_calibration_error_is_guos_sum_over_bins(given_, bins):
    scores, labels = given_
    chances = softmax(scores)
    found, total = Calibration.of(chances, labels, bins), 0.0
    for number in range(1, bins + 1):
        sure = chances.max(1)
        inside = (sure > (number - 1) / bins) & (sure <= number / bins)
        assert found.counts[number - 1] == inside.sum()
        if inside.any():
            right = (chances.argmax(1) == labels)[inside].mean()
            total += inside.mean() * abs(right - sure[inside].mean())
    assert found.error == pytest.approx(total) and 0 <= found.error <= 1


def test_a_network_as_sure_as_it_is_right_is_calibrated():
    chances = np.tile([0.75, 0.25], (400, 1))
    labels = np.repeat([0, 1], [300, 100])
    assert Calibration.of(chances, labels).error == pytest.approx(0)
    assert Calibration.of(chances, 1 - labels).error == pytest.approx(0.5)
    assert Calibration.of(np.eye(2)[labels], labels).error == 0, "a confidence of 1 is in the last bin"


def test_what_is_no_number_is_never_right():
    scores = np.array([[np.nan, 0.0], [1.0, np.nan], [np.nan, np.nan]])
    assert top(scores, np.array([0, 0, 1]), 1) == 0 and top(scores, np.array([1, 0, 1]), 1) == 0


@pytest.mark.parametrize(
    ("scores", "labels"),
    [(np.zeros((0, 3)), np.zeros(0, int)), (np.zeros((2, 3)), np.zeros(3, int)), (np.zeros((1, 3)), np.array([3])),
     (np.zeros((1, 3)), np.array([-1])), (np.zeros(3), np.array([1]))],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(scores, labels):
    for measure in (top, confusion, Calibration.of):
        with pytest.raises(ValueError, match="labels"):
            measure(scores, labels)
