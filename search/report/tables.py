"""Tables: pure functions of the records, as Markdown, CSV and LaTeX.

Nothing else goes in: no date, no measurement, no machine that a record does not hold, so that the same records give the
same bytes everywhere and `check` can compare committed tables with them. CSV holds the plain values (fractions, bytes,
operations); Markdown and LaTeX the same, formatted for reading.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from search.errors import UserError, present
from search.files import write_atomically
from search.records.audits import Audit, Statement
from search.records.benchmarks import Benchmark
from search.records.jsonl import Record, repair
from search.records.latest import latest
from search.records.models import Confirmation, Reproduction, Trial, label
from search.records.results import Results
from search.report import audits, benchmark, index
from search.report.efficiency import parameter_efficiency, winners
from search.report.task_tables import segmentation, super_resolution
from search.report.typeset import WORK, csv, frame_of, latex, markdown, with_minimised, work
from search.space.configurations import PUBLISHED_FAMILY

# ------------------------------------------------------------------------------------ trials, audits, measurements


def study(records: Iterable[Record], name: str | None = None) -> pd.DataFrame:
    """The trials of a study (of every study without `name`), fewest parameters first; accuracy is on validation."""
    trials = [r for r in records if isinstance(r, Trial) and name in (None, r.study)]
    trials.sort(key=lambda r: (r.study, r.parameters, math.inf if r.number is None else r.number, r.created))
    rows = [
        {
            "Study": r.study,
            "Data set": label(r.dataset),
            "Target": ", ".join(map(r.score.goal, r.targets)) if r.aims else r.score.number(r.target),
            "Family": r.family,
            "Trial": r.number,
            "Configuration": r.config.name,
            "Parameters": r.parameters,
            "Minimised": r.minimised and r.minimised.shown,
            "State": r.state,
            "Validation": r.score.number(r.accuracy_validation),
            "Seeds": len(r.seeds),
            "Epochs": max((len(curve) for curve in r.curves), default=0),
            "Seconds": round(r.device_seconds, 1),
            "Reason": r.reason,
        }
        for r in trials
    ]
    return frame_of(rows, with_minimised(rows, STUDY))


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
            **work(r.cost),
            "MACs by torch": r.cost and r.cost.macs_torch,
            "Uncounted operators": ", ".join(r.cost.unsupported) if r.cost else None,
            "Activation bytes": r.cost and r.cost.activation_bytes_per_image,
            "GPU bytes": r.cost and r.cost.peak_gpu_bytes,
            "Source": r.source,
            "Note": r.note,
        }
        for r in latest((r for r in records if isinstance(r, Audit)), lambda r: (r.row, r.source)).values()
    ]
    for row in rows:
        if row["Published"] is None:
            row["Published"] = "not published"
    return frame_of(rows, AUDIT)


AUDIT = (
    "Row", "Published", "Closed form", "Counted", "fvcore", "Agree", "Up-sampling", "Input", *WORK,
    "MACs by torch", "Uncounted operators", "Activation bytes", "GPU bytes", "Source", "Note",
)  # fmt: skip


def statements(records: Iterable[Record]) -> pd.DataFrame:
    """The latest judgement of every network of every manifest."""
    stated = (record for record in records if isinstance(record, Statement))
    return audits.statements(latest(stated, lambda r: (r.manifest, r.row)).values())


def measurements(records: Iterable[Record]) -> pd.DataFrame:
    """The latest of every measurement of every network on every machine, a line a peer; the ratio is ours / peer's."""
    found = latest(
        (r for r in records if isinstance(r, Benchmark)),
        lambda r: (_title(r), r.unit, r.machine, _parameters(r) or 0),
    )
    rows = [
        {
            "Measurement": _title(r),
            "Parameters": _parameters(r),
            "Unit": UNITS.get(r.unit, r.unit),
            "Better": r.better,
            "Ours": r.ours,
            "Peer": _peer(r, peer),
            "Peer's": value,
            "Ratio": r.ratios.get(peer) if peer else None,
            "Repetitions": r.repetitions,
            "Machine": r.machine,
        }
        for _, r in sorted(found.items())
        for peer, value in (r.peers or {"": None}).items()
    ]
    return frame_of(rows, MEASUREMENTS)


