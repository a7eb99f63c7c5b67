import html
import re
from pathlib import Path

import pytest
from campaigns import DATA, ENVIRONMENT, campaign, confirmation, trial
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import PAYLOADS, Page, assert_sealed, hostile, undrawn
from typer.testing import CliRunner

from search.cli.app import app
from search.errors import UserError
from search.records.jsonl import append
from search.report import html_page as report
from search.report.study_summary import verdict
from search.text import line
from search.upstream import PUBLISHED


def test_report_says_what_a_reader_asks():
    page = Page(report.page(campaign()))
    assert_sealed(page)
    said = page.text
    best = confirmation([0.991, 0.9912, 0.9914])
    assert f"Confirmed: {best.parameters:,} parameters, 99.12 % on the test set (mean of 3 seeds" in said
    assert f"95 % interval {100 * best.interval[0]:.2f} % to {100 * best.interval[1]:.2f} %" in said
    assert "95 % interval 0.00 % to 100.00 %)" in Page(report.page([confirmation([0.5, 1.0])])).text, "no accuracy"
    assert "Upstream publishes 3,566." in said and "The test set was used for 3 attempts." in said
    assert "The smallest network of the extended family that reaches 99 % in MNIST." in said
    for fact in (DATA.digest, "official", ENVIRONMENT.device, ENVIRONMENT.git_commit, ENVIRONMENT.command):
        assert fact in said
    assert sum(tag == "svg" for tag, _ in page.elements) == 1 + 4, "the data set's and the study's"
    assert "21 in all, 18 complete, 2 pruned, 1 refused" in said


def test_studies_stand_by_data_set_and_threshold():
    digits = {"label": "Digits", "name": "digits"}
    of_digits = confirmation([0.5], study="study-z", dataset=DATA.model_copy(update=digits), target=0.95)
    runs = [
        trial(1, 0.995, study="study-b"),
        confirmation([0.99, 0.992], study="study-c"),
        confirmation([0.98], study="study-c", target=0.97),
        confirmation([0.5], study="study-d", target=None),
        trial(2, 0.5, study="study-a"),
        of_digits,
    ]
    page = Page(report.page(runs))
    assert_sealed(page)
    ids = [attributes["id"] for tag, attributes in page.elements if tag in ("nav", "h2", "h3")]
    assert ids == [
        "contents", "contents-title", "frontiers", "efficiency", "goal-1", "study-1", "goal-2", "study-2", "goal-3",
        "study-3", "study-4", "study-5", "goal-4", "study-6",
    ]  # fmt: skip
    order = [
        "Digits, 95 %", "study-z", "MNIST, 97 %", "study-c", "MNIST, 99 %", "study-c", "study-a", "study-b",
        "MNIST, no target", "study-d",
    ]  # fmt: skip
    found = re.findall(r"Digits, 95 %|MNIST, \d\d %|MNIST, no target|study-[a-z]", page.text.partition("Contents")[2])
    assert found[: len(order)] == order, "in the table of contents"
    assert "Study study-c Does the network reach 97 % in MNIST?" in page.text
    assert "Study study-c Does the network reach 99 % in MNIST?" in page.text, (
        "a study of two thresholds has a part at each"
    )
    pictures = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert pictures[:2] == ["Parameters against accuracy: Digits", "Parameters against accuracy: MNIST"]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert {f"#{place}" for place in ids[2:]} <= set(links), "all of it is in the table of contents"


@pytest.mark.parametrize("families", [["extended"], ["published", "extended"]])
def test_question_names_the_family_where_there_is_one(families):
    runs = [trial(number, 0.9, family=family) for number, family in enumerate(families)]
    named = "The smallest network of the extended family that" in Page(report.page(runs)).text
    assert named == (len(families) == 1)


@pytest.mark.parametrize(
    ("runs", "state", "said"),
    [
        ([confirmation([0.98, 0.985])], "no", "Missed: "),
        ([trial(1, 0.995)], "open", "Not tested yet"),
        ([trial(1, 0.9901)], "open", "Not reached: the nearest trial has 99.01 %"),  # within the margin
        ([trial(1, 0.5, "pruned", 2)], "open", "Nothing to judge"),
        ([confirmation([], state="failed", seeds=[0])], "open", "Nothing to judge"),
        ([confirmation([0.995])], "open", "Reached, not confirmed: "),
        ([confirmation([0.9951, 0.9952, 0.9953])], "yes", "Confirmed: "),
    ],
)
def test_verdicts(runs, state, said):
    if len(runs[0].accuracies) == 1 and said.startswith("Reached"):
        said += f"{runs[0].parameters:,} parameters, 99.50 % on the test set (mean of 1 seed), target"
    found, sentence = verdict(runs)
    assert found == state and sentence.startswith(said)
    assert_sealed(Page(report.page(runs)))


