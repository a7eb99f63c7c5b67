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
from string import ascii_lowercase
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from search.errors import UserError, present
from search.files import write_atomically
from search.published.figures import Peer, peers
from search.records.jsonl import Record, read_all
from search.records.models import Confirmation, Trial, at_each_target, base_label, label, numbered
from search.report.efficiency import deciding
from search.report.importance import importances
from search.report.plot_axes import capped, count_axis, score_axis, target_lines
from search.report.plot_style import style, styled
from search.tasks.score import Score
from search.text import line
from search.upstream import PUBLISHED, Published

# Okabe & Ito's colours, told apart under every common colour blindness; the shapes differ too
COLOURS = {"published": "#0072B2", "extended": "#D55E00"}
MARKERS = {"published": "s", "extended": "o"}
FILLS = {"confirmed": "full", "reached": "left", "missed": "none", "tested": "none"}  # of a verdict's marker
UPSTREAM, PRUNED, FAINT, PEERS = "#000000", "#8C8C8C", "#5F5F5F", "#007A59"
KINDS = ("frontier", "anytime", "importance", "curves")
# one a study, in the order of their results
STUDIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
FEWEST = 5  # trials of a study from which its learning curves are drawn
SIZE = (4.8, 3.9)  # inches: read without zooming where a phone shrinks it to its width
MANY = 400  # markers or lines from which they are one bitmap inside the SVG


# ----------------------------------------------------------------------------------------------------- frontier


@styled
def frontier(records: Iterable[Record]) -> Figure | None:
    """Parameters against accuracy of one data set's runs.

    Completed trials stand at their validation accuracy, confirmations at their mean on the test set with its 95 %
    interval: of several with the same target, network and recipe the one that decides (`efficiency.deciding`), of
    trainings that broke none. The thin steps are the best validation accuracy at or below a count, targets are lines,
    and upstream's published networks stand at the accuracy they are published for, other authors' at their own figure.
    Accuracy is spaced by the logarithm of the error.
    """
    runs = _runs(records)
    trials = [r for r in runs if isinstance(r, Trial) and r.state == "complete" and r.accuracy_validation is not None]
    tests = [r for r in runs if isinstance(r, Confirmation) and r.mean is not None]
    targets = sorted({r.target for r in tests}, key=lambda target: target or 1)
    tested = [r for target in targets for r in deciding(r for r in tests if r.target == target)]
    if not trials and not tested:
        return None
    rows = published(runs)
    score = runs[0].score
    figure, axes = _figure(f"Parameters and {score.name}", label(runs[0].dataset))
    handles = []
    for family, colour in COLOURS.items():
        mine = [r for r in trials if r.family == family]
        if mine:
            counts, values = [r.parameters for r in mine], [capped(present(r.accuracy_validation), score) for r in mine]
            axes.plot(
                counts, values, MARKERS[family], color=colour, mfc="none", ms=4, mew=0.8, alpha=0.6,
                rasterized=len(mine) > MANY,
            )  # fmt: skip
            steps = _staircase(counts, values)
            axes.step(*zip(*steps), where="post", color=colour, lw=0.9, alpha=0.8)
            handles.append(_marker(MARKERS[family], colour, f"{family} family, validation", "none"))
            handles.append(Line2D([], [], color=colour, lw=0.9, label="their best up to a count"))
        mine = [r for r in tested if r.family == family]
        for run in mine:
            mean = capped(present(run.mean), score)
            low, high = run.interval or (mean, mean)
            errors = [[mean - min(mean, capped(low, score))], [max(mean, capped(high, score)) - mean]]
            axes.errorbar(
                run.parameters, mean, errors, fmt=MARKERS[family], color=colour, ms=6.5, mew=1.4, capsize=3, lw=1.4,
                **_filled(colour, FILLS[run.verdict]), zorder=4,
            )  # fmt: skip
        height = 7 if family == "published" else 19  # one family's counts above the other's
        for run in _headlines(mine):
            _count(axes, run.parameters, capped(present(run.mean), score), (0, height), "bottom", colour)
        for verdict in FILLS:
            if any(r.verdict == verdict for r in mine):
                said = f"{family} family, test: {verdict}"
                handles.append(_marker(MARKERS[family], colour, said, FILLS[verdict], size=6.5))
    for row in rows:
        axes.plot(row.parameters, row.target, "*", color=UPSTREAM, ms=10, zorder=5)
        _count(axes, row.parameters, row.target, (0, -6), "top", UPSTREAM)
    if rows:
        handles.append(_marker("*", UPSTREAM, "published by upstream", size=9))
    others = _peers(axes, runs)
    if others:
        handles.append(_marker("D", PEERS, "other authors, as published", "none"))
    if any(r.interval for r in tested):
        handles.append(_marker("|", FAINT, "95 % interval of the mean", size=9))
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
        title=fill(others, 80) or None, title_fontsize=7,
    )  # fmt: skip
    legend.get_title().set_color(PEERS)
    return figure


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


