"""The picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from search.errors import UserError
from search.files import write_atomically
from search.report.plot_style import style
from search.report.plots import rendered
from search.text import line

MANY = 20  # classes from which no numbers are written into the cells
BLUES = LinearSegmentedColormap.from_list("blues", ("#FFFFFF", "#0072B2"))


def confusion(matrix: NDArray, classes: Sequence[str], title: str) -> Figure:
    """Draw counts (K, K), a row a true class, a column what it was taken for, as shares of each row.

    Colours are spaced by the square root, so that the few that are wrong can be seen beside the many that are right.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names, count = [line(name, 16) for name in classes], len(classes)
    size = min(max(3.2, 1.6 + 0.34 * count), 12)
    with style({"axes.grid": False}):
        figure = Figure((size, size), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap=BLUES, norm=PowerNorm(0.5, 0, 1))
        if count < MANY:
            for (row, column), share in np.ndenumerate(shares):
                if share > 0:
                    colour = "#FFFFFF" if share > 0.35 else "#000000"
                    said = f"{100 * share:.1f}" if share >= 0.001 else "<.1"
                    axes.text(column, row, said, ha="center", va="center", fontsize=6, color=colour)
        ticks = range(0, count, max(1, count // 40))
        axes.set_xticks(ticks, [names[k] for k in ticks], rotation=90)
        axes.set_yticks(ticks, [names[k] for k in ticks])
        axes.set_xlabel("taken for")
        axes.set_ylabel("class, % of its images")
        axes.set_title(line(title, 60))
        return figure


def write(path: Path, matrix: NDArray, classes: Sequence[str], title: str) -> Path:
    """Draw it into a .png or .svg file, whole or not at all. Raises UserError for another one, or where it can't be."""
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in ("png", "svg"):
        raise UserError(f"a picture is a .png or .svg file, not {path}")
    content = rendered(confusion(matrix, classes, title), "confusion", suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_atomically(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
