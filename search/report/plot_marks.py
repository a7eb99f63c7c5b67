"""What the pictures have in common: figures with a title that fits, colours and markers of families."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from search.records.jsonl import Record
from search.records.models import Confirmation, Trial, label
from search.text import line
from search.upstream import PUBLISHED, Published

# Okabe & Ito's colours, told apart under every common colour blindness; the shapes differ too
COLOURS = {"published": "#0072B2", "extended": "#D55E00"}
MARKERS = {"published": "s", "extended": "o"}
UPSTREAM, FAINT = "#000000", "#5F5F5F"
SIZE = (4.8, 3.9)  # inches: read without zooming where a phone shrinks it to its width
MANY = 400  # markers or lines from which they are one bitmap inside the SVG


def short(name: str, most: int) -> str:
    """A name cut to `most` characters in its middle: names often differ at their end."""
    whole, end = line(name), (most - 1) // 2
    return whole if len(whole) <= most else f"{whole[: most - 1 - end]}…{whole[len(whole) - end :]}"


def figure_of(what: str, name: str) -> tuple[Figure, Axes]:
    """A figure entitled "what: name", the name cut so that the title fits."""
    figure = Figure(figsize=SIZE, layout="constrained")
    title = figure.suptitle(what, fontsize=10)
    for most in range(60, 0, -3):
        title.set_text(f"{what}: {short(name, most)}")
        if title.get_window_extent().width < 0.96 * figure.bbox.width:
            break
    return figure, figure.subplots()


def marker(shape: str, colour: str, text: str, fill: str = "full", size: float = 5) -> Line2D:
    return Line2D([], [], ls="", **filled(colour, fill), marker=shape, color=colour, ms=size, label=text)


def filled(colour: str, fill: str) -> dict:
    """How a marker is drawn: 'full', its 'left' half, or 'none', white inside."""
    inside, style = ("white", "full") if fill == "none" else (colour, fill)
    return {"mec": colour, "mfc": inside, "mfcalt": "white", "fillstyle": style}


def runs_of(records: Iterable[Record]) -> list[Trial | Confirmation]:
    return [r for r in records if isinstance(r, (Trial, Confirmation))]


def published(runs: Sequence[Trial | Confirmation]) -> list[Published]:
    """Upstream's rows on the data set of the runs; a copy of the images stands beside the official ones' figures."""
    name = label(runs[0].dataset).removesuffix(" (JPEG copy)")
    return [row for row in PUBLISHED if row.label == name]
