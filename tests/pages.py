"""Reports read as a browser reads them, and records whose every string tries to become markup."""

import re
from html.parser import HTMLParser

import pytest
from campaigns import DATA, ENVIRONMENT, confirmation, trial

from search.report import html_page as report
from search.report import plots

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
        self.commands: list[str] = []  # those that a reader is told to run
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre" and ("class", "run") in attributes:
            self.commands.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open[-2:] == ["pre", "code"] and self.elements[-2] == ("pre", {"class": "run"}):
            self.commands[-1] += data

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
            # a picture's description may hold a data set's name, which is fetched by nobody
            assert "http" not in (value or "") or name.startswith("xmlns") or (tag, name) == ("svg", "aria-label")


def hostile(said: str) -> list:
    """Runs whose every free string is `said`."""
    environment = ENVIRONMENT.model_copy(
        update=dict.fromkeys(("python", "torch", "optuna", "device", "git_commit", "command"), said)
    )
    data = {"name": said, "label": said, "digest": said}
    common = {"study": said, "environment": environment, "reason": said or "-", "recipe": {said: said, "lr": 0.1}}
    return [
        *(trial(n, 0.98 + n / 200, dataset=DATA.model_copy(update=data), **common) for n in range(4)),
        trial(4, 0.5, "pruned", 2, dataset=DATA.model_copy(update=data | {"variant": said}), **common),
        confirmation([0.99, 0.995], dataset=DATA.model_copy(update=data | {"test_digest": said}), **common),
    ]


def undrawn(patch: pytest.MonkeyPatch) -> None:
    """Leave pictures out of pages: they take their time."""
    patch.setattr(report, "_picture", lambda *_: "")
    for name in plots.KINDS:
        patch.setattr(plots, name, lambda _: None)
