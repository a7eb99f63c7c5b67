"""Tables on a terminal that fit into its width: no name and no number is ever cut in two."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from search.text import line

GAP = 2  # blanks between columns


class Block:
    """One thing as its name and, indented below it, what there is to say of it: `label: value`, one after the other.

    Lines are filled to the width of the terminal and broken between facts, or between the words of a long one. Facts
    that say "-" or nothing are left out.
    """

    def __init__(self, name: str, facts: Mapping[str, str]):
        self.name = line(name)
        facts = {line(label): line(value) for label, value in facts.items()}
        self.facts = [f"{label}: {value}" for label, value in facts.items() if value not in ("", "-")]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(_folded(self.name, options.max_width), style="bold", no_wrap=True, overflow="ignore")
        for text in _filled(self.facts, options.max_width - 2):
            yield Text(f"  {text}", no_wrap=True, overflow="ignore")


def _filled(facts: Iterable[str], width: int) -> Iterator[str]:
    """Lines of at most `width`, but for a word that is longer."""
    filled = ""
    for fact in facts:
        gap = "   "
        for part in [fact] if cell_len(fact) <= width else fact.split():
            if filled and cell_len(filled + gap + part) > width:
                yield filled
                filled = ""
            filled += gap * bool(filled) + part
            gap = " "
    if filled:
        yield filled


def _folded(text: str, width: int) -> str:
    return "\n".join(_filled([text], width))


Justify = Literal["left", "right"]


class Listing:
    """A table that folds words where the terminal is too narrow for it, and becomes a `Block` a row where that does not
    do. Numbers (columns justified "right") and words stay whole."""

    def __init__(self, *columns: str, title: str = ""):
        self.title = line(title)
        self.columns: dict[str, Justify] = dict.fromkeys(columns, "left")
        self.rows: list[tuple[str, ...]] = []

    def add_column(self, name: str, justify: Justify = "left") -> None:
        self.columns[name] = justify

    def add_row(self, *cells: str) -> None:
        self.rows.append(tuple(map(line, cells)))

    def __getitem__(self, name: str) -> list[str]:
        """The cells of a column."""
        return [row[list(self.columns).index(name)] for row in self.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(_folded(self.title, options.max_width), style="italic", no_wrap=True, overflow="ignore")
        widths = self._widths(options.max_width - GAP * (len(self.columns) - 1))
        if widths is None:
            first, *labels = self.columns
            for name, *cells in self.rows:
                yield Block(f"{first} {name}" if self.columns[first] == "right" else name, dict(zip(labels, cells)))
            return
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
        for (name, justify), width in zip(self.columns.items(), widths):
            table.add_column(Text(_folded(name, width)), justify=justify, width=width, no_wrap=True, overflow="crop")
        for row in self.rows:
            table.add_row(*(Text(_folded(cell, width)) for cell, width in zip(row, widths)))
        yield table

    def _widths(self, room: int) -> list[int] | None:
        """The columns' widths in `room`; None where a word would be cut, or a cell folded into a narrow strip."""
        widths, least = [], []
        for index, (name, justify) in enumerate(self.columns.items()):
            cells = [row[index] for row in self.rows]
            whole = max(map(cell_len, cells), default=0)
            words = max(cell_len(word) for text in (name, *cells) for word in text.split() or [""])
            widths.append(max(whole, cell_len(name)))
            least.append(max(words, whole if justify == "right" else whole // 2))
        if sum(least) > room:
            return None
        while sum(widths) > room:
            widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
            widths[widest] -= 1
        return widths
