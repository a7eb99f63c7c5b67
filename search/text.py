"""Text made safe for where it is shown: a terminal, a page, CSV, Markdown, LaTeX.

Names, labels, reasons and commands come out of records, which are anybody's. Whatever they hold is shown as text:
nothing in it moves a cursor, becomes markup or a formula, or vanishes.
"""

import html as standard
import re
from typing import Any

from search.errors import printable


def line(text: object, most: int | None = None) -> str:
    """`text` in one line of printable characters, cut to `most`: for a terminal or a picture."""
    shown = " ".join(printable(text).split())
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def span(seconds: float) -> str:
    """A time that is expected, as a person says it: "about 40 s", "about 6 min", "about 2.5 h"."""
    if seconds < 100:
        return f"about {max(1, round(seconds)):d} s"
    return f"about {seconds / 60:.0f} min" if seconds < 100 * 60 else f"about {seconds / 3600:.1f} h"


def html(text: object, kept: str = "") -> str:
    """`text` for an element or a quoted attribute of a page."""
    return standard.escape(printable(text, kept))


FORMULA = tuple("=+-@＝＋－＠'")  # a spreadsheet calculates what begins so, and hides the last


def cell(value: Any) -> Any:
    """A value for CSV. Text that a spreadsheet would calculate gets an apostrophe before it, which means text there;
    so does text that begins with one: taking it off gives the text back. Numbers stay as they are."""
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


MARKDOWN = re.compile(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word is none


def markdown(text: object) -> str:
    """`text` for a cell of a GitHub table, every character escaped that could be markup."""
    return MARKDOWN.sub(r"\\\g<0>", line(text))


LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {character: f"{{{character}}}" for character in "[]*"}  # after a line's end they would be its options
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def latex(text: object) -> str:
    """`text` for LaTeX, every special character escaped."""
    return printable(text).translate(LATEX)