def test_no_records_say_so(tmp_path: Path):
    assert "hold no study" in Page(report.write(tmp_path).read_text()).text
    with pytest.raises(UserError, match="no results directory"):
        report.write(tmp_path / "none")


def test_report_is_repeatable_and_written_whole(tmp_path: Path):
    for record in campaign():
        append(tmp_path / "s.jsonl", record)
    path = report.write(tmp_path)
    first = path.read_bytes()
    assert report.write(tmp_path) == path and path.read_bytes() == first
    assert {p.name for p in tmp_path.iterdir()} == {"s.jsonl", "report.html"}


# ----------------------------------------------------------------------------------------------------- injection


strings = st.one_of(
    st.text(max_size=60),
    st.sampled_from(PAYLOADS),
    st.text(alphabet="<>&\"'/=!-$%#;x \n\x00", max_size=40),
    st.tuples(st.text(max_size=10), st.sampled_from(PAYLOADS), st.text(max_size=10)).map("".join),
)


KNOWN = {row.label for row in PUBLISHED}  # a data set of this name has rows of its own in the table


def without_pictures(said: str) -> Page:
    """The page of `hostile` runs; pictures have their own test below."""
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        return Page(report.page(hostile(said)))


@pytest.fixture(scope="module")
def harmless() -> Page:
    return without_pictures("harmless")


@given(said=strings.filter(lambda said: line(said).strip() not in KNOWN))
@settings(max_examples=examples(40))
def test_strings_of_records_cannot_become_markup(harmless, said):
    """The page of hostile strings has, element by element, the structure of the page of a harmless one."""
    page = without_pictures(said)
    assert_sealed(page)
    # an empty fact's row and its absence are the only difference there may be
    drop = ("dt", "dd") if not line(said).strip() else ()
    structure = [element for element in page.elements if element[0] not in drop]
    assert structure == [element for element in harmless.elements if element[0] not in drop]
    assert line(said, 200) in page.text


@pytest.mark.parametrize("said", PAYLOADS)
def test_strings_in_pictures_cannot_become_markup(said):
    page = Page(report.page(hostile(said)))
    assert_sealed(page)
    assert sum(tag == "svg" for tag, _ in page.elements) == 1 + 3


@given(said=strings)
def test_whatever_the_template_prints_is_printable_and_escaped(said):
    """Without a filter, which a later template may forget."""
    shown = report.ENVIRONMENT.from_string('<p title="{{ said }}">{{ said }}</p>').render(said=said)
    assert shown.isprintable() or shown.replace("\u00a0", " ").isprintable()
    assert re.fullmatch(r'<p title="[^<>"]*">[^<>"]*</p>', shown)
    assert Page(shown).text == " ".join(line(said).split())


def test_template_declares_nothing_safe():
    template = Path(report.__file__).with_name(report.TEMPLATE).read_text()
    assert not re.search(r"\|\s*safe|autoescape|<script|\bon\w+=", template)


@given(st.text(max_size=300))
def test_code_can_be_copied(said):
    shown = html.unescape(report.code(said))
    assert all(a == b or b == "\ufffd" for a, b in zip(said, shown, strict=True))
    printable = said.replace("\n", " ").isprintable()
    assert not printable or shown == said


# -------------------------------------------------------------------------------------------------- command line


def test_commands_write_pictures_and_report(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    append(tmp_path / "s.jsonl", confirmation([0.99, 0.992]))
    for command, folder, said in (
        ("plots", tmp_path, f"wrote {tmp_path / 'plots' / 'frontier-mnist.svg'}"),
        ("plots", tmp_path / "empty", "nothing to draw"),
        ("report", tmp_path, f"wrote {tmp_path / 'report.html'}"),
    ):
        result = CliRunner().invoke(app, [command, "--results", str(folder)])
        assert result.exit_code == 0 and said in result.output
    assert (tmp_path / "plots" / "frontier-mnist.png").exists() and (tmp_path / "report.html").exists()
    missing = CliRunner().invoke(app, ["report", "--results", str(tmp_path / "none")])
    assert isinstance(missing.exception, UserError)
