import html
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from campaigns import DATA, ENVIRONMENT, campaign, confirmation, trial
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from search.cli.app import app
from search.errors import UserError
from search.records.jsonl import append
from search.report import html_page as report
from search.report import plots
from search.text import line
from search.upstream import PUBLISHED
from wavemix import LiteConfig

VOID = {"meta"}
PAYLOADS = (
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "</text></svg><script>document.title='pwned'</script>",
    "'-->]]></style></title></pre><b onmouseover=alert(1)>",
    "&lt;b&gt; &amp;amp; $<i>$ <!-- <![CDATA[",
    "javascript:alert(1)//<a href=http://example.org>",
    "\x00\x1b\u202e\u2028<u>",
)


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text; a tag left open or closed twice is an error."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def handle_comment(self, data):
        raise AssertionError("a comment in the page")

    unknown_decl = handle_comment

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def assert_sealed(page: Page) -> None:
    """No script, no handler, nothing that a browser would fetch, every id once and every reference to one there."""
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert tag not in ("script", "img", "link", "iframe", "object", "embed", "base", "form", "b", "i", "u", "image")
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "srcset", "action")
            if name.endswith("href"):
                assert value.startswith("#") and value[1:] in ids
            for reference in re.findall(r"url\(([^)]*)\)", value or ""):
                assert reference.startswith("#") and reference[1:] in ids
            assert "http" not in (value or "") or name.startswith("xmlns")


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
    assert sum(tag == "svg" for tag, _ in page.elements) == 4
    assert "21 in all, 18 complete, 2 pruned, 1 refused" in said


def test_command_gives_the_network_back():
    run = confirmation(
        [0.991], config=LiteConfig(in_channels=1, final_dim=12, depth=2, activation="silu", bias="needed")
    )
    words = shlex.split(report.command(run))
    assert words[:3] == ["wavemix", "train", "mnist"]
    options = dict(zip(words[3::2], words[4::2]))
    assert LiteConfig.model_validate_json(options["--config"]) == run.config
    assert type(run).model_validate(run.model_dump()).recipe == json.loads(options["--recipe"])
    assert options["--seed-list"] == "0" and float(options["--target"]) == run.target


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
    found, sentence = report.verdict(runs)
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


def hostile(said: str) -> list:
    """Runs whose every free string is `said`."""
    environment = ENVIRONMENT.model_copy(
        update=dict.fromkeys(("python", "torch", "optuna", "device", "git_commit", "command"), said)
    )
    data = {"name": said, "label": said, "digest": said}
    common = {"study": said, "environment": environment, "reason": said or "-", "recipe": {said: said, "lr": 0.1}}
    return [
        *(trial(n, 0.98 + n / 80, dataset=DATA.model_copy(update=data), **common) for n in range(2)),
        trial(3, 0.5, "pruned", 2, dataset=DATA.model_copy(update=data | {"variant": said}), **common),
        confirmation([0.99, 0.995], dataset=DATA.model_copy(update=data | {"test_digest": said}), **common),
    ]


strings = st.one_of(
    st.text(max_size=60),
    st.sampled_from(PAYLOADS),
    st.text(alphabet="<>&\"'/=!-$%#;x \n\x00", max_size=40),
    st.tuples(st.text(max_size=10), st.sampled_from(PAYLOADS), st.text(max_size=10)).map("".join),
)


KNOWN = {row.label for row in PUBLISHED}  # a data set of this name has rows of its own in the table


