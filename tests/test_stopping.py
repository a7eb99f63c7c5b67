"""The sequential confirmation: its error rates by simulation, what it saves, and how the confidence is adjusted."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from search.stopping import ALPHA, confidence, decide, looks, nominal, successes

TARGET, SPREAD = 0.99, 0.0005  # a spread over seeds as on MNIST
RUNS = 3000


def test_looks_end_at_the_most_and_five_seeds_are_needed_for_success():
    assert [looks(n) for n in (1, 2, 3, 4, 5, 6, 10, 20)] == [
        [1], [2], [3], [3, 4], [3, 5], [3, 5, 6], [3, 5, 10], [3, 5, 10, 20],
    ]  # fmt: skip
    assert successes(looks(10)) == [5, 10] and successes(looks(4)) == [4] and successes(looks(5)) == [5]
    sure = [0.999, 0.9991, 0.9992]
    assert decide(sure, 0.5, looks(10)) is None, "three seeds never confirm when ten may be trained"
    assert decide([*sure, 0.9993, 0.9994], 0.5, looks(10)) is True
    assert decide(sure, 0.9999, looks(10)) is False
    assert decide([0.98, 0.99, 0.9999], 0.98, looks(3)) is True, "with all seeds the mean decides"


def test_exactly_the_target_reaches_it():
    """The rounded sum of three times 0.99 is less than three times 0.99."""
    assert decide([0.99] * 3, 0.99, looks(3)) is True and decide([0.9] * 5, 0.9, looks(5)) is True
    assert nominal([0.99] * 3, 0.99, 10_000) == pytest.approx(0.5)


def simulate(gap: float, draw, most: int = 10, attempt: int = 1) -> list[tuple[bool, int, float, float]]:
    """Outcome, seeds, adjusted confidence and mean of many confirmations whose true mean is TARGET + gap."""
    generator, planned, found = np.random.default_rng(0), looks(most), []
    for values in TARGET + gap + SPREAD * draw(generator, (RUNS, most)):
        for n in planned:
            accuracies = values[:n].tolist()
            outcome = decide(accuracies, TARGET, planned, attempt)
            if outcome is not None:
                found.append((outcome, n, confidence(accuracies, TARGET, planned, attempt), accuracies))
                break
    return found


def normal(generator, shape):
    return generator.standard_normal(shape)


def skewed(generator, shape):
    """Now and then a seed turns out badly: a gamma distribution's lower tail, mean 0, deviation 1."""
    return (4 - generator.gamma(4.0, 1.0, shape)) / 2


# three standard errors of a rate of 0.05 in so many runs
SLACK = 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5


@pytest.mark.parametrize("most", [5, 10, 20])
def test_error_rates_at_the_target_itself(most):
    found = simulate(0.0, normal, most)
    assert sum(sure >= 1 - ALPHA for _, _, sure, _ in found) / RUNS <= ALPHA / 2 + SLACK, "a first attempt has half"
    failed_early = sum(not outcome and n < most for outcome, n, *_ in found) / RUNS
    assert 0.005 < failed_early <= ALPHA + SLACK


def test_error_rate_without_adjustment_would_be_larger():
    """That the simulation can see an error: stopping at the first nominal 95 % is right too often."""
    generator = np.random.default_rng(1)
    values = TARGET + SPREAD * generator.standard_normal((RUNS, 20))
    peeked = sum(any(nominal(v[:n].tolist(), TARGET) >= 1 - ALPHA for n in looks(20)) for v in values) / RUNS
    assert peeked > ALPHA + 2 * SLACK


def test_family_of_attempts_keeps_the_error_rate():
    """Ten networks whose true mean is just at the target: at most 5 % of such rows claim 95 % for any of them."""
    generator = np.random.default_rng(2)
    rows, claimed = 1500, 0
    for values in TARGET + SPREAD * generator.standard_normal((rows, 10, 5)):
        sure = [confidence(v.tolist(), TARGET, looks(5), attempt) for attempt, v in enumerate(values, 1)]
        claimed += max(sure) >= 1 - ALPHA
    assert claimed / rows <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / rows) ** 0.5
    assert claimed, "the test is not empty"


def test_skewed_seeds_cost_little():
    """Not normal: the t test leans on the central limit; a long lower tail makes it claim too little, not too much."""
    found = simulate(0.0, skewed)
    assert sum(sure >= 1 - ALPHA for _, _, sure, _ in found) / RUNS <= ALPHA + SLACK


def test_clear_cases_end_early_and_right():
    good, bad = simulate(4 * SPREAD, normal), simulate(-8 * SPREAD, normal)
    assert all(outcome for outcome, *_ in good) and not any(outcome for outcome, *_ in bad)
    assert np.mean([n for _, n, *_ in good]) < 6.5 and np.mean([n for _, n, *_ in bad]) < 4


def test_confirmed_means_that_the_mean_reaches_the_target():
    for gap in (-SPREAD, 0.0, SPREAD):
        for outcome, _, _, accuracies in simulate(gap, normal):
            assert outcome == (sum(accuracies) / len(accuracies) >= TARGET)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda a: max(a) - min(a) > 1e-6), st.floats(0.01, 0.99)
)
def test_nominal_confidence_is_that_of_a_one_sided_t_test(accuracies, target):
    expected = 1 - scipy.stats.ttest_1samp(accuracies, target, alternative="greater").pvalue
    assert nominal(accuracies, target) == pytest.approx(expected, abs=1e-9)
    adjusted = confidence(accuracies, target, looks(10), 3)
    assert adjusted == pytest.approx(max(0, 1 - (1 - expected) * 2 * 12), abs=1e-7)


def test_confidence_of_equal_or_single_accuracies():
    assert nominal([0.95], 0.9) is None and confidence([], 0.9) is None
    assert nominal([0.95, 0.95], 0.9) is None and decide([0.95] * 5, 0.9, looks(10)) is None
    assert nominal([0.95, 0.95], 0.9, 10_000) > 0.999 > 0.001 > nominal([0.85, 0.85], 0.9, 10_000)
    assert decide([0.95] * 5, 0.9, looks(10), 1, 10_000) is True
    assert decide([0.9] * 5, 0.9, looks(10), 50, 10_000) is None


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("images", [50, 100, 1000])
def test_on_a_small_test_set_equal_accuracies_claim_no_more_than_others(count, images):
    """At the target at most half of ALPHA may be claimed as a first attempt, however coarse accuracies are."""
    generator = np.random.default_rng(images + count)
    values = 0.9 + generator.normal(0, 0.5 / images, (4 * RUNS, count))
    rounded = np.round(values * images) / images
    claimed = [confidence(v.tolist(), 0.9, (), 1, images) >= 1 - ALPHA for v in rounded]
    assert np.mean(claimed) <= ALPHA / 2 + SLACK
