"""The commands that show what the records hold: audit, tables, plots, report, dashboard."""

import json
from pathlib import Path
from typing import Annotated

import typer

from search.cli.app import app
from search.cli.options import RUNS, Json, ResultsDir, Storage, at_home, shape_of
from search.cli.terminal import show, tell
from search.errors import UserError


@app.command()
def audit(
    saved_models: Annotated[
        bool, typer.Option("--saved-models", help="Also every configuration upstream states.")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(callback=at_home, help="Count a checkpoint instead.")] = None,
    factory: Annotated[str | None, typer.Option(help="Count any network instead: module:callable.")] = None,
    input: Annotated[str | None, typer.Option(help="Its input: channels,height,width; default: 3,224,224.")] = None,
    record: Annotated[
        Path | None, typer.Option(callback=at_home, help="Append the audit's records to this file.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 also where FLOPs are not, or not all, counted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Published parameter counts against closed form, count and fvcore; FLOPs and memory. Exit code 1 on a mismatch."""
    from search.audit import counts as auditing
    from search.cli.listings import audits
    from search.records.jsonl import append

    if sum((saved_models, checkpoint is not None, factory is not None)) > 1:
        raise UserError("--saved-models, --checkpoint and --factory are audits of their own: give one of them")
    if input is not None and factory is None:
        raise UserError("--input is of the network that --factory makes: give both")
    if factory:
        rows = [auditing.factory(factory, shape_of(input or "3,224,224"))]
    elif checkpoint:
        rows = [auditing.checkpoint(checkpoint)]
    else:
        rows = auditing.published()
        if saved_models:
            rows += auditing.saved_models(progress=lambda row: tell(f"  {row}", err=True))
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
        tell("the FLOPs of at least one row are not, or not all, counted", err=True)
        raise typer.Exit(1)


@app.command()
def tables(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; exit code 1 when a committed table differs.")
    ] = False,
    results: ResultsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Regenerate the tables (Markdown, CSV, LaTeX) from the records."""
    from search.report import tables as writing

    if as_json:
        from search.records.results import Results

        return tell(json.dumps(writing.values(Results(results).read())))
    if check:
        different = writing.check(results)
        for path in different:
            tell(f"{path} differs from what the records say: run `wavemix tables`", err=True)
        raise typer.Exit(1 if different else 0)
    for path in writing.write(results):
        tell(f"wrote {path}")


@app.command()
def plots(results: ResultsDir = RUNS) -> None:
    """Draw the records as PNG and SVG: frontier, anytime curve, importance of the hyperparameters, learning curves."""
    from search.report import plots as drawing

    written = drawing.write(results)
    for path in written:
        tell(f"wrote {path}")
    if not written:
        tell("nothing to draw: the records hold no completed trial and no confirmation")


@app.command()
def report(results: ResultsDir = RUNS) -> None:
    """Write report.html: all that the records say, in one file that a browser opens without a network."""
    from search.report import html_page as writing

    tell(f"wrote {writing.write(results)}")


@app.command()
def dashboard(
    name: Annotated[str | None, typer.Argument(help="The study; not needed where there is only one.")] = None,
    storage: Storage = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    results: ResultsDir = RUNS,
) -> None:
    """Show a study in optuna-dashboard, read only, until Ctrl-C."""
    from search.cli import dashboard as showing

    server, address = showing.server(*showing.location(name, storage, results), host, port)
    tell(f"{address} (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        tell("stopped", err=True)
    finally:
        server.server_close()