# ------------------------------------------------------------------------------------------------------ anytime


@styled
def anytime(records: Iterable[Record]) -> Figure | None:
    """Fewest parameters of a feasible trial so far against the training time spent, a line a study.

    For the studies of one data set and one target. The time is the sum of the trials' device seconds in the order in
    which they ended, pruned and failed ones included: it is compute, whatever the number of workers.
    """
    runs = [r for r in _runs(records) if isinstance(r, Trial)]
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
    figure, axes = _figure(f"Smallest network found so far for {wanted}", label(runs[0].dataset))
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
    runs = _runs(records)
    found = {name: value for name, value in importances(runs).items() if value >= 0.005}
    if not found:
        return None
    names = [line(name, 30) for name in list(found)[:12]][::-1]
    figure, axes = _figure("What decides beyond size", label(runs[0].dataset))
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
    trials = [r for r in _runs(records) if isinstance(r, Trial)]
    drawn = [(trial, line) for trial in trials if len(line := _curve(trial))]
    if len(drawn) < FEWEST:
        return None
    figure, axes = _figure("Learning curves", trials[0].study)
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


# ------------------------------------------------------------------------------------------------------ drawing


def short(name: str, most: int) -> str:
    """A name cut to `most` characters in its middle: names often differ at their end."""
    whole, end = line(name), (most - 1) // 2
    return whole if len(whole) <= most else f"{whole[: most - 1 - end]}…{whole[len(whole) - end :]}"


def _figure(what: str, name: str) -> tuple[Figure, Axes]:
    """A figure entitled "what: name", the name cut so that the title fits."""
    figure = Figure(figsize=SIZE, layout="constrained")
    title = figure.suptitle(what, fontsize=10)
    for most in range(60, 0, -3):
        title.set_text(f"{what}: {short(name, most)}")
        if title.get_window_extent().width < 0.96 * figure.bbox.width:
            break
    return figure, figure.subplots()


def _marker(shape: str, colour: str, text: str, fill: str = "full", size: float = 5) -> Line2D:
    return Line2D([], [], ls="", **_filled(colour, fill), marker=shape, color=colour, ms=size, label=text)


def _filled(colour: str, fill: str) -> dict:
    """How a marker is drawn: 'full', its 'left' half, or 'none', white inside."""
    inside, style = ("white", "full") if fill == "none" else (colour, fill)
    return {"mec": colour, "mfc": inside, "mfcalt": "white", "fillstyle": style}


# ------------------------------------------------------------------------------------------------------ writing


def _runs(records: Iterable[Record]) -> list[Trial | Confirmation]:
    return [r for r in records if isinstance(r, (Trial, Confirmation))]


def _by_study(runs: Sequence[Trial | Confirmation]) -> dict[str, list]:
    groups: dict[str, list] = {}
    for run in runs:
        groups.setdefault(run.study, []).append(run)
    return groups


def published(runs: Sequence[Trial | Confirmation]) -> list[Published]:
    """Upstream's rows on the data set of the runs; a copy of the images stands beside the official ones' figures."""
    name = label(runs[0].dataset).removesuffix(" (JPEG copy)")
    return [row for row in PUBLISHED if row.label == name]


def peers_of(runs: Sequence[Trial | Confirmation]) -> list[Peer]:
    """Other authors' networks on the data set of the runs, or on the one that it is a copy of."""
    name = base_label(label(runs[0].dataset))
    return [peer for peer in peers() if peer.target is not None and peer.data == name]


def slug(text: str) -> str:
    """A file name for `text`; where characters had to go, a digest keeps different texts apart."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:80]
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return name if name and name == text else f"{name}-{digest}".strip("-")


def figures(records: Iterable[Record]) -> dict[str, Figure]:
    """Name -> figure of all that the records give: per data set, per data set and target, and per study."""
    runs = _runs(numbered(records))
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
