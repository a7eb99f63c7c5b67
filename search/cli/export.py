"""The command that writes a stored network in the form of another program."""

from pathlib import Path
from typing import Annotated

import typer

from search.cli.app import app
from search.cli.options import RUNS, DataDir, ResultsDir, at_home
from search.cli.terminal import tell


@app.command()
def export(
    what: Annotated[str, typer.Argument(metavar="ROW|FILE", help="A row of the table, a study or a file of weights.")],
    format: Annotated[str, typer.Option(help="onnx, torch-export, timm (a folder) or c (C99, for microcontrollers).")],
    output: Annotated[
        Path | None, typer.Option(callback=at_home, help="The file or folder; default: named after the row, here.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which of the trained seeds; default: the first.")] = None,
    data_dir: DataDir = None,
    results: ResultsDir = RUNS,
) -> None:
    """Write a trained network as ONNX, torch.export, timm or C, after its scores of 100 images have been compared."""
    from search.export.exporting import export as exported
    from search.inference.stored import find
    from search.records.results import Results, published

    stored = find(what, Results(results, published()))
    done = exported(stored, format, output, seed, data_dir)
    tell(f"{stored.name}: {stored.config.name}, {stored.config.parameters():,} parameters, seed {done.seed}")
    for line in done.told:
        tell(f"  {line}")
    tell(f"  checked on {done.check}")
    tell(f"wrote {done.path}, {done.size:,} bytes")
