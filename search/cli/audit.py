"""`wavemix audit` and its commands: published counts, manifests, modules, speed."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.cli.app import app
from search.cli.options import Json, at_home, device_of
from search.cli.terminal import show, tell
from search.cli.values import seconds_of, shape_of, size_of
from search.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from search.audit.networks import Subject
    from search.records.figures import Verdict

audit_app = typer.Typer(
    invoke_without_command=True, help="Published counts against closed form, count and fvcore; or anybody's networks."
)
app.add_typer(audit_app, name="audit")

PRECISIONS = ("float32", "bfloat16", "float16")


def precision_of(text: str | None) -> str | None:
    if text not in (None, *PRECISIONS):
        raise UserError(f"--dtype is one of {', '.join(PRECISIONS)}, not {text!r}")
    return text


def audited_device_of(text: str | None) -> str | None:
    return text if text is None else device_of(text)


Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Markdown = Annotated[bool, typer.Option("--md", help="Print a Markdown table.")]
Latex = Annotated[bool, typer.Option("--latex", help="Print a LaTeX table.")]
RecordTo = Annotated[Path | None, typer.Option("--record", callback=at_home, help="Append the records to this file.")]
Factory = Annotated[
    str | None,
    typer.Option(help="The network that module:callable returns. It is your code and runs with your rights."),
]
CheckpointFile = Annotated[Path | None, typer.Option(callback=at_home, help="A WaveMix classifier's checkpoint.")]
Row = Annotated[str | None, typer.Option(help="A network of upstream, as `wavemix audit --saved-models` names it.")]
Input = Annotated[str | None, typer.Option(help="Its images: channels,height,width; default: 3,224,224, or the row's.")]
Dtype = Annotated[str | None, typer.Option(callback=precision_of, help=f"{', '.join(PRECISIONS)}; default: its own.")]


@dataclass(frozen=True)
class Form:
    """How a table is printed: at most one of these; on a terminal without any."""

    json: bool
    csv: bool
    md: bool
    latex: bool

    def __post_init__(self) -> None:
        if sum((self.json, self.csv, self.md, self.latex)) > 1:
            raise UserError("--json, --csv, --md and --latex exclude each other: give one of them")

    def tell(
        self, values: Callable[[], Any], frame: "Callable[[], pd.DataFrame]", shown: Callable[[], Any], title: str
    ):
        """Print the values as JSON, the frame as a table, or what is shown on a terminal."""
        if self.json:
            return tell(json.dumps(values()))
        if not (self.csv or self.md or self.latex):
            return show(shown())
        from search.report import typeset

        text = typeset.csv(frame()) if self.csv else (typeset.markdown if self.md else typeset.latex)(frame(), title)
        tell(text.rstrip("\n"), kept="\n")


@audit_app.callback()
def audit(
    context: typer.Context,
    saved_models: Annotated[
        bool, typer.Option("--saved-models", help="Also every configuration upstream states.")
    ] = False,
    protocol: Annotated[
        bool, typer.Option("--protocol", help="What the published figures measure, and how they were chosen.")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(callback=at_home, help="Count a checkpoint instead.")] = None,
    factory: Annotated[str | None, typer.Option(help="Count any network instead: module:callable.")] = None,
    input: Annotated[
        str | None,
        typer.Option(help="Images of --factory or --checkpoint: channels,height,width; a factory's are 3,224,224."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=2**20, help="Images for activation and GPU memory.")] = 16,
    device: Annotated[
        str | None,
        typer.Option(callback=audited_device_of, help="Where GPU memory is measured; default: a GPU if any."),
    ] = None,
    dtype: Dtype = None,
    record: RecordTo = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 also where operations are not, or not all, counted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Published parameter counts against closed form, count and fvcore; MACs, FLOPs, memory. Exit code 1: a mismatch.

    The commands below are for anybody's networks.
    """
    if context.invoked_subcommand:
        if any(context.get_parameter_source(name).name == "COMMANDLINE" for name in context.params):  # pyright: ignore
            raise UserError(f"options stand behind the command: wavemix audit {context.invoked_subcommand} --…")
        return
    if sum((saved_models, protocol, checkpoint is not None, factory is not None)) > 1:
        raise UserError(
            "--saved-models, --protocol, --checkpoint and --factory are audits of their own: give one of them"
        )
    if protocol:
        from search.cli.protocol import protocol as explain

        return explain(as_json)
    from search.audit import counts as auditing
    from search.audit.cost import Conditions
    from search.cli.audit_listings import audits
    from search.records.jsonl import append

    if input is not None and factory is None and checkpoint is None:
        raise UserError("--input is of the network that --factory makes or --checkpoint holds: give both")
    conditions = Conditions(batch, device, dtype)
    if factory:
        rows = [auditing.factory(factory, shape_of(input or "3,224,224"), conditions)]
    elif checkpoint:
        rows = [auditing.checkpoint(checkpoint, shape_of(input) if input else None, conditions)]
    else:
        rows = auditing.published(conditions)
        if saved_models:
            rows += auditing.saved_models(conditions, progress=lambda row: tell(f"  {row}", err=True))
    if as_json:
        tell(json.dumps([row.model_dump(mode="json") for row in rows]))
    else:
        show(audits(rows))
    for row in rows:
        if record:
            append(record, row)
    if not all(row.agree for row in rows):
        tell("the counts of at least one row differ", err=True)
        raise typer.Exit(1)
    if strict and any(row.cost and (row.cost.unsupported or row.cost.flops is None) for row in rows):
        tell("the operations of at least one row are not, or not all, counted", err=True)
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------ manifests


