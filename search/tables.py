"""Tables: pure functions of the records, as Markdown, CSV and LaTeX.

Nothing else goes in: no date, no measurement, no machine that a record does not hold, so that the same records give the
same bytes everywhere and `check` can compare committed tables with them. CSV holds the plain values (fractions, bytes,
FLOPs); Markdown and LaTeX the same, formatted for reading.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import UserError
from .records import Audit, Benchmark, Confirmation, Data, Record, Reproduction, Trial, read_all, repair
from .stopping import confidence
from .typeset import latex, markdown
from .upstream import BENCHMARKS, PUBLISHED, SAVED, Published, classifier_config
from .whole import write_whole

NOT_RUN = "not run here"
FAMILIES = ("published", "extended")


# ---------------------------------------------------------------------------------------- parameter efficiency


def parameter_efficiency(records: Iterable[Record]) -> pd.DataFrame:
    """Fewest parameters at each accuracy: for every threshold the published network as reproduced here, and the
    smallest confirmed network of each family.

    Where nothing was confirmed the attempt nearest to the target stands there, "Confirmed" no. "Attempts" is the number
    of confirmations the row was chosen from; "Confidence" is adjusted for them (see `search.stopping`). Thresholds
    upstream does not publish follow the published ones.
    """
    return _frame([row for row, _ in _efficiency(records)], EFFICIENCY)


def winners(records: Iterable[Record]) -> dict[str, Confirmation]:
    """The confirmation behind every row of `parameter_efficiency` that has one, by the row's name."""
    return {row["Row"]: run for row, run in _efficiency(records) if run is not None}


Row = tuple[dict[str, Any], Confirmation | None]


def _efficiency(records: Iterable[Record]) -> list[Row]:
    runs = [r for r in records if isinstance(r, Confirmation)]
    groups: dict[tuple[str, float], list[Confirmation]] = {}
    for run in runs:
        groups.setdefault((label(run.dataset), round(run.target, 9)), []).append(run)
    rows = []
    for row in PUBLISHED:
        variants = [key for key in sorted(groups) if key[1] == row.target and base_label(key[0]) == row.label]
        for key in variants or [(row.label, row.target)]:
            rows += _threshold(key, groups.pop(key, []), row)
    for key in sorted(groups):
        rows += _threshold(key, groups[key], None)
    return rows


EFFICIENCY = (
    "Row", "Task", "Model", "Family", "Parameters", "Published parameters", "Ratio", "Accuracy", "95 % low",
    "95 % high", "Min", "Max", "Seeds", "Confirmed", "Confidence", "Attempts", "FLOPs", "Activation bytes", "GPU bytes",
    "Data set", "Study",
)  # fmt: skip


def deciding(runs: Iterable[Confirmation]) -> list[Confirmation]:
    """For each network, recipe and images the run that decides: the one planned for most seeds, the latest of several.

    So a test with more seeds replaces one with fewer, whichever way it ends; the same seeds again replace nothing.
    """
    chosen: dict[tuple, Confirmation] = {}
    trained: set[tuple] = set()
    for run in sorted(runs, key=lambda run: run.created):
        if run.training not in trained and run.state == "complete":
            trained.add(run.training)
            before = chosen.get(run.network)
            if before is None or _planned(run) >= _planned(before):
                chosen[run.network] = run
    return list(chosen.values())


def _planned(run: Confirmation) -> int:
    return max(run.looks, default=run.n)


def _threshold(key: tuple[str, float], runs: list[Confirmation], row: Published | None) -> list[Row]:
    name, target = key
    stem = f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{100 * target:g}"
    common = {"Task": f"{100 * target:g} % in {name}", "Data set": name}
    rows: list[Row] = []
    if row is not None:
        common["Published parameters"] = row.parameters
        again = [run for run in runs if row.is_of(run.config)]
        runs = [run for run in runs if not row.is_of(run.config)]
        stated = {
            "Row": f"{stem}-upstream", **common,
            "Model": f"{row.model} (upstream's)", "Family": "published", "Parameters": row.parameters,
        }  # fmt: skip
        # of the best configuration (strides and interpolation are not published) the latest run: recipes improve, and
        # a reproduction is a statement about the network, not about the first recipe
        best = max(again, key=lambda run: run.mean or 0, default=None)
        last = max((run for run in again if run.config == best.config), key=lambda run: run.created, default=None)
        result = _result(last, again, row) if last else {"Accuracy": NOT_RUN, "Ratio": 1.0}
        if last:  # the count says nothing about strides, nor which interpolation it was
            stated["Model"] += f": {last.config.name}"
        rows.append(({**stated, **result}, last))
    for family in FAMILIES:
        cells = {"Row": f"{stem}-{family}", **common, "Family": family}
        tried = [run for run in runs if run.family == family]
        if not tried:
            if row is not None:
                rows.append(({**cells, "Model": NOT_RUN}, None))
            continue
        best = smallest(tried)
        rows.append(({**cells, "Model": best.config.name, **_result(best, tried, row)}, best))
    return rows