MEASUREMENTS = (
    "Measurement",
    "Parameters",
    "Unit",
    "Better",
    "Ours",
    "Peer",
    "Peer's",
    "Ratio",
    "Repetitions",
    "Machine",
)


UNITS = {"TFLOP": "TMAC"}  # as recorded: as it is


def _title(measurement: Benchmark) -> str:
    """Its name, and the seed where it is a run of one: another seed's is another measurement.

    The first records of `scripts.benchmarks.recipes` call multiply-accumulates FLOPs.
    """
    seed, name = measurement.details.get("seed"), measurement.name
    name = name.replace("FLOPs", "MACs", 1) if measurement.unit in UNITS else name
    return name if seed is None else f"{name}, seed {seed}"


def _peer(measurement: Benchmark, peer: str) -> str:
    """Its name; that its maps are of another size than ours is said where it is so, as in older records."""
    config = measurement.details.get("config")
    if "peer_parameters" in measurement.details and isinstance(config, dict):
        if config.get("stride", [1, 1]) != measurement.details.get("peer_stride", [1, 1]):
            return f"{peer}, maps of another size"
    return peer


def _parameters(measurement: Benchmark) -> int | None:
    stated = measurement.details.get("parameters")
    return stated if isinstance(stated, int) else None


def reproductions(records: Iterable[Record]) -> pd.DataFrame:
    """Confirmations that were run again, beside what was recorded first.

    A row's network may be another by now: then the one that was run again is superseded.
    """
    records = list(records)
    rows_now = winners(records)
    rows = [
        {
            "Row": r.row,
            "Row's network": _standing(r, rows_now.get(r.row)),
            "Study": r.study,
            "Configuration": r.config.name,
            "Parameters": r.parameters,
            "Target": r.score.number(r.target),
            "Recorded accuracy": r.score.number(math.fsum(r.recorded) / len(r.recorded)) if r.recorded else None,
            "Accuracy": r.score.number(r.mean),
            "Seeds": r.n,
            "Reached again": "yes" if r.reached else "no",
            "Device": r.environment.device,
            "torch": r.environment.torch,
        }
        for r in records
        if isinstance(r, Reproduction)
    ]
    return frame_of(rows, REPRODUCTIONS)


REPRODUCTIONS = (
    "Row", "Row's network", "Study", "Configuration", "Parameters", "Target", "Recorded accuracy", "Accuracy", "Seeds",
    "Reached again", "Device", "torch",
)  # fmt: skip


def _standing(again: Reproduction, now: Confirmation | None) -> str:
    """Whether the network that was run again is the one that stands in its row."""
    if now is not None and now.created == again.reproduces:
        return "this one"
    return "superseded" + (f" by one of {now.parameters:,} parameters" if now else "")


# ------------------------------------------------------------------------------------------------------- writing

