"""Audits of anybody's networks as tables: what is stated of them, what their modules cost, how fast they are."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from search.audit.modules import COLUMNS, Breakdown, ModuleCost
from search.audit.speed import Speed
from search.records.audits import Statement
from search.records.figures import Figure
from search.report.typeset import WORK, frame_of, work

STATED = (
    "Network", "Stated parameters", "Parameters", "Verdict on parameters", "Stated FLOPs", *WORK, "Verdict on FLOPs",
    "Input", "Source", "Manifest",
)  # fmt: skip
SHARED = dict(zip(COLUMNS, ("Parameters", "MACs", "FLOPs", "Training MACs", "Training FLOPs", "Activation bytes")))
SHARES = {column: f"{name.removesuffix(' bytes')} share" for column, name in SHARED.items()}
MODULES = ("Module", "Type", *(c for pair in zip(SHARED.values(), SHARES.values()) for c in pair), "lower_bound")
SPEEDS = (
    "Pass", "Precision", "Layout", "Batch", "Median ms", "Lower quartile ms", "Upper quartile ms", "Images per second",
    "GPU bytes", "CPU bytes", "Repetitions", "Device", "Note",
)  # fmt: skip


def statements(rows: Iterable[Statement]) -> pd.DataFrame:
    """A row a network: stated and counted figures, and the two verdicts."""
    found = [
        {
            "Network": row.row,
            "Stated parameters": written(row.parameters),
            "Parameters": row.cost and row.cost.parameters,
            "Verdict on parameters": row.parameters_verdict.said,
            "Stated FLOPs": written(row.work),
            **work(row.cost),
            "Verdict on FLOPs": row.work_verdict.said,
            "Input": "x".join(map(str, row.input_shape)),
            "Source": row.source,
            "Manifest": row.manifest,
        }
        for row in rows
    ]
    return frame_of(found, STATED)


def written(figure: Figure | None) -> str | None:
    """As it was written, with what it is said to count."""
    if figure is None:
        return None
    said = figure.convention
    return figure.text if said is None or said[:-1].lower() in figure.text.lower() else f"{figure.text} ({said})"


def breakdown(found: Breakdown, rows: Sequence[ModuleCost]) -> pd.DataFrame:
    """`rows` and their total, each number beside its share."""
    cells = []
    for row in [*rows, found.total]:
        line: dict[str, Any] = {"Module": place(row), "Type": row.type, "lower_bound": bool(found.uncounted)}
        for column, name in SHARED.items():
            line |= {name: getattr(row, column), SHARES[column]: share(row, found.total, column)}
        cells.append(line)
    return frame_of(cells, MODULES)


def place(row: ModuleCost) -> str:
    return row.name or "(the network itself)"


def share(row: ModuleCost, total: ModuleCost, column: str) -> float | None:
    """The part of the network's total; None of nothing."""
    value, whole = getattr(row, column), getattr(total, column)
    return value / whole if whole and value is not None else None


def speeds(rows: Iterable[Speed]) -> pd.DataFrame:
    def milliseconds(seconds: float | None) -> float | None:
        return None if seconds is None else 1000 * seconds

    found = [
        {
            "Pass": "training step" if row.way.training else "forward",
            "Precision": row.way.dtype,
            "Layout": row.way.layout,
            "Batch": row.way.batch,
            "Median ms": milliseconds(row.median_seconds),
            "Lower quartile ms": milliseconds(row.low_seconds),
            "Upper quartile ms": milliseconds(row.high_seconds),
            "Images per second": row.images_per_second,
            "GPU bytes": row.peak_gpu_bytes,
            "CPU bytes": row.peak_cpu_bytes,
            "Repetitions": row.repetitions,
            "Device": row.device,
            "Note": row.reason,
        }
        for row in rows
    ]
    return frame_of(found, SPEEDS)