def smallest(tried: Sequence[Confirmation]) -> Confirmation:
    """The smallest network that is confirmed by the run that decides; where there is none, the one with the best mean.

    `tried` is not empty; trainings that broke count only where there is nothing else.
    """
    runs = deciding(tried) or tried
    confirmed = [run for run in runs if run.confirmed]
    if confirmed:
        return min(confirmed, key=lambda run: (run.parameters, run.created))
    return max(runs, key=lambda run: (run.mean or 0, -run.parameters))


def _result(run: Confirmation, tried: list[Confirmation], row: Published | None) -> dict[str, Any]:
    low, high = run.interval or (None, None)
    # the how manieth attempt it was: what came after it was no chance for this one to pass by luck
    attempt = max(run.attempt or 1, len({other.training for other in tried if other.created <= run.created}))
    sure = confidence(run.accuracies, run.target, run.looks, attempt)
    return {
        "Parameters": run.parameters,
        "Ratio": run.parameters / row.parameters if row else None,
        "Accuracy": run.mean,
        "95 % low": low,
        "95 % high": high,
        "Min": run.min,
        "Max": run.max,
        "Seeds": run.n,
        "Confirmed": "yes" if run.confirmed else "no",
        "Confidence": None if sure is None else math.floor(1e4 * sure) / 1e4,  # never rounded up to 1
        "Attempts": len({other.training for other in tried}),
        "FLOPs": run.cost and run.cost.flops_total,
        "Activation bytes": run.cost and run.cost.activation_bytes_per_image,
        "GPU bytes": run.cost and run.cost.peak_gpu_bytes,
        "Study": run.study,
    }


def label(dataset: Data) -> str:
    """What a data set is called in a table: a copy or a user's folder never passes for the official data set."""
    if dataset.variant == "folder":
        return f"{dataset.label} (folder)"
    if dataset.variant == "jpeg" and "JPEG" not in dataset.label:
        return f"{dataset.label} (JPEG copy)"
    return dataset.label


def base_label(name: str) -> str | None:
    """The official data set a label is a variant of; None for a folder."""
    return None if name.endswith("(folder)") else name.removesuffix(" (JPEG copy)")


# -------------------------------------------------------------------------------------------------- benchmarks


def benchmark(records: Iterable[Record]) -> pd.DataFrame:
    """Upstream's published benchmark values, the audited cost of the configurations behind them, and what ran here."""
    records = list(records)
    audits = _latest((r for r in records if isinstance(r, Audit)), lambda r: r.row)
    rows = []
    for stated in BENCHMARKS:
        saved = next((saved for saved in SAVED if saved.row == stated.audit), None)
        found = audits.get(stated.audit)
        cells: dict[str, Any] = {
            "Task": stated.task,
            "Data set": stated.label,
            "Metric": stated.metric,
            "Published": stated.value,
            "Configuration": saved.name if saved else "configuration not published",
            "Source": saved.source if saved else "",
            "Here": NOT_RUN,
        }
        if saved:
            cells["Parameters"] = found.counted if found else "not audited here"
            cells["FLOPs"] = found and found.cost and found.cost.flops_total
            cells["Input"] = "x".join(map(str, found.cost.input_shape)) if found and found.cost else None
        config = classifier_config(saved) if saved else None
        runs = [
            r
            for r in records
            if isinstance(r, Confirmation)
            and label(r.dataset) == stated.label
            and stated.metric == "accuracy"
            and r.mean is not None
            and (config is None or r.config.model_copy(update={"dropout": config.dropout}) == config)
        ]
        if runs:
            best = max(runs, key=lambda r: r.created) if config else max(runs, key=lambda r: r.mean)
            cells["Here"] = f"{100 * best.mean:.2f} % ({best.config.name}, {best.parameters:,} parameters)"
        rows.append(cells)
    return _frame(rows, BENCHMARK)


