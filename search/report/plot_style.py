"""How the pictures look: one style for all, whatever the settings of the program that draws them."""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from search.records.jsonl import Record

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.parse_math": False,  # a name out of a record is no formula
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
}


@contextmanager
def style(more: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """matplotlib's own settings and STYLE, whatever the caller's are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(dict[Any, Any]({**STYLE, **more}))  # its stub lists the names there are
        # a name in a script that no font here has
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def styled(draw: Callable[[Iterable[Record]], Figure | None]) -> Callable[[Iterable[Record]], Figure | None]:
    """`draw` under the pictures' own style."""

    @functools.wraps(draw)
    def drawn(records: Iterable[Record]) -> Figure | None:
        with style():
            return draw(records)

    return drawn
