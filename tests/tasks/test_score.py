"""Scores: what is shown, what is possible, and the scale on which they are modelled."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.tasks.scale import shortfall
from search.tasks.score import ACCURACY, MEAN_IOU, PSNR, SCORES

SHARES = st.floats(0.01, 0.99)
DECIBELS = st.floats(10, 60)


def test_words():
    assert (ACCURACY.shown(0.9924), PSNR.shown(36.664), MEAN_IOU.shown(None)) == ("99.24 %", "36.66 dB", "-")
    assert (ACCURACY.goal(0.995), PSNR.goal(36.66)) == ("99.5 %", "36.66 dB")
    assert (MEAN_IOU.difference(0.0123), PSNR.difference(0.5)) == ("1.23 points", "0.50 dB")
    assert (ACCURACY.tag(0.875), PSNR.tag(36.66)) == ("87.5", "36.66dB")


@pytest.mark.parametrize("score", SCORES.values(), ids=lambda score: score.name)
@given(data=st.data())
def test_error_falls_as_the_score_rises_and_is_nothing_at_the_target(score, data):
    values = DECIBELS if score.unit == "dB" else SHARES
    target, value, better = data.draw(values), data.draw(values), data.draw(values)
    assert shortfall(score, target, target) == pytest.approx(0)
    if value < better:
        assert shortfall(score, value, target) >= shortfall(score, better, target)
    if not math.isclose(value, target):  # the logarithms of neighbours may be one number
        assert (shortfall(score, value, target) <= 0) == (value >= target)
    apart = shortfall(score, value, better) - shortfall(score, target, better)
    assert shortfall(score, value, target) == pytest.approx(apart, abs=1e-9), "whatever the target"


def test_scales():
    assert shortfall(ACCURACY, 0.9, 0.95) == pytest.approx(math.log(2))
    logit = math.log(0.6 / 0.4) - math.log(0.3 / 0.7)
    assert shortfall(MEAN_IOU, 0.3, 0.6) == pytest.approx(logit)
    assert shortfall(PSNR, 35.0, 36.0) - shortfall(PSNR, 36.0, 36.0) == 2.0, "twice the decibels, wherever they lie"
    assert shortfall(PSNR, 30.0, 36.0) - shortfall(PSNR, 31.0, 36.0) == 2.0
    assert all(math.isfinite(shortfall(score, 0.0, 0.5)) for score in SCORES.values())


def test_possible_targets_and_margins():
    assert not any(score.possible(0.0) for score in SCORES.values())
    assert not ACCURACY.possible(1.0) and PSNR.possible(36.66) and not PSNR.possible(100.0)
    assert ACCURACY.threshold(0.9, 900) == pytest.approx(0.9025) and ACCURACY.threshold(0.9, 0) == 0.9
    assert PSNR.threshold(36.66, 40) == 36.66 and MEAN_IOU.threshold(0.5, 100) == 0.5
