"""The frontier of a data set: parameters against accuracy, of trials, tests, upstream's networks and other authors'."""

from collections.abc import Iterable, Sequence
from string import ascii_lowercase
from textwrap import fill as wrapped

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from search.errors import present
from search.published.figures import Peer, peers
from search.records.jsonl import Record
from search.records.models import Confirmation, Trial, base_label, label
from search.report.efficiency import deciding
from search.report.plot_axes import capped, count_axis, score_axis, target_lines
from search.report.plot_marks import (
    COLOURS,
    FAINT,
    MANY,
    MARKERS,
    UPSTREAM,
    figure_of,
    filled,
    marker,
    published,
    runs_of,
)
from search.report.plot_style import styled
from search.tasks.score import Score

FILLS = {"confirmed": "full", "reached": "left", "missed": "none", "tested": "none"}  # of a verdict's marker
PEERS = "#007A59"


@styled
def frontier(records: Iterable[Record]) -> Figure | None:
    """Parameters against accuracy of one data set's runs.

    Completed trials stand at their validation accuracy, confirmations at their mean on the test set with its 95 %
    interval: of several with the same target, network and recipe the one that decides (`efficiency.deciding`), of
    trainings that broke none. The thin steps are the best validation accuracy at or below a count, targets are lines,
    and upstream's published networks stand at the accuracy they are published for, other authors' at their own figure.
    Accuracy is spaced by the logarithm of the error.
    """
    runs = runs_of(records)
    trials = [r for r in runs if isinstance(r, Trial) and r.state == "complete" and r.accuracy_validation is not None]
    tests = [r for r in runs if isinstance(r, Confirmation) and r.mean is not None]
    targets = sorted({r.target for r in tests}, key=lambda target: target or 1)
    tested = [r for target in targets for r in deciding(r for r in tests if r.target == target)]
    if not trials and not tested:
        return None
    rows = published(runs)
    score = runs[0].score
    figure, axes = figure_of(f"Parameters and {score.name}", label(runs[0].dataset))
    handles = []
    for family in COLOURS:
        handles += _validated(axes, [r for r in trials if r.family == family], family, score)
        handles += _tested(axes, [r for r in tested if r.family == family], family, score)
    for row in rows:
        axes.plot(row.parameters, row.target, "*", color=UPSTREAM, ms=10, zorder=5)
        _count(axes, row.parameters, row.target, (0, -6), "top", UPSTREAM)
    if rows:
        handles.append(marker("*", UPSTREAM, "published by upstream", size=9))
    others = _peers(axes, runs)
    if others:
        handles.append(marker("D", PEERS, "other authors, as published", "none"))
    if any(r.interval for r in tested):
        handles.append(marker("|", FAINT, "95 % interval of the mean", size=9))
    validated = [capped(present(r.accuracy_validation), score) for r in trials]
    _clip(axes, [capped(present(r.mean), score) for r in tested] + validated, score)
    target_lines(axes, sorted({r.target for r in runs if r.target} | {row.target for row in rows}), score)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low * (low / high) ** 0.17, high)  # room for what the target lines are called
    axes.set_xlabel("parameters (log scale)")
    axes.set_ylabel(score.name)
    count_axis(axes, "x")
    score_axis(axes, score)
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=2, columnspacing=1.2, handletextpad=0.4,
        title=wrapped(others, 80) or None, title_fontsize=7,
    )  # fmt: skip
    legend.get_title().set_color(PEERS)
    return figure


def _validated(axes: Axes, trials: Sequence[Trial], family: str, score: Score) -> list[Line2D]:
    """A family's trials, and steps at the best of them; what the legend has of them."""
    if not trials:
        return []
    colour, counts = COLOURS[family], [r.parameters for r in trials]
    values = [capped(present(r.accuracy_validation), score) for r in trials]
    axes.plot(
        counts, values, MARKERS[family], color=colour, mfc="none", ms=4, mew=0.8, alpha=0.6,
        rasterized=len(trials) > MANY,
    )  # fmt: skip
    axes.step(*zip(*_staircase(counts, values)), where="post", color=colour, lw=0.9, alpha=0.8)
    return [
        marker(MARKERS[family], colour, f"{family} family, validation", "none"),
        Line2D([], [], color=colour, lw=0.9, label="their best up to a count"),
    ]


