"""The report: everything the records say, as one HTML file that a person opens and reads.

It is self-contained: pictures are inline SVG, there is no script, and nothing is fetched (a content security policy in
the page forbids both). Like tables and pictures it holds nothing but what the records hold, so that the same records
give the same bytes. Whatever comes out of a record is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from matplotlib.figure import Figure

from search.errors import UserError
from search.files import write_atomically
from search.records.commands import command
from search.records.jsonl import read_all
from search.records.models import Confirmation, Record, Trial, counted, label, numbered
from search.report import plots, tables, typeset
from search.report.efficiency import parameter_efficiency, smallest
from search.text import html, line

NAME = "report.html"
SHOWN = 20  # trials a study's table holds; trials.csv holds all
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)

CSS = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",
sans-serif;color:#1b1b1b;background:#fff;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;line-height:1.3;margin:2.5rem 0 .5rem;padding-top:.6rem;border-top:2px solid #1b1b1b}
h3{font-size:1rem;margin:1.5rem 0 .4rem}
p{margin:.5rem 0}
a{color:#00527f}
.verdict{padding:.6rem .8rem;border-left:.35rem solid #8c8c8c;background:#f4f4f4}
.verdict.yes{border-color:#0072b2;background:#eaf4fa}
.verdict.no{border-color:#d55e00;background:#fdf1e9}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;margin:.8rem 0}
dt{font-weight:600}
dd{margin:0}
pre{white-space:pre-wrap;padding:.6rem .8rem;background:#f4f4f4;margin:.5rem 0;font-size:.8rem;line-height:1.4}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem;margin:1rem 0}
figure{margin:0;max-width:40rem;break-inside:avoid}
figure svg{display:block;width:100%;height:auto}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
.scroll{overflow-x:auto;margin:.6rem 0;background:linear-gradient(90deg,#fff 40%,#fff0) 0/2rem 100% no-repeat local,
linear-gradient(270deg,#fff 40%,#fff0) 100%/2rem 100% no-repeat local,linear-gradient(90deg,#0003,#0000) 0/.6rem 100%
no-repeat,linear-gradient(270deg,#0003,#0000) 100%/.6rem 100% no-repeat}
table{border-collapse:collapse;font-size:.8rem;line-height:1.35;min-width:100%}
th,td{padding:.25rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid #ddd;overflow-wrap:normal}
td:not(.number){min-width:5.5rem;max-width:20rem;overflow-wrap:break-word}
th.number{white-space:normal}
th{border-bottom:1.5px solid #1b1b1b;vertical-align:bottom}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.note{font-size:.82rem;color:#444}
@media (max-width:34rem){body{padding:.7rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}}
@media print{body{max-width:none;padding:0;font-size:10pt}.scroll{overflow:visible}table{font-size:6.5pt}
th,td{padding:.1rem .25rem}td:not(.number){min-width:0}.number{white-space:normal}
.pictures{grid-template-columns:1fr 1fr}
h2,h3{break-after:avoid}tr,.verdict,pre{break-inside:avoid}a{color:inherit;text-decoration:none}}
""".strip()
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


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
    studies: dict[str, list[Trial | Confirmation]] = {}
    records = numbered(records)
    for record in records:
        if isinstance(record, (Trial, Confirmation)):
            studies.setdefault(record.study, []).append(record)
    parts = [_head(studies)]
    if studies:
        caption = tables.TABLES["parameter-efficiency"][1]
        columns = (
            "Row", "Verdict", "Model", "Parameters", "Ratio", "Maps", "Epochs", "Accuracy", "95 % low", "95 % high",
            "Seeds", "Confidence", "Adjusted confidence", "Attempt", "FLOPs", "Activation bytes",
        )  # fmt: skip
        parts += [_section("Parameters at a target accuracy", "efficiency")]
        frame = parameter_efficiency(records)
        here = {label(run.dataset) for runs in studies.values() for run in runs}
        parts += [_table(frame[frame["Data set"].isin(here)], columns), _note(caption)]
    parts += [_study(number, runs) for number, runs in enumerate(studies.values(), 1)]
    for title, name, columns in (
        ("Audit of parameter counts", "audit", ("Row", "Published", "Closed form", "Counted", "fvcore", "Agree",
         "Up-sampling", "FLOPs", "MACs by torch", "Activation bytes", "Note")),
        ("Reproductions", "reproductions", None),
        ("Measurements", "measurements", None),
    ):  # fmt: skip
        make, caption = tables.TABLES[name]
        frame = make(records)
        if len(frame):
            parts += [_section(title, name), _table(frame, columns), _note(caption)]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>WaveMix search: report</title>\n<style>\n{CSS}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def text(value: object, most: int = 400) -> str:
    """`value` as escaped text for an element or a quoted attribute: one line, printable, cut to `most` characters."""
    return html(line(value, most)).replace(" %", "&nbsp;%")


