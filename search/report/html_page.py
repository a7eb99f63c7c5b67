"""The report: everything the records say, as one HTML file that a person opens and reads.

It is self-contained: pictures are inline SVG, there is no script, and nothing is fetched (a content security policy in
the page forbids both). Like tables and pictures it holds nothing but what the records hold, so that the same records
give the same bytes. Whatever comes out of a record is made printable and escaped: the template does the one by
`finalize` and the other by autoescape, for every value it is given.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from search.errors import UserError, printable
from search.files import write_atomically
from search.records.commands import command
from search.records.jsonl import Record, read_all
from search.records.models import Confirmation, Trial, at_each_target, counted, label, numbered
from search.report import plots, study_summary, tables, typeset
from search.report.efficiency import parameter_efficiency
from search.report.inline_svg import inline
from search.report.study_summary import Run
from search.text import html, line

NAME, TEMPLATE = "report.html", "page.html.jinja"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
EFFICIENCY = (
    "Row", "Verdict", "Model", "Parameters", "Ratio", "Maps", "Epochs", "Accuracy", "95 % low", "95 % high", "Seeds",
    "Confidence", "Adjusted confidence", "Attempt", *typeset.WORK, "Activation bytes", "Origin",
)  # fmt: skip
AUDIT = (
    "Row", "Published", "Closed form", "Counted", "fvcore", "Agree", "Up-sampling", *typeset.WORK, "MACs by torch",
    "Activation bytes", "Note",
)  # fmt: skip
LATER = (  # title, name in `tables.TABLES`, columns (None: all): what follows the studies
    ("Segmentation", "segmentation", None),
    ("Super-resolution", "super-resolution", None),
    ("Audit of parameter counts", "audit", AUDIT),
    ("Reproductions", "reproductions", None),
    ("Measurements", "measurements", None),
)


def write(results_dir: Path | str) -> Path:
    """Write `results_dir`/report.html from the records there; returns the file.

    Replaced whole or not at all. Raises UserError where a record is bad or the file cannot be written.
    """
    folder = Path(results_dir)
    content = page(read_all(folder))
    try:
        return write_atomically(folder / NAME, content.encode())
    except OSError as error:
        raise UserError(f"cannot write the report to {folder}: {error.strerror or error}") from error


def page(records: Sequence[Record]) -> str:
    """The whole report on `records`, as HTML."""
    records = numbered(records)
    runs = [record for record in records if isinstance(record, (Trial, Confirmation))]
    thresholds = list(_thresholds(runs))
    return ENVIRONMENT.get_template(TEMPLATE).render(
        policy=POLICY,
        thresholds=thresholds,
        frontiers=_frontiers(runs, thresholds),
        efficiency=_efficiency(records, runs) if runs else None,
        later=list(_later(records)),
    )


# ------------------------------------------------------------------------------------------------------ template


def printed(value: object) -> object:
    """What the template prints for `value`: printable text, which autoescape then escapes; markup stays as it is."""
    return value if isinstance(value, Markup) else printable(value).replace(" %", "\u00a0%")


def code(value: str) -> Markup:
    """A command, escaped, that can be copied from the page: blanks and line ends stay as they are."""
    return Markup(html(value, kept="\n"))


def cut(value: object, most: int = 400) -> str:
    """`value` in one line of at most `most` characters."""
    return line(value, most)


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=printed,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters |= {"code": code, "cut": cut}
ENVIRONMENT.globals["counted"] = counted


# ---------------------------------------------------------------------------------------------------- page parts


@dataclass(frozen=True)
class Table:
    """A table as it is shown; `numeric` says which columns are aligned as numbers."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: Sequence[str] | None = None) -> "Table":
        """A frame, its values formatted as in Markdown; columns without a value anywhere are left out."""
        frame = frame.loc[:, [c for c in columns or frame.columns if any(v is not None and v != "" for v in frame[c])]]
        frame = typeset.marked(frame)
        rows = typeset._formatted(frame).itertuples(index=False, name=None)
        return cls(tuple(frame.columns), tuple(typeset._numeric(frame)), tuple(rows))


