"""The commands about the benchmark table: list, run, evaluate, table."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.app import benchmark_app, fail
from search.cli.options import RUNS, DataDir, Json, Quiet, ResultsDir, Threads
from search.cli.terminal import show, tell
from search.cli.values import seconds_of
from search.errors import UserError, breakage

if TYPE_CHECKING:
    from search.benchmark.processes import Processes
    from search.benchmark.rows import Row
    from search.benchmark.setup import Setup
    from search.records.benchmarks import RowRun

RowName = Annotated[str, typer.Argument(help="A row (`wavemix benchmark list`) or the path of a row's TOML file.")]
Cpu = Annotated[bool, typer.Option("--cpu", help="Train on the CPU, although there is a GPU.")]
Workers = Annotated[int, typer.Option(min=0, max=256, help="Processes that decode images, for each that trains.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16, or fp16 (on GPUs): of the products; sums are fp32.")]


@benchmark_app.command("list")
def benchmark_list(as_json: Json = False) -> None:
    """List the rows: data, network, recipes, what is published."""
    from search.benchmark.rows import rows

    found = [_facts(row) for row in rows().values()]
    if as_json:
        return tell(json.dumps(found))
    from search.cli.listing import Listing

    table = Listing("row", "data", "network")
    table.add_column("parameters", justify="right")
    for name in ("recipes", "published"):
        table.add_column(name)
    for facts in found:
        figure = facts["published"]
        value, unit = figure and figure["value"], "dB" if facts["task"] == "super-resolution" else "%"
        shown = "-" if figure is None else "no figure" if value is None else f"{value:g} {unit}"
        table.add_row(
            facts["row"],
            facts["data"],
            facts["network"],
            f"{facts['parameters']:,}",
            ", ".join(facts["recipes"]),
            shown,
        )
    show(table)


def _facts(row: "Row") -> dict:
    return {
        "row": row.name,
        "data": row.label,
        "task": row.task,
        "folder": row.data.folder,
        "needs": row.data.put.rstrip(","),
        "network": row.network.shown,
        "parameters": row.network.parameters(),
        "recipes": list(row.recipes),
        "published": row.published and row.published.model_dump(),
        "note": row.note,
    }


@benchmark_app.command("run")
def benchmark_run(
    row: RowName,
    recipe: Annotated[str, typer.Option(help="One of the row's: ours, upstream.")] = "ours",
    seeds: Annotated[int, typer.Option(min=1, max=64, help="How many networks, one after the other.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="The first one's seed.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to begin with: ours, or upstream's .pth.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many a phase; the record says so.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Train on so many alone; the record says so.")] = None,
    data_dir: DataDir = None,
    results: ResultsDir = RUNS,
    cpu: Cpu = False,
    threads: Threads = None,
    precision: Precision = "fp32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels innermost in memory.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network (torch.compile).")] = False,
    accumulate: Annotated[int, typer.Option(min=1, help="Parts that a process takes its images of a step in.")] = 1,
    recompute: Annotated[bool, typer.Option("--recompute", help="Compute activations again, to save memory.")] = False,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Divide weights among processes (FSDP).")] = False,
    workers: Workers = 0,
    save_every: Annotated[str, typer.Option(help="Time between checkpoints: 60s, 10m.")] = "60s",
    log: Annotated[list[str] | None, typer.Option(help="tensorboard, wandb or mlflow. Repeatable.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a row's network where its data lie, test it once, and record what came of it.

    With several processes: `torchrun --nproc-per-node 8 -m search benchmark run ROW …`, or `accelerate launch`. The
    same command goes on with an interrupted training, with as many processes as you like.
    """
    from search.benchmark.rows import row as named
    from search.benchmark.runs import Order, run, weights_of
    from search.records.results import Results

    found, folder = named(row), Results(results)
    chosen = found.recipe(recipe)
    if start is not None and not start.is_file():
        raise UserError(f"--start: there is no file {start}")
    if chosen.start == "weights" and start is None:
        raise UserError(f"recipe {recipe!r} of {found.name} starts from weights: name their file by --start")
    folder.writable()
    setup = _setup(cpu, precision, workers, tuple(log or ()), results / "logs")
    setup = replace(
        setup,
        channels_last=channels_last,
        compiled=compiled,
        accumulate=accumulate,
        recompute=recompute,
        divided=fsdp,
        save_every=seconds_of(save_every, "--save-every"),
    )
    processes = _processes(setup)
    orders = [Order(found, recipe, n, images, epochs, start) for n in range(seed, seed + seeds)]
    with _together(processes):
        parts = found.data.open(data_dir)
        for order in orders:
            with _watch(found, order.recipe, processes) as watch:
                record = run(order, parts, processes, folder, watch, lambda text: _first(processes, text, 0))
            _first(processes, f"{_came_to(record)}; {weights_of(order, folder)}")