@audit_app.command()
def manifest(
    file: Annotated[Path, typer.Argument(callback=at_home, help="CSV, YAML, or mmpretrain's metafile.yml.")],
    time_limit: Annotated[str, typer.Option(help="For each network: 90s, 2m.")] = "2m",
    memory_limit: Annotated[str, typer.Option(help="Of the process that counts, PyTorch included: 8G, 500M.")] = "8G",
    record: RecordTo = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_md: Markdown = False,
    as_latex: Latex = False,
) -> None:
    """Judge what a list states of networks, parameters and FLOPs, each against a count.

    Rounding is fine. MACs stated as FLOPs (a factor of two), counts with buffers or without the head, and what can't be
    counted are not: exit code 1. A factory is your code and runs with your rights, in a process of its own whose limits
    are against accidents.
    """
    form = Form(as_json, as_csv, as_md, as_latex)
    from search.audit.isolation import Limits
    from search.audit.manifest import ManifestError, read

    limits = Limits(seconds_of(time_limit, "--time-limit"), size_of(memory_limit, "--memory-limit"))

    try:
        entries = read(file)
    except ManifestError as error:
        for line in error.lines:
            tell(f"wavemix: {line}", err=True)
        raise typer.Exit(2) from error
    from search.audit.statements import statements
    from search.cli.audit_listings import stated
    from search.records.jsonl import append
    from search.report import audits

    rows = statements(entries, file, limits, progress=lambda name: tell(f"  {name}", err=True, level=0))
    form.tell(
        lambda: [row.model_dump(mode="json") | {"verdicts": row.verdicts} for row in rows],
        lambda: audits.statements(rows),
        lambda: stated(rows),
        f"What {file.name} states, and what was counted.",
    )
    for row in rows:
        if record:
            append(record, row)
    if wrong := sum(not row.fine for row in rows):
        tell(f"{wrong} of {len(rows)} networks are not as stated", err=True)
        raise typer.Exit(1)


# -------------------------------------------------------------------------------------------------- modules, speed


def subject_of(factory: str | None, checkpoint: Path | None, row: str | None, input: str | None) -> "Subject":
    """The network that one of the three options names."""
    if sum(given is not None for given in (factory, checkpoint, row)) != 1:
        raise UserError("give the network by one of --factory, --checkpoint and --row")
    shape = shape_of(input) if input else None
    from search.audit import networks

    if factory is not None:
        return networks.of_factory(factory, shape)
    return networks.of_checkpoint(checkpoint, shape) if checkpoint else networks.of_row(str(row), shape)