BENCHMARK = (
    "Task", "Data set", "Metric", "Published", "Here", "Configuration", "Parameters", "FLOPs", "Input", "Source",
)  # fmt: skip


# ------------------------------------------------------------------------------------ trials, audits, measurements


def study(records: Iterable[Record], name: str | None = None) -> pd.DataFrame:
    """The trials of a study (of every study without `name`), fewest parameters first; accuracy is on validation."""
    trials = [r for r in records if isinstance(r, Trial) and name in (None, r.study)]
    trials.sort(key=lambda r: (r.study, r.parameters, math.inf if r.number is None else r.number, r.created))
    rows = [
        {
            "Study": r.study,
            "Data set": label(r.dataset),
            "Target": r.target,
            "Family": r.family,
            "Trial": r.number,
            "Configuration": r.config.name,
            "Parameters": r.parameters,
            "State": r.state,
            "Validation": r.accuracy_validation,
            "Seeds": len(r.seeds),
            "Epochs": max((len(curve) for curve in r.curves), default=0),
            "Seconds": round(r.device_seconds, 1),
            "Reason": r.reason,
        }
        for r in trials
    ]
    return _frame(rows, STUDY)


STUDY = (
    "Study", "Data set", "Target", "Family", "Trial", "Configuration", "Parameters", "State", "Validation", "Seeds",
    "Epochs", "Seconds", "Reason",
)  # fmt: skip


def audit(records: Iterable[Record]) -> pd.DataFrame:
    """The latest audit of every row: published, closed-form, counted and fvcore's parameters, and the cost."""
    rows = [
        {
            "Row": r.row,
            "Published": f"{r.published_millions} M" if r.published_millions is not None else r.published,
            "Closed form": r.closed_form,
            "Counted": r.counted,
            "fvcore": r.fvcore,
            "Agree": "yes" if r.agree else "NO",
            "Up-sampling": ", ".join(r.upsampling),
            "Input": "x".join(map(str, r.cost.input_shape)) if r.cost else None,
            "FLOPs": r.cost and r.cost.flops_total,
            "Uncounted operators": ", ".join(r.cost.unsupported) if r.cost else None,
            "Activation bytes": r.cost and r.cost.activation_bytes_per_image,
            "GPU bytes": r.cost and r.cost.peak_gpu_bytes,
            "Source": r.source,
            "Note": r.note,
        }
        for r in _latest((r for r in records if isinstance(r, Audit)), lambda r: (r.row, r.source)).values()
    ]
    for row in rows:
        if row["Published"] is None:
            row["Published"] = "not published"
    return _frame(rows, AUDIT)


AUDIT = (
    "Row", "Published", "Closed form", "Counted", "fvcore", "Agree", "Up-sampling", "Input", "FLOPs",
    "Uncounted operators", "Activation bytes", "GPU bytes", "Source", "Note",
)  # fmt: skip


def measurements(records: Iterable[Record]) -> pd.DataFrame:
    """The latest of every measurement on every machine, a line a peer; the ratio is ours / peer's."""
    found = _latest((r for r in records if isinstance(r, Benchmark)), lambda r: (r.name, r.unit, r.machine))
    rows = [
        {
            "Measurement": r.name,
            "Unit": r.unit,
            "Better": r.better,
            "Ours": r.ours,
            "Peer": peer,
            "Peer's": value,
            "Ratio": r.ratios.get(peer) if peer else None,
            "Repetitions": r.repetitions,
            "Machine": r.machine,
        }
        for _, r in sorted(found.items())
        for peer, value in (r.peers or {"": None}).items()
    ]
    return _frame(rows, MEASUREMENTS)


MEASUREMENTS = ("Measurement", "Unit", "Better", "Ours", "Peer", "Peer's", "Ratio", "Repetitions", "Machine")


