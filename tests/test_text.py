import csv
import io
import re
import unicodedata
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search import text as safe
from search.report import typeset

CONTROL = ("\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202egnp.exe", "a\nb\x00\x08", "\ud800", "\u2028")
anything = st.text(st.characters(), max_size=60) | st.sampled_from(CONTROL)


def controls(text: str) -> list[str]:
    """Characters that move a cursor, change what stands beside them or can't be encoded."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@given(anything)
@example("[bold]x[/] [/]")
def test_no_control_character_is_left_and_everything_else_is(text):
    shown = safe.printable(text)
    assert len(shown) == len(text) and not controls(shown)
    assert all(a == b for a, b in zip(text, shown) if a.isprintable())
    copied = safe.printable(text, kept="\n")
    assert all(a == b or b == "\ufffd" for a, b in zip(text, copied)) and controls(copied) == ["\n"] * text.count("\n")


@given(anything, st.integers(1, 80))
def test_a_line_is_one_printable_line(text, most):
    shown = safe.line(text, most)
    assert len(shown) <= most and not controls(shown) and shown.isprintable()
    assert not text.isascii() or not text.isalnum() or len(text) > most or shown == text


class Words(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.words, self.attribute = "", None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        assert tag == "p" and self.attribute is None
        self.attribute = dict(attributes)["title"]

    def handle_data(self, data):
        self.words += data

    def handle_comment(self, data):
        raise AssertionError("a comment")


@given(anything)
@example("</p><script>")
@example('" onclick="x')
@example("&lt;")
def test_html_is_text_in_elements_and_attributes(text):
    escaped = safe.html(text)
    page = Words(f'<p title="{escaped}">{escaped}</p>')
    assert page.words == page.attribute == safe.printable(text)


values = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), anything)


@given(st.lists(st.tuples(values, values), max_size=4))
@example([("=1+1", "@SUM(A1)"), ("-2", "'quoted"), (" =1", "＝1"), ('a,"b"', -3)])
def test_csv_comes_back_and_calculates_nothing(rows):
    written = typeset.csv(pd.DataFrame(rows, columns=["a", "b"], dtype=object))
    _, *read = csv.reader(io.StringIO(written, newline=""), strict=True)
    assert len(read) == len(rows) and not set(controls(written)) - {"\n"}
    for row, cells in zip(rows, read, strict=True):
        for value, cell in zip(row, cells, strict=True):
            if isinstance(value, str):
                assert not re.match(r"\s*[=+\-@＝＋－＠]", cell)
                assert cell.removeprefix("'") == safe.printable(value)
            else:
                assert cell == ("" if value is None else str(value)), "a number has no separators of thousands"


@given(anything)
def test_latex_is_escaped(text):
    escaped = safe.latex(text)
    names = "textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar"
    bare = re.sub(rf"\\({names})\{{\}}|\\[&%$#_{{}}]|\{{[\[\]*]\}}", "", escaped)
    assert not set(bare) & set("\\&%$#_{}~^<>|[]*") and not controls(escaped)


@pytest.mark.parametrize("first", ["[1pt]", "*"])
def test_a_row_of_latex_is_no_option_of_the_line_before(first):
    table = typeset.latex(pd.DataFrame([["a", "b"], [first, "c"]], columns=["x", "y"], dtype=object), "caption")
    assert not re.search(r"\\\\\s*[\[*]", table)


@given(anything)
@example("_a_ a_b __init__ *x* [a](b) <b> &lt; `c` ~~d~~ $e$ a|b \\|")
def test_markdown_is_escaped(text):
    escaped = safe.markdown(text)
    bare = re.sub(r"\\[\\`*_\[\]<>&|~$]", "", escaped)
    assert not set(bare) & set("\\`*[]<>&|~$\n") and not controls(escaped)
    assert all(bare[m.start() - 1 : m.start()].isalnum() for m in re.finditer("_", bare) if m.start())
    assert re.sub(r"\\([\\`*_\[\]<>&|~$])", r"\1", escaped) == safe.line(text)
