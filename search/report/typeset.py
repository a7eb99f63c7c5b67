"""Data frames as Markdown and LaTeX tables, values formatted by the column they stand in."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from search import text as safe
from search.records.models import Cost
from search.tasks.score import Decibels, Share

OPERATIONS = ("MACs", "FLOPs", "Training MACs", "Training FLOPs")  # columns
WORK = ("MACs", "FLOPs", "lower_bound")  # columns: a network's work for one image, and whether there is more of it
NOT_RUN = "not run here"  # what a table says where there is no record


def frame_of(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a frame of these columns; a cell that a row lacks is None."""
    # object: a column holds numbers, words in their place, and nothing
    cells = [[row.get(column) for column in columns] for row in rows]
    return pd.DataFrame(cells, columns=list(columns), dtype=object)


def with_minimised(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """The columns, and after the parameters what else was minimised, where anything was."""
    place = columns.index("Parameters") + 1
    minimised = ["Minimised"] * any(row.get("Minimised") for row in rows)
    return [*columns[:place], *minimised, *columns[place:]]


def work(cost: Cost | None) -> dict[str, Any]:
    """The cells of `WORK`."""
    return dict(zip(WORK, (cost.macs, cost.flops_total, cost.lower_bound) if cost else (None,) * 3))


def markdown(frame: pd.DataFrame, caption: str) -> str:
    """A GitHub table under its caption. What is a lower bound is marked there (`>=`), which in CSV is a column."""
    frame = marked(frame)
    cells = _formatted(frame).map(safe.markdown)
    align = ["right" if numeric else "left" for numeric in _numeric(frame)]
    return f"{caption}\n\n{cells.to_markdown(index=False, disable_numparse=True, colalign=align)}\n"


def latex(frame: pd.DataFrame, caption: str) -> str:
    """A table environment with a plain tabular: no package is needed. Lower bounds as in `markdown`."""
    frame = marked(frame)
    align = ["right" if numeric else "left" for numeric in _numeric(frame)]
    rows = [list(map(safe.latex, row)) for row in _formatted(frame).itertuples(index=False, name=None)]
    head = list(map(safe.latex, frame.columns))
    # raw: the cells are escaped already, more of them than tabulate would
    inside = tabulate(rows, head, tablefmt="latex_raw", colalign=align if rows else None, disable_numparse=True)
    lines = [r"\begin{table}", r"\centering", inside, rf"\caption{{{safe.latex(caption)}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def csv(frame: pd.DataFrame) -> str:
    """Plain values, as numbers without separators of thousands; nothing where there is none, or nothing was run."""
    cells = {c: [None if value == NOT_RUN else safe.cell(value) for value in frame[c]] for c in frame.columns}
    return pd.DataFrame(cells, columns=frame.columns, dtype=object).to_csv(index=False, lineterminator="\n")


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    """With `AtLeast` numbers in place of the column that says which of them are lower bounds."""
    if "lower_bound" not in frame.columns:
        return frame
    marked = frame.drop(columns="lower_bound")
    for column in frame.columns.intersection(OPERATIONS):
        cells = [AtLeast(n) if low and n is not None else n for n, low in zip(frame[column], frame["lower_bound"])]
        marked[column] = pd.Series(cells, index=frame.index, dtype=object)
    return marked


class AtLeast(int):
    """A number that is a lower bound."""


def _numeric(frame: pd.DataFrame) -> list[bool]:
    numbers = (int, float)
    return [any(isinstance(value, numbers) for value in frame[column]) for column in frame.columns]


def _formatted(frame: pd.DataFrame) -> pd.DataFrame:
    cells = {column: [_text(column, value) for value in frame[column]] for column in frame.columns}
    return pd.DataFrame(cells, columns=frame.columns, dtype=object)


FRACTIONS = (
    "Accuracy",
    "Recorded accuracy",
    "Confidence",
    "Adjusted confidence",
    "95 % low",
    "95 % high",
    "Min",
    "Max",
    "Validation",
    "Target",
)


def _text(column: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, Decibels):
        return f"{value:.2f} dB"
    if isinstance(value, Share):
        return f"{100 * value:.2f} %"
    if column in FRACTIONS:
        return f"{100 * value:.2f} %"
    if column == "Published" and isinstance(value, float):
        return f"{value:.2f} %"
    if isinstance(value, AtLeast):
        return f">= {_text(column, int(value))}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column in (*OPERATIONS, "MACs by torch"):
        return operations(value)
    if column.endswith(" bytes"):
        return bytes_of(value)
    if column.endswith(" share"):
        return f"{100 * value:.1f} %"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if column == "Ratio" else f"{value:.4g}"


def operations(value: float) -> str:
    """1.81 G."""
    return _scaled(value, 1000, ("", " k", " M", " G", " T"))


def bytes_of(value: float) -> str:
    """96.1 MiB."""
    return _scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(value: float, step: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if abs(value) < 999.5:
            break
        value, unit = value / step, units[units.index(unit) + 1]
    return f"{value:.3g}{unit}"