@dataclass(frozen=True)
class Study:
    """The runs of one study at one threshold, as a section of the page."""

    number: int
    name: str
    runs: list[Run]

    @property
    def state(self) -> str:
        return study_summary.verdict(self.runs)[0]

    @property
    def verdict(self) -> str:
        return study_summary.verdict(self.runs)[1]

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        return self.verdict.partition(":")[0]

    @property
    def question(self) -> str:
        return study_summary.question(self.runs)

    @property
    def facts(self) -> dict[str, str]:
        return study_summary.facts(self.runs)

    @property
    def pictures(self) -> list[Markup]:
        drawn = (
            ("Parameters against accuracy", plots.frontier(self.runs)),
            ("Fewest parameters so far against training time", plots.anytime(self.runs)),
            ("Learning curves of the trials", plots.curves(self.runs)),
            ("Importance of the hyperparameters", plots.importance(self.runs)),
        )
        return [
            _picture(figure, f"s{self.number}-{kind}", title) for kind, (title, figure) in enumerate(drawn) if figure
        ]

    @cached_property
    def confirmations(self) -> Table | None:
        frame = study_summary.confirmation_table(self.runs)
        return Table.of(frame) if len(frame) else None

    @cached_property
    def trials(self) -> tuple[Table, str] | None:
        found = study_summary.trial_table(self.runs)
        return found and (Table.of(found[0]), found[1])

    @property
    def retrain(self) -> str | None:
        """The command that trains and tests the study's network again."""
        best = study_summary.tested(self.runs)
        return best and command(best)

    @cached_property
    def recorded(self) -> tuple[list[str], int]:
        return study_summary.recorded_commands(self.runs)


@dataclass(frozen=True)
class Threshold:
    """The studies of one data set that ask for one score."""

    number: int
    dataset: str
    target: float | None
    studies: list[Study]

    @property
    def title(self) -> str:
        score = self.studies[0].runs[0].score
        return f"{self.dataset}, " + ("no target" if self.target is None else score.goal(self.target))


def _thresholds(runs: Sequence[Run]) -> Iterator[Threshold]:
    """All studies by data set and threshold: first what was tested, then by name. A study that trained for several
    thresholds, or on several data sets, has a section at each."""
    groups: dict[tuple[str, float], dict[str, list[Run]]] = {}
    for run in at_each_target(runs):
        key = label(run.dataset), math.inf if run.target is None else round(run.target, 9)
        groups.setdefault(key, {}).setdefault(run.study, []).append(run)
    count = 0
    for number, ((dataset, _), studies) in enumerate(sorted(groups.items(), key=lambda group: group[0]), 1):
        ordered = sorted(studies.items(), key=lambda study: (not study_summary.confirmations_of(study[1]), study[0]))
        sections = [Study(count + place, name, mine) for place, (name, mine) in enumerate(ordered, 1)]
        count += len(sections)
        yield Threshold(number, dataset, sections[0].runs[0].target, sections)


def _frontiers(runs: Sequence[Run], thresholds: Sequence[Threshold]) -> list[Markup]:
    """The frontier of every data set, in the order of their studies."""
    names = list(dict.fromkeys(threshold.dataset for threshold in thresholds))
    drawn = [(name, plots.frontier(run for run in runs if label(run.dataset) == name)) for name in names]
    return [
        _picture(figure, f"d{number}", f"Parameters against accuracy: {name}")
        for number, (name, figure) in enumerate(drawn, 1)
        if figure
    ]


def _efficiency(records: Sequence[Record], runs: Sequence[Run]) -> tuple[Table, str]:
    frame = parameter_efficiency(records)
    here = [label(run.dataset) for run in runs]
    return Table.of(frame.loc[frame["Data set"].isin(here)], EFFICIENCY), tables.TABLES["parameter-efficiency"][1]


def _later(records: Sequence[Record]) -> Iterator[tuple[str, str, Table, str]]:
    """(title, id, table, caption) of what the records hold besides studies."""
    for title, name, columns in LATER:
        make, caption = tables.TABLES[name]
        frame = make(records)
        if len(frame):
            yield title, name, Table.of(frame, columns), caption


def _picture(figure: Figure, name: str, title: str) -> Markup:
    return inline(figure, name, title)