def without_pictures(said: str) -> Page:
    """The page of `hostile` runs; pictures, which take their time, have their own test below."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_picture", lambda *_: "")
        for name in plots.KINDS:
            patch.setattr(plots, name, lambda _: None)
        return Page(report.page(hostile(said)))


@pytest.fixture(scope="module")
def harmless() -> Page:
    return without_pictures("harmless")


@given(said=strings.filter(lambda said: line(said).strip() not in KNOWN))
@settings(max_examples=150)
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
    assert sum(tag == "svg" for tag, _ in page.elements) == 3


@given(st.text(max_size=300))
def test_code_can_be_copied(said):
    shown = html.unescape(report.code(said).removeprefix("<pre>").removesuffix("</pre>"))
    assert all(a == b or b == "\ufffd" for a, b in zip(said, shown, strict=True))
    printable = said.replace("\n", " ").isprintable()
    assert not printable or shown == said


# ------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs chromium")

    def run(page: Path, *options: str) -> str:
        profile = page.parent / "profile"
        profile.mkdir(exist_ok=True)
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND", *options, page.as_uri(),
        ]  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout

    return run


def test_browser_shows_the_report(chromium, tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text(report.page(campaign()))
    for width in (1000, 500):
        shot = tmp_path / f"{width}.png"
        chromium(path, f"--window-size={width},2400", f"--screenshot={shot}")
        image = Image.open(shot).convert("RGB")
        colours = {colour for _, colour in image.getcolors(1 << 24)}
        assert image.width == width
        assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours  # the verdict's bar, the curves
        lower = image.crop((0, 1200, width, 2400)).getcolors(1 << 24)
        assert len(lower) > 100


@pytest.mark.parametrize("width", [1000, 390])
def test_nothing_sticks_out_of_the_page(chromium, tmp_path: Path, width):
    """Measured by a script in a copy of the page: no horizontal scrolling of the page, no picture or box outside."""
    script = """<script>addEventListener('load', () => {
      const wide = document.documentElement.clientWidth, out = [];
      for (const e of document.querySelectorAll('body *')) {
        const box = e.getBoundingClientRect();
        if (box.right > wide + 1 && !e.closest('.scroll') && !e.closest('svg')) out.push(e.tagName);
      }
      for (const svg of document.querySelectorAll('svg')) for (const t of svg.querySelectorAll('text')) {
        const a = t.getBoundingClientRect(), b = svg.getBoundingClientRect();
        if (a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1)
          out.push('text ' + t.textContent);
      }
      parent.document.title = JSON.stringify([wide, document.documentElement.scrollWidth, out]);
    })</script></body>"""
    source = re.sub(r"<meta http-equiv[^>]*>", "", report.page(campaign() + hostile("w" * 200)[:3]))
    path = tmp_path / "measured.html"
    # in a frame, as a browser's own window does not get as narrow as a phone
    inside = html.escape(source.replace("</body>", script))
    path.write_text(
        f'<!DOCTYPE html><title></title><iframe style="border:0;width:{width}px" srcdoc="{inside}"></iframe>'
    )
    dom = chromium(path, "--window-size=1200,900", "--dump-dom", "--virtual-time-budget=5000")
    title = html.unescape(re.search(r"<title>(.*?)</title>", dom)[1])
    shown, needed, outside = json.loads(title)
    assert shown == width and needed <= shown and outside == []


def test_main_table_and_pictures_fit_a_desktop(chromium, tmp_path: Path):
    """At 1280 pixels the parameter table needs no scrolling, and a picture that stands alone is not blown up."""
    script = """<script>addEventListener('load', () => {
      const box = document.querySelector('#efficiency ~ .scroll') || document.querySelector('.scroll');
      const widths = [...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().width);
      document.title = JSON.stringify([box.scrollWidth - box.clientWidth, Math.max(...widths)]);
    })</script></body>"""
    source = re.sub(r"<meta http-equiv[^>]*>", "", report.page(campaign())).replace("</body>", script)
    path = tmp_path / "measured.html"
    path.write_text(source)
    dom = chromium(path, "--window-size=1280,1500", "--dump-dom", "--virtual-time-budget=5000")
    hidden, widest = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom)[1]))
    assert hidden <= 0 and 0 < widest <= 640


def test_browser_runs_nothing_out_of_a_record(chromium, tmp_path: Path):
    runs = [record for said in PAYLOADS for record in hostile(said)]
    path = tmp_path / "hostile.html"
    path.write_text(report.page(runs))
    dom = chromium(path, "--dump-dom", "--virtual-time-budget=5000")
    assert re.search(r"<title>(.*?)</title>", dom)[1] == "WaveMix search: report"
    assert_sealed(Page(dom))
    # and it is not only the page's policy that keeps it from running
    path.write_text(re.sub(r"<meta http-equiv[^>]*>", "", path.read_text()))
    dom = chromium(path, "--dump-dom", "--virtual-time-budget=5000")
    assert re.search(r"<title>(.*?)</title>", dom)[1] == "WaveMix search: report"


# ------------------------------------------------------------------------------------------------------ commands


def test_commands_write_pictures_and_report(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    append(tmp_path / "s.jsonl", confirmation([0.99, 0.992]))
    for command, folder, said in (
        ("plots", tmp_path, f"wrote {tmp_path / 'plots' / 'frontier-MNIST.svg'}"),
        ("plots", tmp_path / "empty", "nothing to draw"),
        ("report", tmp_path, f"wrote {tmp_path / 'report.html'}"),
    ):
        result = CliRunner().invoke(app, [command, "--results", str(folder)])
        assert result.exit_code == 0 and said in result.output
    assert (tmp_path / "plots" / "frontier-MNIST.png").exists() and (tmp_path / "report.html").exists()
    missing = CliRunner().invoke(app, ["report", "--results", str(tmp_path / "none")])
    assert isinstance(missing.exception, UserError)
