"""The commands that show what the records hold: tables, plots, report, dashboard."""

import json
from typing import Annotated

import typer

from search.cli.app import app
from search.cli.options import RUNS, Json, ResultsDir, Storage
from search.cli.terminal import tell


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
