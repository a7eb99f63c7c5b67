"""The report in a real browser."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from campaigns import campaign
from pages import PAYLOADS, Page, assert_sealed, hostile
from PIL import Image

from search.report import html_page as report


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


@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_dark_mode_keeps_pictures_on_a_light_panel(chromium, tmp_path: Path, scheme, dark):
    """By the colours that the browser computes: text is told from its background, in the page and in pictures."""
    script = """<script>addEventListener('load', () => {
      const colour = (e, what) => getComputedStyle(e).getPropertyValue(what).match(/[\\d.]+/g).map(Number);
      const bright = c => 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
      const one = s => document.querySelector(s);
      document.title = JSON.stringify([
        matchMedia('(prefers-color-scheme: dark)').matches,
        ['body', 'figure', '.verdict', 'pre'].map(s => bright(colour(one(s), 'background-color'))),
        ['body', '.verdict', 'code', 'a', '.note', 'th'].map(s => bright(colour(one(s), 'color'))),
        [...document.querySelectorAll('figure svg text')].map(t => bright(colour(t, 'fill'))),
      ]);
    })</script></body>"""
    path = tmp_path / "measured.html"
    path.write_text(re.sub(r"<meta http-equiv[^>]*>", "", report.page(campaign())).replace("</body>", script))
    option = f"--blink-settings=preferredColorScheme={scheme}"
    dom = chromium(path, option, "--dump-dom", "--virtual-time-budget=5000")
    found, (body, figure, *panels), words, labels = json.loads(
        html.unescape(re.search(r"<title>(.*?)</title>", dom)[1])
    )
    assert found == dark, "the browser does what it is asked"
    assert figure > 254 and max(labels) < 140
    if dark:
        assert max(body, *panels) < 60 and min(words) > 150
    else:
        assert min(body, *panels) > 220 and max(words) < 110


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_the_page(chromium, tmp_path: Path, width):
    """Measured by a script in a copy of the page: no horizontal scrolling of the page, no picture or box outside."""
    script = """<script>addEventListener('load', () => {
      for (const closed of document.querySelectorAll('details')) closed.open = true;
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
    source = re.sub(r"<meta http-equiv[^>]*>", "", report.page(campaign() + hostile("w" * 200)))
    path = tmp_path / "measured.html"
    # in a frame, as a browser's own window does not get as narrow as a phone
    inside = html.escape(source.replace("</body>", script))
    path.write_text(
        f'<!DOCTYPE html><title></title><iframe style="border:0;width:{width}px" srcdoc="{inside}"></iframe>'
    )
    dom = chromium(path, "--window-size=1400,900", "--dump-dom", "--virtual-time-budget=5000")
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