def _came_to(record: "RowRun") -> str:
    from search.records.models import counted
    from search.records.verdicts import measure

    measures = [(record.metric, record.score), *record.beside.items()][:2]
    scores = ", ".join(f"{name} {measure(name, value)}" for name, value in measures)
    tested = f"{record.data.test_count:,} test images"
    return f"{record.data.label}: {scores} of {tested}, seed {record.seed}, {counted(record.epochs, 'epoch')}"


@benchmark_app.command("evaluate")
def benchmark_evaluate(
    row: RowName,
    weights: Annotated[Path, typer.Option(help="The file: this program's, or upstream's .pth (weights only).")],
    data_dir: DataDir = None,
    cpu: Cpu = False,
    threads: Threads = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Test stored weights of a row's network on its test images."""
    from search.benchmark.rows import row as named
    from search.benchmark.runs import evaluate
    from search.records.verdicts import measure

    found = named(row)
    if not weights.is_file():
        raise UserError(f"--weights: there is no file {weights}")
    processes = _processes(_setup(cpu, "fp32", workers))
    with _together(processes):
        scores = evaluate(found, weights, found.data.open(data_dir), processes)
        if as_json:
            return _first(processes, json.dumps(scores))
        for name, value in scores.items():
            _first(processes, f"{name} {measure(name, value)}")


@benchmark_app.command("table")
def benchmark_table(results: ResultsDir = RUNS, as_json: Json = False) -> None:
    """Show the table: what is published, and what came out here by the records in --results."""
    from search.records.results import Results
    from search.report.benchmark import benchmark

    frame = benchmark(Results(results).read())
    if as_json:
        return tell(frame.to_json(orient="records"))
    from search.cli.listing import Listing

    names = ["Data set", "Metric", "Published", "Here"]
    table = Listing(*(name.lower() for name in names))
    for _, cells in frame[names].iterrows():
        table.add_row(*(f"{cell:g} %" if isinstance(cell, float) else str(cell) for cell in cells))
    show(table)


def _setup(cpu: bool, precision: str, workers: int, trackers: tuple[str, ...] = (), logs: Path = RUNS) -> "Setup":
    from search.benchmark.setup import PRECISIONS, TRACKERS, Setup

    if precision not in PRECISIONS:
        raise UserError(f"--precision is {', '.join(PRECISIONS)}, not {precision!r}")
    if wrong := [name for name in trackers if name not in TRACKERS]:
        raise UserError(f"--log is {', '.join(TRACKERS)}, not {wrong[0]!r}")
    return Setup(cpu=cpu, precision=precision, workers=workers, trackers=trackers, logs=logs)  # pyright: ignore


def _processes(setup: "Setup") -> "Processes":
    from search.benchmark.processes import Processes

    return Processes(setup)


class _together:
    """Ends a process among several at once where it breaks or is interrupted: the interpreter's own end would wait for
    the others within an operation that they, too, are waiting in."""

    def __init__(self, processes: "Processes"):
        self.processes = processes

    def __enter__(self) -> None: ...

    def __exit__(self, kind, error, trace) -> None:
        from search import signals

        if error is None:
            return self.processes.end()
        if self.processes.share.world == 1:
            return
        try:
            if isinstance(error, KeyboardInterrupt):
                _first(self.processes, "interrupted, to be gone on with by the same command", err=True)
                code = signals.code()
            else:
                code = 2
                fail(str(error) if isinstance(error, UserError) else breakage(error))
        except SystemExit:
            code = 2
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _first(processes: "Processes", text: str, level: int = 1, err: bool = False) -> None:
    """One process speaks for all."""
    if processes.first:
        tell(text, level=level, err=err)


def _watch(row: "Row", recipe, processes: "Processes"):
    from contextlib import nullcontext

    from rich.console import Console

    from search.cli import terminal
    from search.cli.row_watch import RowWatch

    if not processes.first:
        return nullcontext(lambda moment: None)
    console = Console(quiet=terminal.loudness < 0)
    return RowWatch(console, row.score, [phase.patience is not None for phase in recipe.phases])
