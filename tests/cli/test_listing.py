import io

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from search.cli.listing import Block, Listing

ROWS = [
    ("mnist-99-extended-1186", "MNIST", "0.99", "1,186"),
    ("cifar10-jpeg-90-published-network", "CIFAR-10 (JPEG copy)", "0.9", "520,106"),
]


def printed(shown, width: int, **options) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, **options).print(shown, crop=False)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def listing(rows=ROWS) -> Listing:
    table = Listing("study", "data", title="All studies")
    for name in ("target", "smallest confirmed"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def test_a_table_that_fits_has_a_line_a_row():
    lines = printed(listing(), 100)
    assert lines[0].strip() == "All studies" and "smallest confirmed" in lines[1]
    assert [line.split("  ")[0] for line in lines[3:]] == [row[0] for row in ROWS]
    assert len({len(line) for line in lines[3:]}) == 1, "numbers end in one column"


def test_words_fold_where_that_is_enough():
    lines = printed(listing(), 75)
    assert max(map(len, lines)) <= 75
    assert any("CIFAR-10" in line and "copy" not in line and "520,106" in line for line in lines)
    assert any(line.split() == ["copy)"] or line.split() == ["(JPEG", "copy)"] for line in lines)


def test_a_narrow_terminal_gets_a_block_a_row():
    assert printed(listing(), 40) == [
        "All studies",
        "mnist-99-extended-1186",
        "  data: MNIST   target: 0.99",
        "  smallest confirmed: 1,186",
        "cifar10-jpeg-90-published-network",
        "  data: CIFAR-10 (JPEG copy)",
        "  target: 0.9",
        "  smallest confirmed: 520,106",
    ]


def test_what_is_not_there_takes_no_room_in_a_block():
    assert printed(listing([("a" * 38, "MNIST", "-", "")]), 40)[1:] == ["a" * 38, "  data: MNIST"]


def test_a_row_without_a_name_is_called_by_its_number():
    table = Listing()
    table.add_column("trial", justify="right")
    table.add_column("configuration")
    table.add_row("12", "C8-D14-m1-F8-L1-bilinear-separable")
    assert printed(table, 30) == ["trial 12", "  configuration:", "  C8-D14-m1-F8-L1-bilinear-separable"]


def test_an_empty_table_says_what_it_would_hold():
    assert "smallest confirmed" in printed(listing([]), 80)[1]


words = st.text("abzXY0189,.%-_[]/:ü漢", min_size=1, max_size=20)
cells = st.lists(words, min_size=1, max_size=4).map(" ".join)


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(cells, cells, words, words), min_size=1, max_size=3), st.integers(20, 130))
def test_no_word_is_cut_at_any_width(rows, width):
    """Nor is a line longer than the terminal, but for a word that is."""
    lines = printed(listing(rows), width)
    shown = " ".join(lines).split()
    for row in rows:
        assert all(word in shown for cell in row if cell != "-" for word in cell.split())
    assert all(cell_len(line) <= width or len(line.split()) == 1 for line in lines)


@pytest.mark.parametrize("text", ["[/]", "[bold]x[/bold]", ":smile:", "a\x1b[2Jb", "a\nb", "[link=http://x]y"])
@pytest.mark.parametrize("width", [200, 12])
def test_cells_and_names_are_text(text, width):
    """Neither markup, which vanishes or is refused, nor escape sequences, also in a console that knows markup."""
    table = Listing("name", "said", title=text)
    table.add_row(text, text)
    lines = printed(table, width, markup=True, emoji=True)
    shown = text.replace("\x1b", "\ufffd").replace("\n", " ")
    assert " ".join(lines).split().count(shown.split()[-1]) >= 3
    assert not any("\x1b" in line for line in lines) and "\x1b" not in "".join(printed(Block(text, {text: text}), 80))