def _tested(axes: Axes, tests: Sequence[Confirmation], family: str, score: Score) -> list[Line2D]:
    """A family's tests with their intervals, the headlines with their counts; what the legend has of them."""
    colour = COLOURS[family]
    for run in tests:
        mean = capped(present(run.mean), score)
        low, high = run.interval or (mean, mean)
        errors = [[mean - min(mean, capped(low, score))], [max(mean, capped(high, score)) - mean]]
        axes.errorbar(
            run.parameters, mean, errors, fmt=MARKERS[family], color=colour, ms=6.5, mew=1.4, capsize=3, lw=1.4,
            **filled(colour, FILLS[run.verdict]), zorder=4,
        )  # fmt: skip
    height = 7 if family == "published" else 19  # one family's counts above the other's
    for run in _headlines(tests):
        _count(axes, run.parameters, capped(present(run.mean), score), (0, height), "bottom", colour)
    return [
        marker(MARKERS[family], colour, f"{family} family, test: {verdict}", fill, size=6.5)
        for verdict, fill in FILLS.items()
        if any(r.verdict == verdict for r in tests)
    ]


def _peers(axes: Axes, runs: Sequence[Trial | Confirmation]) -> str:
    """Mark other authors' networks with letters; what these stand for."""
    others = peers_of(runs)
    for letter, peer in zip(ascii_lowercase, others):
        place = peer.parameters, peer.figure / 100
        axes.plot(*place, "D", color=PEERS, mfc="white", ms=4.5, mew=1.2, zorder=5)
        axes.annotate(
            letter, place, xytext=(-1, 3), textcoords="offset points", color=PEERS, ha="right", va="bottom",
            fontsize=8, zorder=6, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    if not others:
        return ""
    told = ", ".join(f"{letter} {peer.network}" for letter, peer in zip(ascii_lowercase, others))
    copy = others[0].data != label(runs[0].dataset)
    return f"{told}; theirs are figures of the original {others[0].data}" if copy else told


def peers_of(runs: Sequence[Trial | Confirmation]) -> list[Peer]:
    """Other authors' networks on the data set of the runs, or on the one that it is a copy of."""
    name = base_label(label(runs[0].dataset))
    return [peer for peer in peers() if peer.target is not None and peer.data == name]


def _headlines(tests: Sequence[Confirmation]) -> list[Confirmation]:
    """Of each target the smallest confirmed network, and a smaller one that reached it."""
    found = []
    for target in sorted({r.target for r in tests if r.target is not None}):
        mine = sorted((r for r in tests if r.target == target), key=lambda r: r.parameters)
        confirmed = next((r for r in mine if r.verdict == "confirmed"), None)
        reached = next((r for r in mine if r.verdict == "reached"), None)
        found += [r for r in (confirmed, reached) if r]
        if confirmed and reached and reached.parameters > confirmed.parameters:
            found.pop()
    return found


def _count(axes: Axes, parameters: int, accuracy: float, offset: tuple[int, int], side: str, colour: str) -> None:
    """Write a count beside its point."""
    axes.annotate(
        f"{parameters:,}", (parameters, accuracy), xytext=offset, textcoords="offset points", color=colour,
        ha="center", va=side, fontsize=8, zorder=6, path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip


def _clip(axes: Axes, values: Sequence[float], score: Score) -> None:
    """Let the axis end a little below the worst point: intervals of few seeds may go far beyond it."""
    low, high = axes.get_ylim()
    worst = min(values) - 0.3 if score.unit == "dB" else 1 - min(1.0, 1.25 * (1 - min(values)))
    axes.set_ylim(max(low, worst), high)


def _staircase(counts: Sequence[int], values: Sequence[float]) -> list[tuple[int, float]]:
    """(count, best value at or below that count), the points where the best rises and the last count."""
    steps: list[tuple[int, float]] = []
    for count, value in sorted(zip(counts, values), key=lambda pair: (pair[0], -pair[1])):
        if not steps or value > steps[-1][1]:
            steps.append((count, value))
    return [*steps, (max(counts), steps[-1][1])]
