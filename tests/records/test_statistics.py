"""The sequential confirmation: its error rates by simulation, what it saves, and how the confidence is adjusted."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from search.records.statistics import ALPHA, enough, hopeless, judge, looks, nominal, successes

TARGET, SPREAD = 0.99, 0.0005  # a spread over seeds as on MNIST
RUNS = 3000


def test_looks_end_at_the_most_and_five_seeds_are_needed_for_success():
    assert [looks(n) for n in (1, 2, 3, 4, 5, 6, 10, 20)] == [
        [1], [2], [3], [3, 4], [3, 5], [3, 5, 6], [3, 5, 10], [3, 5, 10, 20],
    ]  # fmt: skip
    assert successes(looks(10)) == [5, 10] and successes(looks(4)) == [4] and successes(looks(5)) == [5]
    sure = [0.999, 0.9991, 0.9992]
    assert not enough(sure, 0.5, looks(10)), "three seeds never confirm when ten may be trained"
    assert judge(sure, 0.5, looks(10)).verdict == "reached"
    assert enough([*sure, 0.9993, 0.9994], 0.5, looks(10)) and not hopeless([*sure, 0.9993, 0.9994], 0.5, looks(10))
    assert judge([*sure, 0.9993, 0.9994], 0.5, looks(10)).verdict == "confirmed"
    assert hopeless(sure, 0.9999, looks(10)) and enough(sure, 0.9999, looks(10))
    assert enough([0.98, 0.99, 0.9999], 0.98, looks(3)), "all seeds"


def test_the_three_words():
    assert judge([0.985, 0.99, 0.996], 0.99).verdict == "reached", "the mean, not the bound"
    assert judge([0.985, 0.99, 0.994], 0.99).verdict == "missed"
    assert judge([0.9951, 0.9952, 0.9953], 0.99).verdict == "confirmed"
    assert judge([0.9951, 0.9952, 0.9953], 0.99, (), 50).verdict == "reached", "as the fiftieth attempt"
    assert judge([0.995], 0.99) == ("reached", None, None), "one seed bounds nothing"
    assert judge([], 0.99).verdict == "missed"


@given(st.lists(st.floats(0.98, 1), min_size=2, max_size=10), st.integers(1, 5))
def test_confirmed_is_that_the_lower_adjusted_bound_reaches_the_target(accuracies, attempt):
    n, planned = len(accuracies), looks(10)
    level = ALPHA / attempt / (attempt + 1) / 2
    error = max(np.std(accuracies, ddof=1), 1 / 10_000 / 12**0.5) / n**0.5
    bound = np.mean(accuracies) + scipy.stats.t.ppf(level, n - 1) * error
    if n in (5, 10) and abs(bound - TARGET) > 1e-9:
        told = judge(accuracies, TARGET, planned, attempt, 10_000)
        assert (told.verdict == "confirmed") == (bound >= TARGET)
        assert told.adjusted is None or told.adjusted <= told.confidence


def test_a_bound_that_says_nothing_is_none():
    told = judge([0.9, 0.9002, 0.9001, 0.8999, 0.9], 0.9, (), 3)
    assert told.verdict == "reached" and 0.5 < told.confidence < 0.95 and told.adjusted is None


def test_exactly_the_target_reaches_it():
    """The rounded sum of three times 0.99 is less than three times 0.99."""
    assert judge([0.99] * 3, 0.99, looks(3)).verdict == judge([0.9] * 5, 0.9, looks(5)).verdict == "reached"
    assert nominal([0.99] * 3, 0.99, 10_000) == pytest.approx(0.5)


def simulate(gap: float, draw, most: int = 10, attempt: int = 1) -> list[tuple[str, int, list[float]]]:
    """Verdict, seeds and accuracies of many confirmations whose true mean is TARGET + gap."""
    generator, planned, found = np.random.default_rng(0), looks(most), []
    for values in TARGET + gap + SPREAD * draw(generator, (RUNS, most)):
        n = next(n for n in planned if enough(values[:n].tolist(), TARGET, planned, attempt))
        found.append((judge(values[:n].tolist(), TARGET, planned, attempt).verdict, n, values.tolist()))
    return found


def share(found, word: str) -> float:
    return sum(verdict == word for verdict, *_ in found) / len(found)


def normal(generator, shape):
    return generator.standard_normal(shape)


def skewed(generator, shape):
    """Now and then a seed turns out badly: a gamma distribution's lower tail, mean 0, deviation 1."""
    return (4 - generator.gamma(4.0, 1.0, shape)) / 2


# three standard errors of a rate of 0.05 in so many runs
SLACK = 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5


@pytest.mark.parametrize("most", [5, 10, 20])
def test_at_the_target_itself_hardly_any_is_confirmed(most):
    found = simulate(0.0, normal, most)
    assert 0.005 < share(found, "confirmed") <= ALPHA / 2 + SLACK, "a first attempt has half"
    assert share(found, "reached") > 0.1, "which is no confirmation"


