"""Pictures of the records: frontier, anytime curve, importance of the hyperparameters, learning curves.

Every function takes records and gives a matplotlib figure, or None where the records hold nothing to draw. Like the
tables they depend on nothing else: the same records give the same bytes on the same version of matplotlib. Nothing
here goes through pyplot, so that no display, window or global state is touched.
"""

import hashlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from search.errors import UserError, present
from search.files import write_atomically
from search.records.jsonl import Record, read_all
from search.records.models import Confirmation, Trial, at_each_target, label, numbered
from search.report.frontier import frontier
from search.report.importance import importances
from search.report.plot_axes import capped, count_axis, score_axis, target_lines
from search.report.plot_marks import COLOURS, FAINT, MANY, MARKERS, UPSTREAM, figure_of, published, runs_of, short
from search.report.plot_style import style, styled
from search.text import line

PRUNED = "#8C8C8C"
KINDS = ("frontier", "anytime", "importance", "curves")
# one a study, in the order of their results
STUDIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
FEWEST = 5  # trials of a study from which its learning curves are drawn


# ------------------------------------------------------------------------------------------------------ anytime


@styled
def anytime(records: Iterable[Record]) -> Figure | None:
    """Fewest parameters of a feasible trial so far against the training time spent, a line a study.

    For the studies of one data set and one target. The time is the sum of the trials' device seconds in the order in
    which they ended, pruned and failed ones included: it is compute, whatever the number of workers.
    """
    runs = [r for r in runs_of(records) if isinstance(r, Trial)]
    found = []
    for name, trials in _by_study(runs).items():
        total, best, points = 0.0, math.inf, []
        for trial in sorted(trials, key=lambda r: r.created):
            total += trial.device_seconds
            if trial.feasible and trial.parameters < best:
                best = trial.parameters
                points.append((total, best))
        if points:
            found.append((best, name, trials[0].family, [*points, (total, best)]))
    if not found:
        return None
    found.sort(key=lambda entry: entry[:2])
    shown = found[:8]
    rows = [row for row in published(runs) if row.target == runs[0].target]
    longest = max(points[-1][0] for *_, points in shown)
    unit, seconds = next(((u, s) for u, s in (("hours", 3600), ("minutes", 60)) if longest >= 2 * s), ("seconds", 1))
    wanted = runs[0].score.goal(present(runs[0].target))
    figure, axes = figure_of(f"Smallest network found so far for {wanted}", label(runs[0].dataset))
    handles = []
    for index, (best, name, family, points) in enumerate(shown):
        times, counts = zip(*points)
        handles += axes.step(
            np.array(times) / seconds, counts, where="post", color=STUDIES[index], lw=1.5,
            marker=MARKERS[family], ms=4, markevery=range(len(points) - 1), label=f"{short(name, 40)}: {best:,}",
        )  # fmt: skip
    for row in rows:
        axes.axhline(row.parameters, color=UPSTREAM, lw=0.9, ls=(0, (4, 3)))
        axes.annotate(
            f"published {row.parameters:,}", (1, row.parameters), xycoords=("axes fraction", "data"), xytext=(0, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=8,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} of training so far, judged on validation images")
    axes.set_ylabel("parameters (log scale)")
    count_axis(axes, "y")
    more = f"the best 8 of {len(found)} studies" if len(found) > len(shown) else None
    # handles named, since matplotlib would leave out a study whose name begins with an underscore
    figure.legend(handles=handles, loc="outside lower center", ncols=1, title=more, title_fontsize=8)
    return figure


# --------------------------------------------------------------------------------------------------- importance


@styled
def importance(records: Iterable[Record]) -> Figure | None:
    """The twelve most important hyperparameters of one data set's trials, as `importances` measures them."""
    runs = runs_of(records)
    found = {name: value for name, value in importances(runs).items() if value >= 0.005}
    if not found:
        return None
    names = [line(name, 30) for name in list(found)[:12]][::-1]
    figure, axes = figure_of("What decides beyond size", label(runs[0].dataset))
    bars = axes.barh(
        names, [100 * value for value in list(found.values())[:12]][::-1], color=COLOURS["published"], height=0.65
    )
    axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.set_ylim(min(-0.6, len(names) - 6.5), len(names) - 0.4)  # few bars stay as thin as many
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.supxlabel(
        "share of the logarithm of the error that the parameter count leaves open and\n"
        "the hyperparameter alone explains (%). Some were varied together: no sum of 100 %",
        fontsize=8,
    )
    return figure


# ------------------------------------------------------------------------------------------------------- curves


@styled
def curves(records: Iterable[Record]) -> Figure | None:
    """Validation accuracy of a study's trials after every epoch (mean over seeds); pruned ones end in a cross.

    None for fewer than five.
    """
    trials = [r for r in runs_of(records) if isinstance(r, Trial)]
    drawn = [(trial, line) for trial in trials if len(line := _curve(trial))]
    if len(drawn) < FEWEST:
        return None
    figure, axes = figure_of("Learning curves", trials[0].study)
    family = trials[0].family
    kinds = (
        ("pruned", PRUNED, 0.7, [d for d in drawn if d[0].state == "pruned"]),
        ("failed", FAINT, 0.7, [d for d in drawn if d[0].state == "failed"]),
        ("complete, misses", "#56B4E9", 0.9, [d for d in drawn if d[0].state == "complete" and not d[0].feasible]),
        ("complete, reaches the target", COLOURS["extended"], 1.3, [d for d in drawn if d[0].feasible]),
    )
    handles = []
    for order, (name, colour, width, mine) in enumerate(kinds, 2):
        if not mine:
            continue
        many = len(mine) > MANY
        lines = LineCollection(
            [line for _, line in mine], colors=colour, linewidths=width, alpha=0.3 if many else 0.8, rasterized=many,
            zorder=order,
        )  # fmt: skip
        axes.add_collection(lines)
        single = [line for _, line in mine if len(line) == 1]  # a segment of one point is not drawn
        if name in ("pruned", "failed"):
            ends = np.array([line[-1] for _, line in mine])
            axes.plot(ends[:, 0], ends[:, 1], "x", color=colour, ms=4, mew=1, rasterized=many, zorder=order)
        elif single:
            axes.plot(*np.concatenate(single).T, "o", color=colour, ms=3, zorder=order)
        mark = "x" if name in ("pruned", "failed") else None
        handles.append(Line2D([], [], color=colour, lw=1.5, marker=mark, ms=4, label=f"{name} ({len(mine):,})"))
    axes.autoscale_view()
    last = max(line[-1][0] for _, line in drawn)
    axes.set_xlim(0, last * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    score = trials[0].score
    target_lines(axes, sorted({r.target for r in trials}), score)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"validation {score.name} ({family} family)")
    score_axis(axes, score)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _curve(trial: Trial) -> NDArray:
    """(epochs, 2) array of epoch and mean accuracy over the seeds that have one."""
    points: dict[int, list[float]] = {}
    for curve in trial.curves:
        for point in curve:
            if point.accuracy is not None:
                points.setdefault(point.epoch, []).append(point.accuracy)
    return np.array([(epoch, capped(math.fsum(v) / len(v), trial.score)) for epoch, v in sorted(points.items())])


# ------------------------------------------------------------------------------------------------------ writing


def _by_study(runs: Sequence[Trial | Confirmation]) -> dict[str, list]:
    groups: dict[str, list] = {}
    for run in runs:
        groups.setdefault(run.study, []).append(run)
    return groups


def slug(text: str) -> str:
    """A file name for `text`; where characters had to go, a digest keeps different texts apart."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:80]
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return name if name and name == text else f"{name}-{digest}".strip("-")


def figures(records: Iterable[Record]) -> dict[str, Figure]:
    """Name -> figure of all that the records give: per data set, per data set and target, and per study."""
    runs = runs_of(numbered(records))
    sets: dict[str, list] = {}
    goals: dict[tuple[str, str], list] = {}
    for run in runs:
        name = slug(label(run.dataset)) if run.dataset.variant == "folder" else run.dataset.name
        sets.setdefault(name, []).append(run)
        for one in at_each_target([run]):
            if one.target is not None:
                goals.setdefault((name, one.score.tag(one.target)), []).append(one)
    found: dict[str, Figure | None] = {}
    for name, mine in sets.items():
        found[f"frontier-{name}"] = frontier(mine)
        found[f"importance-{name}"] = importance(mine)
    for (name, target), mine in goals.items():
        found[f"anytime-{name}-{target}"] = anytime(mine)
    for name, mine in _by_study(runs).items():
        found["curves-" + slug(name.removeprefix("curves-"))] = curves(mine)
    return {name: figure for name, figure in found.items() if figure is not None}


def rendered(figure: Figure, name: str, suffix: str) -> bytes:
    """A figure as 'png' or 'svg', without date or version; `name` makes the ids inside an SVG."""
    metadata = {"Software": None} if suffix == "png" else dict.fromkeys(("Date", "Creator", "Format", "Type"))
    stream = io.BytesIO()
    with style({"svg.hashsalt": name}):
        figure.savefig(stream, format=suffix, dpi=200, metadata=metadata)
    return stream.getvalue()


def write(results_dir: Path | str) -> list[Path]:
    """Write every picture of the records as PNG and SVG to `results_dir`/plots; returns the files.

    Each is replaced whole or not at all. A picture whose records are gone is removed. Raises UserError where a record
    is bad or a file cannot be written.
    """
    folder = Path(results_dir) / "plots"
    drawn = figures(read_all(results_dir))
    written = []
    try:
        for name, figure in drawn.items():
            folder.mkdir(exist_ok=True)
            for suffix in ("png", "svg"):
                written.append(write_atomically(folder / f"{name}.{suffix}", rendered(figure, name, suffix)))
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                ours = path.suffix in (".png", ".svg") and path.name.startswith(tuple(f"{kind}-" for kind in KINDS))
                if ours and path not in written:
                    path.unlink()
    except OSError as error:
        raise UserError(f"cannot write pictures to {folder}: {error.strerror or error}") from error
    return written