def code(value: str) -> str:
    """A command as an element that can be copied from: blanks and line ends stay as they are."""
    return f"<pre>{html(value, kept=chr(10))}</pre>"


# ------------------------------------------------------------------------------------------------------ studies


def _head(studies: Mapping[str, Sequence[Trial | Confirmation]]) -> str:
    intro = (
        "<h1>The fewest parameters that reach an accuracy</h1>\n"
        "<p>Searches and confirmations of WaveMix networks. A search sees training images only and judges a network on "
        "validation images split off them; a confirmation trains a chosen network anew on all training images, with "
        "fresh seeds, and tests it once, at the last epoch. A target is reached where the mean of a confirmation on "
        "the test set reaches it, and confirmed where the lower one-sided 95 % bound of that mean does, adjusted for "
        "attempts and looks.</p>"
    )
    if not studies:
        return f"{intro}\n<p>The records hold no study yet.</p>"
    items = [
        f'<li><a href="#study-{number}">{text(name)}</a>: {text(verdict(runs)[1])}</li>'
        for number, (name, runs) in enumerate(studies.items(), 1)
    ]
    return f"{intro}\n<ul>\n" + "\n".join(items) + "\n</ul>"


def verdict(runs: Sequence[Trial | Confirmation]) -> tuple[str, str]:
    """('yes' | 'no' | 'open', one sentence): what the runs of one study come to."""
    confirmations = [r for r in runs if isinstance(r, Confirmation)]
    best = _tested(confirmations)
    if best is not None:
        low, high = map(_percent, best.clipped or (0, 0))
        interval = f", 95 % interval {low} to {high}" if best.clipped else ""
        said = (
            f"{best.parameters:,} parameters, {_percent(best.mean)} on the test set (mean of {counted(best.n)}"
            f"{interval}){'' if best.target is None else f', target {_target(best)}'}."
        )
        tried = f" The test set was used for {len(confirmations)} attempts." if len(confirmations) > 1 else ""
        rows = [row for row in plots.published(runs) if row.target == best.target]
        published = f" Upstream publishes {rows[0].parameters:,}." if rows else ""
        states = {"confirmed": "yes", "reached": "open", "missed": "no", "tested": "open"}
        word = "Reached, not confirmed" if best.verdict == "reached" else best.verdict.capitalize()
        return states[best.verdict], f"{word}: {said}{published if best.reached else ''}{tried}"
    trials = [r for r in runs if isinstance(r, Trial)]
    reached = [r for r in trials if r.feasible]
    if reached:
        small = min(reached, key=lambda r: r.parameters)
        return "open", (
            f"Not tested yet: {small.parameters:,} parameters reach {_percent(small.accuracy_validation)} on "
            f"validation images, target {_target(small)}."
        )
    complete = [r for r in trials if r.state == "complete" and r.accuracy_validation is not None]
    if complete:
        near = max(complete, key=lambda r: r.accuracy_validation)
        return "open", (
            f"Not reached: the nearest trial has {_percent(near.accuracy_validation)} on validation images with "
            f"{near.parameters:,} parameters, target {_target(near)}."
        )
    return "open", "Nothing to judge: no trial was completed."


