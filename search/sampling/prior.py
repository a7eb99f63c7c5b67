"""What is expected of a configuration before anything like it has been measured: a line in the logarithm of its cost.

Someone who asks for less than anything on record has, with the ceiling, names a wish and no expectation. So where the
line reaches the threshold, the *par*, is the ceiling only as long as nothing was measured under the same conditions.
"""

import math
from collections.abc import Sequence

import numpy as np

from .gaussian_process import LEVEL

SLOPE = 0.8  # of the log error over the log parameters: MNIST networks of 700 to 3,500 parameters show 0.7 to 1.2
# of the log error over the log epochs: 17 pairs of records that differ in nothing else show 0.02 to 0.5, 0.12 in the
# median
LENGTH = 0.12
SCATTER = 0.06  # variance of configurations of equal cost and length about the line


def expected(par: float, costs: Sequence[float], lengths: Sequence[float | None], usual: float | None) -> np.ndarray:
    """The relative log errors of configurations by cost and epochs, those of cost `par` and `usual` epochs being 0.

    Of lengths nothing is expected where there is no usual one.
    """
    mean = SLOPE * np.log(par / np.array(costs, dtype=float))
    if not usual:
        return mean
    return mean - LENGTH * np.log(np.array(lengths, dtype=float) / usual)


def par_of(
    ceiling: float,
    costs: Sequence[float],
    lengths: Sequence[float | None],
    usual: float | None,
    values: Sequence[float],
) -> float:
    """The cost at which configurations are expected to reach the threshold: the ceiling, corrected by relative log
    errors `values` that were measured under the same conditions.

    The level is the posterior mean under the prior variance `LEVEL`, so one measurement moves it a little over half of
    the way.
    """
    if not len(values):
        return ceiling
    off = float(np.mean(np.array(values) - expected(ceiling, costs, lengths, usual)))
    return ceiling * math.exp(off * len(values) / (len(values) + SCATTER / LEVEL) / SLOPE)