VIEWS = (
    "Names that end in mirror, shifts or eight: outputs are means over that many views of an image (2, 4, 8), whose "
    "MACs and FLOPs count; peers, as far as is known, see an image once."
)
TABLES: dict[str, tuple[Callable[[Iterable[Record]], pd.DataFrame], str]] = {
    "parameter-efficiency": (
        parameter_efficiency,
        "Parameters at a target accuracy. Accuracy is on the test set at the last epoch, mean over seeds with a 95 % "
        "interval (Student's t). Verdict: confirmed where the lower one-sided 95 % bound of the mean, adjusted for "
        "attempts and looks, reaches the target; reached where only the mean does; else missed. Confidence: one-sided, "
        "that the mean over many seeds reaches the target on this test set; adjusted: for the attempts before it and "
        f"for looking early, - where that leaves nothing to say. {PUBLISHED_FAMILY} Maps: their size in the blocks, "
        f"from the strides. {VIEWS} "
        "MACs: multiply-accumulates of convolutions and matrix products, one image forward; by torch: those that its "
        "own counter sees. FLOPs: two for each MAC, and all other operations. Activation bytes: saved for backward, "
        "one image. GPU bytes: peak of a training step of 16 images as an ordinary module. Peers: networks of other "
        "authors, with their own figures and ways to choose them (see Origin); nothing of theirs was run here, and "
        "theirs are of the original CIFAR-10, where ours are of the JPEG copy.",
    ),
    "segmentation": (
        segmentation,
        "Parameters at a target mIoU, as in the table of parameter efficiency. mIoU: the mean over classes of "
        "intersection over union of one confusion matrix over the test images, at the labels' full size, single scale, "
        f"last epoch; higher is better. {VIEWS} Family peer: other authors' networks, with their own figures.",
    ),
    "super-resolution": (
        super_resolution,
        "Parameters at a target PSNR, as in the table of parameter efficiency. PSNR and SSIM: on Y of BT.601, 8 bits, "
        "the scale's pixels shaved off every border, mean over the images of a test set, last epoch; higher is better. "
        "Low resolution: bicubic with antialiasing, as in MATLAB, in 8 bits. FLOPs: of an image of the training's "
        f"size. {VIEWS} Family peer: other authors' networks, with their own figures.",
    ),
    "benchmark": (benchmark.benchmark, benchmark.CAPTION),
    "audit": (audit, "Parameter counts by independent ways, and cost (conventions as for parameter efficiency)."),
    "statements": (
        statements,
        "What manifests state of networks, and what is counted; a stated figure may be rounded or cut off. MACs are "
        "multiply-accumulates of convolutions and matrix products, FLOPs two for each and all other operations.",
    ),
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
            files[f"{name}.csv"] = csv(frame)
            files[f"{name}.tex"] = latex(frame, caption)
    return files


def values(records: Sequence[Record]) -> dict[str, list[dict]]:
    """Name -> rows of every table the records give, as JSON can hold them."""
    frames = {name: make(records) for name, (make, _) in TABLES.items()}
    return {name: json.loads(present(frame.to_json(orient="records"))) for name, frame in frames.items()}


def written(results: Results) -> dict[str, str]:
    """File -> content of all that the records give, by their paths in the directory: tables, index and cards."""
    records = results.read()
    tables = {f"{results.tables.name}/{name}": content for name, content in rendered(records).items()}
    return tables | index.rendered(index.entries(records, results.weights))


def write(results_dir: Path | str) -> list[Path]:
    """Write every table of the records in `results_dir` to its folder "tables", and the index and cards of its rows;
    returns the files.

    Each is replaced whole or not at all. A table or card whose records are gone is removed. Raises UserError where a
    record is bad or a file cannot be written.
    """
    results = Results(results_dir)
    for path in results.journals():
        repair(path)
    files = written(results)
    try:
        for name, content in files.items():
            (results.folder / name).parent.mkdir(exist_ok=True)
            write_atomically(results.folder / name, content.encode())
        for path in _stale(results, files):
            path.unlink()
    except OSError as error:
        raise UserError(f"cannot write tables to {results.tables}: {error.strerror or error}") from error
    return [results.folder / name for name in files]


def check(results_dir: Path | str) -> list[str]:
    """Files of `write` that are missing, out of date, or of records that are gone. Writes nothing."""
    results = Results(results_dir)
    files, different = written(results), []
    for name, content in files.items():
        path = results.folder / name
        try:
            same = path.is_file() and path.read_bytes() == content.encode()
        except OSError:
            same = False
        if not same:
            different.append(str(path))
    return different + [str(path) for path in _stale(results, files)]


def _stale(results: Results, files: dict[str, str]) -> list[Path]:
    folder = results.folder
    tables = [f"{results.tables.name}/{name}.{suffix}" for name in TABLES for suffix in SUFFIXES]
    gone = [folder / name for name in [*tables, index.NAME] if name not in files and (folder / name).exists()]
    cards = sorted((folder / index.CARDS).glob("*.md"))
    return gone + [path for path in cards if f"{index.CARDS}/{path.name}" not in files and index.is_card(path)]