def test_four_candidates_at_the_target_are_confirmed_in_five_per_cent_together():
    """By their means alone one of four would be, in 94 % of cases."""
    generator, planned, confirmed, means = np.random.default_rng(3), looks(10), 0, 0
    rows = 1500
    for row in TARGET + SPREAD * generator.standard_normal((rows, 4, 10)):
        words = []
        for attempt, values in enumerate(row, 1):
            n = next(n for n in planned if enough(values[:n].tolist(), TARGET, planned, attempt))
            words.append(judge(values[:n].tolist(), TARGET, planned, attempt).verdict)
        confirmed += "confirmed" in words
        means += max(row.mean(1)) >= TARGET
    assert 0 < confirmed / rows <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / rows) ** 0.5
    assert means / rows > 0.9


def test_error_rate_without_adjustment_would_be_larger():
    """That the simulation can see an error: stopping at the first nominal 95 % is right too often."""
    generator = np.random.default_rng(1)
    values = TARGET + SPREAD * generator.standard_normal((RUNS, 20))
    peeked = sum(any(nominal(v[:n].tolist(), TARGET) >= 1 - ALPHA for n in looks(20)) for v in values) / RUNS
    assert peeked > ALPHA + 2 * SLACK


def test_skewed_seeds_cost_little():
    """Not normal: the t test leans on the central limit; a long lower tail makes it claim too little, not too much."""
    assert share(simulate(0.0, skewed), "confirmed") <= ALPHA + SLACK


def test_clear_cases_end_early_and_right():
    good, bad = simulate(4 * SPREAD, normal), simulate(-8 * SPREAD, normal)
    assert share(good, "confirmed") == 1 and share(bad, "missed") == 1
    assert np.mean([n for _, n, _ in good]) < 6.5 and np.mean([n for _, n, _ in bad]) < 4


def test_ending_without_hope_saves_seeds_and_loses_next_to_nothing():
    """What all seeds would have confirmed is confirmed all the same, but for one or two in a hundred."""
    for gap in (SPREAD, 1.5 * SPREAD):
        lost = [
            verdict != "confirmed" and judge(values, TARGET, looks(10)).verdict == "confirmed"
            for verdict, _, values in simulate(gap, normal)
        ]
        assert np.mean(lost) < 0.02
    assert np.mean([n for _, n, _ in simulate(-2 * SPREAD, normal)]) < 6, "of ten"


def test_a_higher_attempt_loses_hope_earlier():
    close = [0.9900, 0.9902, 0.9904, 0.9901, 0.9900]
    assert not hopeless(close, TARGET, looks(10), 1, 10_000)
    assert hopeless([a - 0.0002 for a in close], TARGET, looks(10), 9, 10_000)
    assert not hopeless(close, TARGET, looks(5), 9, 10_000), "with all seeds there is nothing left to hope for"


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda a: max(a) - min(a) > 1e-6), st.floats(0.01, 0.99)
)
def test_nominal_confidence_is_that_of_a_one_sided_t_test(accuracies, target):
    expected = 1 - scipy.stats.ttest_1samp(accuracies, target, alternative="greater").pvalue
    assert nominal(accuracies, target) == pytest.approx(expected, abs=1e-9)
    told = judge(accuracies, target, [len(accuracies), 40], 3)
    assert told.confidence == nominal(accuracies, target)
    if len(accuracies) >= 5:
        assert (told.adjusted or 0) == pytest.approx(max(0, 1 - (1 - expected) * 2 * 12), abs=1e-7)


def test_confidence_of_equal_or_single_accuracies():
    assert nominal([0.95], 0.9) is None and nominal([], 0.9) is None
    assert nominal([0.95, 0.95], 0.9) is None and not enough([0.95] * 5, 0.9, looks(10))
    assert nominal([0.95, 0.95], 0.9, 10_000) > 0.999 > 0.001 > nominal([0.85, 0.85], 0.9, 10_000)
    assert judge([0.95] * 5, 0.9, looks(10), 1, 10_000).verdict == "confirmed"


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("images", [50, 100, 1000])
def test_on_a_small_test_set_equal_accuracies_claim_no_more_than_others(count, images):
    """At the target at most half of ALPHA may be claimed as a first attempt, however coarse accuracies are."""
    generator = np.random.default_rng(images + count)
    values = 0.9 + generator.normal(0, 0.5 / images, (4 * RUNS, count))
    rounded = np.round(values * images) / images
    claimed = [judge(v.tolist(), 0.9, (), 1, images).verdict == "confirmed" for v in rounded]
    assert np.mean(claimed) <= ALPHA / 2 + SLACK
