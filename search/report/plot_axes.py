"""Axes of the pictures: accuracies spaced by the logarithm of the error, parameter counts by their own."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from search.tasks.score import ACCURACY, Score


def capped(value: float, score: Score = ACCURACY) -> float:
    """A score that can be drawn: the logarithm of no error cannot."""
    return value if score.unit == "dB" else min(max(value, 0.0), 1 - 1e-5)


def target_lines(axes: Axes, targets: Sequence[float], score: Score = ACCURACY) -> None:
    """Draw every target as a line with its name."""
    for target in targets:
        axes.axhline(target, color="#000000", lw=0.9, ls=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"target {score.goal(target)}", (0, target), xycoords=("axes fraction", "data"), xytext=(3, 2),
            textcoords="offset points", va="bottom", fontsize=8,
        )  # fmt: skip


NICE = (0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9999)


def score_axis(axes: Axes, score: Score = ACCURACY) -> None:
    """Space shares by the logarithm of the error, as differences near 100 % are the ones that count; decibels evenly,
    as they are a logarithm."""
    if score.unit == "dB":
        low, high = axes.get_ylim()
        inside = [value for value in MaxNLocator(6).tick_values(low, high) if low <= value <= high]
        return _set_ticks(axes.yaxis, inside, [f"{value:g} dB" for value in inside])
    bottom, top = axes.dataLim.y0, axes.dataLim.y1
    heights = [np.asarray(line.get_ydata()) for line in axes.lines]
    lines = [values[0] for values in heights if len(values)]
    bottom, top = min([bottom, *lines]), max([top, *lines])
    low, high = -math.log10(1 - capped(bottom)), -math.log10(1 - capped(top))
    room = max(0.08 * (high - low), 0.02)
    low, high = max(low - room, 0), high + room
    axes.set_yscale("function", functions=(_nines, lambda nines: 1 - 10.0 ** -np.asarray(nines)))
    bottom, top = 1 - 10**-low, 1 - 10**-high
    axes.set_ylim(bottom, top)
    inside = [value for value in NICE if low <= -math.log10(1 - value) <= high]
    if len(inside) < 4:
        inside = [value for value in MaxNLocator(6).tick_values(bottom, top) if bottom <= value <= top]
    else:
        inside = _apart(inside, [-math.log10(1 - value) for value in inside], (high - low) / 16)
    _set_ticks(axes.yaxis, inside, [f"{100 * value:.6g} %" for value in inside])


def _nines(accuracy: NDArray) -> NDArray:
    return -np.log10(np.maximum(1 - np.asarray(accuracy), 1e-7))


def _apart(values: Sequence[float], places: Sequence[float], least: float) -> list[float]:
    """Those of `values` whose labels, at `places`, stay `least` apart."""
    kept, last = [], -math.inf
    for value, place in zip(values, places):
        if place - last >= least:
            kept.append(value)
            last = place
    return kept


def count_axis(axes: Axes, which: str) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, as plain numbers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    room = max((math.log10(high) - math.log10(low)) * 0.02, 0.03)
    low, high = low * 10**-room, high * 10**room
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    span = math.log10(high / low)
    steps = (1,) if span > 4 else (1, 3) if span > 2 else (1, 2, 5)
    inside = [step * 10**e for e in exponents for step in steps if low <= step * 10**e <= high]
    if len(inside) < 3:
        inside = [v for v in MaxNLocator(4, integer=True).tick_values(low, high) if low <= v <= high]
    _set_ticks(axis, inside, [f"{value:,.0f}" for value in inside])


def _set_ticks(axis: Axis, places: Sequence[float], labels: Sequence[str]) -> None:
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FixedFormatter(list(labels)))
    axis.set_minor_locator(NullLocator())