def reproductions(records: Iterable[Record]) -> pd.DataFrame:
    """Confirmations that were run again, beside what was recorded first."""
    rows = [
        {
            "Row": r.row,
            "Configuration": r.config.name,
            "Parameters": r.parameters,
            "Target": r.target,
            "Recorded accuracy": math.fsum(r.recorded) / len(r.recorded) if r.recorded else None,
            "Accuracy": r.mean,
            "Seeds": r.n,
            "Reached again": "yes" if r.confirmed else "no",
            "Device": r.environment.device,
            "torch": r.environment.torch,
        }
        for r in records
        if isinstance(r, Reproduction)
    ]
    return _frame(rows, REPRODUCTIONS)


REPRODUCTIONS = (
    "Row", "Configuration", "Parameters", "Target", "Recorded accuracy", "Accuracy", "Seeds", "Reached again", "Device",
    "torch",
)  # fmt: skip


def _latest(records: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, Any]:
    """The last record made for every key, in the order in which the keys first come."""
    found: dict[Any, Any] = {}
    for record in records:
        if key(record) not in found or record.created >= found[key(record)].created:
            found[key(record)] = record
    return found


def _frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    # object: a column holds numbers, words in their place, and nothing
    cells = [[row.get(column) for column in columns] for row in rows]
    return pd.DataFrame(cells, columns=list(columns), dtype=object)


# ------------------------------------------------------------------------------------------------------- writing

TABLES: dict[str, tuple[Callable[[Iterable[Record]], pd.DataFrame], str]] = {
    "parameter-efficiency": (
        parameter_efficiency,
        "Parameters at a target accuracy. Accuracy is on the test set at the last epoch, mean over seeds with a 95 % "
        "interval (Student's t). Confidence: one-sided, that the mean over seeds reaches the target on this test set, "
        "adjusted for the attempts before and for looking early. FLOPs: one image forward, one multiply-accumulate is "
        "one FLOP. Activation bytes: saved for backward, one image. GPU bytes: peak of a training step.",
    ),
    "benchmark": (benchmark, "Upstream's published benchmarks and the audited cost of their configurations."),
    "audit": (audit, "Parameter counts by independent ways, and cost (conventions as for parameter efficiency)."),
    "measurements": (measurements, "Measurements beside peers in the same run; ratio is ours / peer's."),
    "reproductions": (reproductions, "Rows of the parameter table that were trained again with `wavemix reproduce`."),
    "trials": (study, "Trials of all studies, fewest parameters first; accuracy is on validation images."),
}
ALWAYS = ("parameter-efficiency", "benchmark")  # the others are there when there is something in them
SUFFIXES = ("md", "csv", "tex")


def rendered(records: Sequence[Record]) -> dict[str, str]:
    """File name -> content of every table the records give."""
    files = {}
    for name, (make, caption) in TABLES.items():
        frame = make(records)
        if len(frame) or name in ALWAYS:
            files[f"{name}.md"] = markdown(frame, caption)
            files[f"{name}.csv"] = frame.to_csv(index=False, lineterminator="\n")
            files[f"{name}.tex"] = latex(frame, caption)
    return files


def write(results_dir: Path | str) -> list[Path]:
    """Write every table of the records in `results_dir` beside them; returns the files.

    Each is replaced whole or not at all. A table whose records are gone is removed. Raises UserError where a record is
    bad or a file cannot be written.
    """
    folder = Path(results_dir)
    if folder.is_dir():
        for path in sorted(folder.glob("*.jsonl")):
            repair(path)
    files = rendered(read_all(folder))
    try:
        for name, content in files.items():
            write_whole(folder / name, content.encode())
        for path in _stale(folder, files):
            path.unlink()
    except OSError as error:
        raise UserError(f"cannot write tables to {folder}: {error.strerror or error}") from error
    return [folder / name for name in files]


def check(results_dir: Path | str) -> list[str]:
    """Tables in `results_dir` that are missing, out of date, or of records that are gone. Writes nothing."""
    folder = Path(results_dir)
    files = rendered(read_all(folder))
    different = []
    for name, content in files.items():
        try:
            same = (folder / name).read_bytes() == content.encode()
        except OSError:
            same = False
        if not same:
            different.append(str(folder / name))
    return different + [str(path) for path in _stale(folder, files)]


def _stale(folder: Path, files: dict[str, str]) -> list[Path]:
    ours = [f"{name}.{suffix}" for name in TABLES for suffix in SUFFIXES]
    return [folder / name for name in ours if name not in files and (folder / name).exists()]