@audit_app.command()
def modules(
    factory: Factory = None,
    checkpoint: CheckpointFile = None,
    row: Row = None,
    input: Input = None,
    batch: Annotated[int, typer.Option(min=1, max=2**20, help="Images that everything is counted for.")] = 1,
    dtype: Dtype = None,
    depth: Annotated[
        int | None, typer.Option(min=0, help="How deep to go; 0: the network alone; default: all.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="Most first: parameters, macs, flops, training_macs, … ; default: their order.")
    ] = None,
    published: Annotated[str | None, typer.Option(help="Parameters that somebody states, to compare: 25.6M.")] = None,
    published_flops: Annotated[
        str | None, typer.Option(help="FLOPs of one image that somebody states, or MACs: 8.2G, '4.1 GMACs'.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_md: Markdown = False,
    as_latex: Latex = False,
) -> None:
    """What every module costs: parameters, MACs, FLOPs and activation memory, forward and in training.

    Each number stands in one row, and the rows' sums are the totals. Exit code 1: a published figure is wrong.
    """
    form = Form(as_json, as_csv, as_md, as_latex)
    figures = tuple(
        figure_of(text, of) for text, of in ((published, "--published"), (published_flops, "--published-flops"))
    )
    from search.audit.cost import Conditions, one_line
    from search.audit.modules import COLUMNS, ordered
    from search.audit.modules import modules as counted
    from search.cli.audit_listings import breakdown
    from search.report import audits

    if sort not in (None, *COLUMNS):
        raise UserError(f"--sort is one of {', '.join(COLUMNS)}, not {sort!r}")
    subject = subject_of(factory, checkpoint, row, input)
    shape = "x".join(map(str, subject.input_shape))
    try:
        found = counted(Conditions(dtype=dtype).cast(subject.network), subject.input_shape, batch)
    except Exception as error:  # whatever somebody's network raises
        raise UserError(f"{subject.name} does not run on {shape} images: {one_line(error)}") from error
    rows = ordered(found.to_depth(depth), sort)
    verdicts = compared(subject, found.total, found.uncounted, batch, *figures)
    facts = {"network": subject.name, "input": list(subject.input_shape), "batch": batch, "uncounted": found.uncounted}
    form.tell(
        lambda: facts | {
            "unmeasured": found.unmeasured, "total": asdict(found.total), "modules": [asdict(row) for row in rows],
            "verdicts": {name: asdict(verdict) for name, verdict in verdicts.items()},
        },
        lambda: audits.breakdown(found, rows),
        lambda: breakdown(f"{subject.name}, {batch} x {shape}", found, rows),
        f"Modules of {subject.name} for {batch} x {shape}.",
    )  # fmt: skip
    for what, why in found.unmeasured.items():
        tell(f"{what} not counted ({why})" + "; another --batch may do" * (batch == 1), err=True)
    if found.uncounted:
        tell(f"without a count, so that the sums are lower bounds: {', '.join(found.uncounted)}", err=True)
    for name, verdict in verdicts.items():
        tell(f"published {name}: {verdict.said}", err=form != Form(False, False, False, False))
    if not all(verdict.fine for verdict in verdicts.values()):
        raise typer.Exit(1)


def figure_of(text: str | None, option: str):
    """A stated number. Raises UserError where it is none."""
    from search.records.figures import Figure

    try:
        return None if text is None else Figure.read(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error


def compared(
    subject: "Subject", total: Any, uncounted: dict, batch: int, parameters: Any, work: Any
) -> "dict[str, Verdict]":
    """Verdicts on what is stated."""
    from search.records.figures import judged_parameters, judged_work

    found = {}
    if parameters:
        buffers = sum(buffer.numel() for buffer in subject.network.buffers())
        found["parameters"] = judged_parameters(parameters, total.parameters, buffers)
    if work:
        found["FLOPs"] = judged_work(work, total.macs // batch, total.flops // batch, list(uncounted))
    return found


@audit_app.command()
def speed(
    factory: Factory = None,
    checkpoint: CheckpointFile = None,
    row: Row = None,
    input: Input = None,
    device: Annotated[str, typer.Option(callback=device_of, help="cpu, cuda, or one of several GPUs, cuda:1.")] = "cpu",
    batch: Annotated[str, typer.Option(help="Images at once, one size or several: 1,64.")] = "1",
    dtype: Annotated[str, typer.Option(help=f"One or several of {', '.join(PRECISIONS)}.")] = "float32",
    layout: Annotated[str, typer.Option(help="contiguous, channels-last, or both.")] = "contiguous,channels-last",
    training: Annotated[bool, typer.Option("--training", help="Also a training step with AdamW.")] = False,
    repetitions: Annotated[int, typer.Option(min=2, max=10**6, help="Passes that count.")] = 30,
    warm_up: Annotated[int, typer.Option(min=0, max=10**6, help="Passes before them.")] = 5,
    as_json: Json = False,
    as_csv: Csv = False,
    as_md: Markdown = False,
    as_latex: Latex = False,
) -> None:
    """Latency (median and quartiles) and peak memory, measured on a CPU or a GPU.

    GPU memory is there where a GPU is. A precision that the device does not have is a row that says so.
    """
    form = Form(as_json, as_csv, as_md, as_latex)
    sizes = _several("--batch", batch, None)
    dtypes = _several("--dtype", dtype, PRECISIONS)
    layouts = _several("--layout", layout, ("contiguous", "channels-last"))
    from search.audit.speed import Way
    from search.audit.speed import speed as measured
    from search.cli.audit_listings import speeds
    from search.report import audits

    subject = subject_of(factory, checkpoint, row, input)
    rows = [
        measured(
            subject.network, subject.input_shape, Way(device, precision, how, int(size), step), repetitions, warm_up
        )
        for step in (False, True)[: 1 + training]
        for size in sizes
        for precision in dtypes
        for how in layouts
    ]
    shape = "x".join(map(str, subject.input_shape))
    form.tell(
        lambda: [asdict(row) | {"images_per_second": row.images_per_second} for row in rows],
        lambda: audits.speeds(rows),
        lambda: speeds(f"{subject.name}, {shape}, {rows[0].device}", rows),
        f"Speed of {subject.name}, images of {shape}.",
    )


def _several(option: str, text: str, known: tuple[str, ...] | None) -> list[str]:
    """The values of a list; whole numbers from 1 on where none are `known`. Raises UserError for others."""
    values = [value.strip() for value in text.split(",")]
    for value in values:
        if known and value not in known or not known and not (value.isdecimal() and 0 < int(value) < 2**20):
            raise UserError(
                f"{option} is {', '.join(known) if known else 'a number of images such as 1,64'}, not {value!r}"
            )
    return list(dict.fromkeys(values))
