"""When a confirmation has seen enough seeds, and how sure it is.

A group-sequential Student t test (Pocock 1977, Biometrika 64:191; Lan & DeMets 1983, Biometrika 70:659). After 3, 5,
10, 20, ... seeds the hypothesis "the mean over training seeds is at the target" is tested. Evidence above it ends the
confirmation early (from 5 seeds on), evidence below it too; with all seeds trained the mean itself decides. The error
probability is spent in equal parts over the looks, which is safe for whatever dependence there is between them (a
union bound; Pocock's own levels for correlated looks are hardly wider: 0.03 instead of 0.025 for two). Stopping for
failure is not binding: the levels of success do not count on it. Betting confidence sequences (Waudby-Smith & Ramdas
2024, JRSS B 86:1) would need no normality, but for numbers in [0, 1] near the target 0.99 a seed multiplies their
wealth by 1.001: ten seeds decide nothing.

Several attempts: candidates are tried in ascending order of size until one is confirmed, so a row of the table takes an
unknown number of attempts. The k-th is judged at the level 0.05 / (k (k + 1)); over any number of attempts these sum to
0.05, which bounds the probability that a row claims what is not so (Bonferroni; alpha spending in Foster & Stine 2008,
JRSS B 70:429).
"""

from collections.abc import Sequence

from scipy.special import stdtr

from .records import mean_of

ALPHA = 0.05  # of the test for success over all looks and attempts; of that for failure over the looks of an attempt
FIRST, ENOUGH = 3, 5  # seeds at the first look, and those that a confirmation takes if it may have so many


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


def nominal(accuracies: Sequence[float], target: float, images: int | None = None) -> float | None:
    """One-sided confidence that the mean over seeds reaches `target` (Student's t); None for fewer than two.

    On a test set of `images` accuracies are multiples of 1 / images: their deviation is taken to be that rounding's,
    1 / (images sqrt(12)), at the least. Where that is not known and all are equal, None.
    """
    n = len(accuracies)
    if n < 2:
        return None
    mean = mean_of(accuracies)
    rounding = 1 / (images * 12**0.5) if images else 0.0
    error = max((sum((a - mean) ** 2 for a in accuracies) / (n - 1)) ** 0.5, rounding) / n**0.5
    return float(stdtr(n - 1, (mean - target) / error)) if error > 1e-12 else None


def confidence(
    accuracies: Sequence[float],
    target: float,
    planned: Sequence[int] = (),
    attempt: int = 1,
    images: int | None = None,
) -> float | None:
    """`nominal`, adjusted for the looks `planned` and for being the attempt number `attempt`; 0 at the least."""
    plain = nominal(accuracies, target, images)
    if plain is None:
        return None
    return max(0.0, 1 - (1 - plain) * len(successes(planned) if planned else [1]) * attempt * (attempt + 1))


def decide(
    accuracies: Sequence[float],
    target: float,
    planned: Sequence[int],
    attempt: int = 1,
    images: int | None = None,
) -> bool | None:
    """True: confirmed; False: failed; None: more seeds are needed. `accuracies` are those up to one of the looks."""
    n = len(accuracies)
    if n >= planned[-1]:
        return mean_of(accuracies) >= target
    plain = nominal(accuracies, target, images)
    if plain is None:
        return None
    if plain <= ALPHA / (len(planned) - 1):
        return False
    if n in successes(planned) and confidence(accuracies, target, planned, attempt, images) >= 1 - ALPHA:
        return True
    return None