def _tested(confirmations: Sequence[Confirmation]) -> Confirmation | None:
    tested = [r for r in confirmations if r.mean is not None]
    return smallest(tested) if tested else None


def _study(number: int, runs: list[Trial | Confirmation]) -> str:
    first = runs[0]
    trials = [r for r in runs if isinstance(r, Trial)]
    confirmations = [r for r in runs if isinstance(r, Confirmation)]
    asked = f"How accurate is the network in {label(first.dataset)}?"
    if first.target is not None:
        goal = f"{_target(first)} in {label(first.dataset)}"
        asked = f"The smallest network of the {first.family} family that reaches {goal}."
        if not trials:
            asked = f"Does the network reach {goal}?"
    state, sentence = verdict(runs)
    drawn = (
        ("Parameters against accuracy", plots.frontier(runs)),
        ("Fewest parameters so far against training time", plots.anytime(runs)),
        ("Learning curves of the trials", plots.curves(runs)),
        ("Importance of the knobs", plots.importance(runs)),
    )
    pictures = [_picture(figure, f"s{number}-{kind}", title) for kind, (title, figure) in enumerate(drawn) if figure]
    return "\n".join(
        [
            _section(f"Study {line(first.study, 200)}", f"study-{number}"),
            f"<p>{text(asked)}</p>",
            f'<p class="verdict {state}">{text(sentence)}</p>',
            _facts(runs),
            f'<div class="pictures">{"".join(pictures)}</div>' if pictures else "",
            _confirmations(confirmations),
            _trials(trials),
            _reproduce(runs, confirmations),
        ]
    )


def _facts(runs: Sequence[Trial | Confirmation]) -> str:
    """What the runs were made with, each difference between them shown."""

    def all_of(values: Iterable[str | None]) -> str:
        return "; ".join(dict.fromkeys(value for value in values if value))

    trials = [r for r in runs if isinstance(r, Trial)]
    states = {state: sum(r.state == state for r in trials) for state in ("complete", "pruned", "refused", "failed")}
    seconds = sum(r.device_seconds for r in runs)
    times = [r.created for r in runs]
    facts = {
        "Data": all_of(f"{label(r.dataset)}, {r.dataset.variant}" for r in runs),
        "Images": all_of(
            f"{r.dataset.train_count:,} for training"
            + (f", {r.dataset.validation_count:,} for validation (split seed {r.dataset.split_seed})"
               if r.dataset.validation_count else "")
            + (f", {r.dataset.test_count:,} for testing" if r.dataset.test_count else "")
            for r in runs
        ),
        "Digest (training)": all_of(r.dataset.digest for r in runs),
        "Digest (test)": all_of(r.dataset.test_digest for r in runs),
        "Trials": ", ".join([f"{len(trials):,} in all", *(f"{n:,} {state}" for state, n in states.items() if n)]),
        "Training time": f"{seconds:,.0f} s on the device, all runs" if seconds < 7200 else f"{seconds / 3600:,.1f} h",
        "Recorded": f"{min(times):%Y-%m-%d %H:%M} to {max(times):%Y-%m-%d %H:%M} UTC",
        "Machine": all_of(f"{r.environment.device}, {counted(r.environment.cores, 'core')}" for r in runs),
        "Software": all_of(
            f"Python {r.environment.python}, torch {r.environment.torch}, optuna {r.environment.optuna}" for r in runs
        ),
        "Commit": all_of(
            r.environment.git_commit and r.environment.git_commit + (" with changes" if r.environment.dirty else "")
            for r in runs
        ),
    }  # fmt: skip
    return "<dl>" + "".join(f"<dt>{text(k)}</dt><dd>{text(v, 2000)}</dd>" for k, v in facts.items() if v) + "</dl>"


