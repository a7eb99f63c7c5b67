"""Upstream's published figures: what each of them measures, the audited cost of its network, and what ran here."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from search.data.source import TaskName
from search.errors import present
from search.published.figures import Figure, figures
from search.records.audits import Audit
from search.records.benchmarks import RowRun
from search.records.jsonl import Record
from search.records.latest import latest
from search.records.models import Confirmation, counted, label
from search.report.typeset import NOT_RUN, WORK, frame_of, work
from search.tasks.score import SCORES
from search.upstream import PUBLISHED, SAVED, WITHDRAWN, Published, Saved, classifier_config

CAPTION = (
    "Every figure that upstream has published, what the published code behind it computes (`wavemix audit --protocol` "
    "says it in full), and the audited cost of its network. Chosen on test: the epoch was chosen on the images that "
    "the figure is of, as every published script does. Read: whether the figure was seen where it is published; no: "
    "only in an excerpt of a paper or on a leaderboard. Stands against: other published figures of the same data that "
    "do not agree with it. Here: the mean over seeds on the test images; of `wavemix benchmark run` with its recipe, "
    "of the epoch that validation images chose or the last one; few epochs or images are said. A PSNR here is the "
    "field's: luma of BT.601 in 8 bits, a border of as many pixels as the scale cut off."
)
BENCHMARK = (
    "Task", "Data set", "Metric", "Published", "Stands against", "What it measures", "Here", "Configuration",
    "Parameters", *WORK, "MACs by torch", "Input", "Read", "Source", "Note",
)  # fmt: skip
NAMES: dict[TaskName, str] = {
    "classification": "Image classification",
    "segmentation": "Semantic segmentation",
    "super-resolution": "Super-resolution",
}
STATED: dict[str, Saved | Published] = {saved.row: saved for saved in SAVED} | {
    f"{row.task}: {row.model}": row for row in (*PUBLISHED, *WITHDRAWN)
}


def benchmark(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each of `search.published.figures`."""
    records = list(records)
    audits = latest((r for r in records if isinstance(r, Audit)), lambda r: r.row)
    runs = [r for r in records if isinstance(r, Confirmation) and r.mean is not None]
    trained = [r for r in records if isinstance(r, RowRun)]
    rows = [_row(figure, audits.get(figure.audit), runs, trained) for figure in figures()]
    return frame_of(rows + _unpublished(trained), BENCHMARK)


def _row(figure: Figure, found: Audit | None, runs: list[Confirmation], trained: list[RowRun]) -> dict[str, Any]:
    network = STATED[figure.audit] if figure.audit else None
    cells: dict[str, Any] = {
        "Task": figure.task,
        "Data set": figure.data,
        "Metric": figure.metric,
        "Published": figure.stated,
        "Stands against": figure.against,
        "What it measures": "; ".join(figure.flags),
        "Here": "; ".join(_ran(figure, trained) + _tested(figure, network, runs)) or NOT_RUN,
        "Configuration": figure.network if network is None else _name(network),
        "Read": "yes" if figure.read else "no",
        "Source": figure.source,
        "Note": figure.note,
    }
    if network is not None:
        cost = found and found.cost
        cells["Parameters"] = found.counted if found else "not audited here"
        cells |= work(cost)
        cells["MACs by torch"] = cost and cost.macs_torch
        cells["Input"] = "x".join(map(str, cost.input_shape)) if cost else None
    return cells


def _name(network: Saved | Published) -> str:
    return network.name if isinstance(network, Saved) else f"{network.model}: {network.config.name}"


def _ran(figure: Figure, trained: list[RowRun]) -> list[str]:
    """What the figure's rows came to that were run by `wavemix benchmark run`, each by its recipe, seeds and epochs."""
    key = (figure.task, figure.data, figure.value, figure.source)
    mine = [r for r in trained if r.published is not None and tuple(r.published.model_dump().values()) == key]
    return [_said(runs) for runs in _groups(mine)]


def _groups(trained: list[RowRun]) -> list[list[RowRun]]:
    """Runs that differ in their seeds alone, the latest of each seed."""
    groups: dict[tuple, dict[int, RowRun]] = {}
    for run in sorted(trained, key=lambda r: r.created):
        groups.setdefault(run.trained, {})[run.seed] = run
    return [list(runs.values()) for runs in groups.values()]


def _said(runs: list[RowRun]) -> str:
    """Mean score, and how little or much it took."""
    first, epochs = runs[0], [run.epochs for run in runs]
    mean = math.fsum(run.score for run in runs) / len(runs)
    many = f"{min(epochs)}" if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}"
    few = f" of {first.data.train_count:,} images alone" if first.data.limited else ""
    recipe = f"recipe {first.recipe_name}" + (f" from {first.start}" if first.start else "")
    noun = "epoch" if many == "1" else "epochs"
    return (
        f"{SCORES[first.task].shown(mean)} ({first.network}, {first.parameters:,} parameters; {counted(len(runs))}, "
        f"{many} {noun}{few}, {recipe}, {first.environment.device})"
    )


def _unpublished(trained: list[RowRun]) -> list[dict[str, Any]]:
    """Rows that upstream has published nothing for."""
    return [
        {
            "Task": NAMES[runs[0].task],
            "Data set": runs[0].data.label,
            "Metric": runs[0].metric,
            "Published": "not published",
            "What it measures": "",
            "Here": _said(runs),
            "Configuration": runs[0].network,
            "Parameters": runs[0].parameters,
            "Source": f"wavemix benchmark run {runs[0].row}",
        }
        for runs in _groups([r for r in trained if r.published is None])
    ]


def _tested(figure: Figure, network: Saved | Published | None, runs: list[Confirmation]) -> list[str]:
    """The test of the figure's network on its data set; where no network is stated, the best one of any."""
    if not figure.metric.startswith("accuracy"):
        return []
    mine = [run for run in runs if label(run.dataset) == figure.data]
    if isinstance(network, Published):
        mine = [run for run in mine if network.is_of(run.config)]
    elif network is not None:
        config = classifier_config(network)
        mine = [run for run in mine if run.config.model_copy(update={"dropout": config.dropout}) == config]
    if not mine:
        return []
    best = max(mine, key=lambda run: run.created if network else present(run.mean))
    return [f"{100 * present(best.mean):.2f} % ({best.config.name}, {best.parameters:,} parameters)"]