def _confirmations(confirmations: Sequence[Confirmation]) -> str:
    if not confirmations:
        return ""
    rows = [
        {
            "Configuration": r.config.name,
            "Family": r.family,
            "Parameters": r.parameters,
            "Accuracy": r.mean,
            "95 % low": r.clipped and r.clipped[0],
            "95 % high": r.clipped and r.clipped[1],
            "Min": r.min,
            "Max": r.max,
            "Seeds": r.n,
            "Verdict": r.verdict,
            "Confidence": r.target and r.judgement.confidence,
            "Adjusted confidence": r.target and r.judgement.adjusted,
            "Attempt": r.attempt,
            "FLOPs": r.cost and r.cost.flops_stated,
            "Reason": r.reason,
        }
        for r in confirmations
    ]
    frame = pd.DataFrame(rows, dtype=object)
    return f"<h3>Confirmations on the test set, in the order they were made</h3>\n{_table(frame)}"


def _trials(trials: Sequence[Trial]) -> str:
    """The feasible trials from the smallest on, then those that came nearest."""
    finished = [r for r in trials if r.state == "complete" and r.accuracy_validation is not None]
    if not finished:
        return ""
    finished.sort(key=lambda r: (not r.feasible, r.parameters if r.feasible else -r.accuracy_validation))
    shown = finished[:SHOWN]
    frame = pd.concat([tables.study([r]) for r in shown], ignore_index=True)
    frame["Verdict"] = ["reaches the target" if r.feasible else "misses it" for r in shown]
    columns = ("Trial", "Configuration", "Parameters", "Validation", "Verdict", "Seeds", "Epochs", "Seconds")
    left = len(trials) - len(shown)
    note = f"{left:,} other trials, pruned and refused ones included, are in trials.csv." if left else ""
    return (
        "<h3>Trials: those that reach the target, fewest parameters first, then the nearest</h3>\n"
        f"{_table(frame, columns)}{_note(note) if note else ''}"
    )


def _reproduce(runs: Sequence[Trial | Confirmation], confirmations: Sequence[Confirmation]) -> str:
    commands = list(dict.fromkeys(r.environment.command for r in runs))
    parts = ["<h3>How to reproduce it</h3>"]
    if tested := _tested(confirmations):
        parts += ["<p>Train and test this network again:</p>", code(command(tested))]
    parts += ["<p>The records were made with:</p>", *map(code, commands[:5])]
    if len(commands) > 5:
        parts.append(_note(f"and {len(commands) - 5} more commands"))
    return "\n".join(parts)


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _target(run: Trial | Confirmation) -> str:
    return f"{100 * run.target:g} %"


# --------------------------------------------------------------------------------------------------------- HTML


def _section(title: str, identity: str) -> str:
    return f'<h2 id="{identity}">{text(title)}</h2>'


def _note(said: str) -> str:
    return f'<p class="note">{text(said, 2000)}</p>'


def _table(frame: pd.DataFrame, columns: Sequence[str] | None = None) -> str:
    """A frame of `tables`, formatted as in Markdown; columns without a value anywhere are left out."""
    frame = frame[[c for c in columns or frame.columns if any(v is not None and v != "" for v in frame[c])]]
    kinds = [' class="number"' if numeric else "" for numeric in typeset._numeric(frame)]
    head = "".join(f'<th scope="col"{kind}>{text(column)}</th>' for kind, column in zip(kinds, frame.columns))
    rows = [
        "<tr>" + "".join(f"<td{kind}>{text(cell)}</td>" for kind, cell in zip(kinds, row)) + "</tr>"
        for row in typeset._formatted(frame).itertuples(index=False, name=None)
    ]
    body = "\n".join(rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _picture(figure: Figure, name: str, title: str) -> str:
    return f"<figure>{inline(figure, name, title)}</figure>"


def inline(figure: Figure, name: str, title: str) -> str:
    """A figure as an <svg> element for a page: ids begin with `name`, as they must be unique in the whole page."""
    root = ElementTree.fromstring(plots.rendered(figure, name, "svg"))
    for parent in list(root.iter()):
        for child in list(parent):
            # matplotlib's style rule would apply to the whole page; CSS above has it
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", line(title, 60))
    return ElementTree.tostring(root, encoding="unicode")
