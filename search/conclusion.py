"""How a command ends: with its verdicts and the tables, or interrupted with the command that goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from .source import Source


def wide(table) -> None:
    """Print a table; one that is piped is not cut to 80 columns."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)


@contextmanager
def resumable() -> Iterator[None]:
    """Turns an interruption into exit code 130 and the command that goes on."""
    from .environment import command_line

    try:
        yield
    except KeyboardInterrupt:
        again = "the same command goes on from here, but for what was trained since the last checkpoint"
        typer.echo(f"interrupted; {again}: {command_line(sys.argv)}", err=True)
        sys.exit(130)


def conclude(attempts: list, source: "Source", results: Path, data_dir: Path | None, device: str = "cpu") -> None:
    """The verdicts, the command that repeats the best, and the tables."""
    from .confirm import verdict
    from .display import train_command
    from .recipe import Recipe

    for record in attempts:
        typer.echo(verdict(record))
    if attempts:
        best = next((c for c in attempts if c.confirmed), attempts[0])
        recipe = Recipe.model_validate(best.recipe)
        command = train_command(source, best.config, recipe, best.seeds, best.target, data_dir, device, results)
        typer.echo(f"reproduce it with:\n  {command}")
    tabulate(results)


def tabulate(results: Path) -> None:
    """Write the tables anew, as every command does that adds a test to the records."""
    from . import tables

    for path in tables.write(results):
        typer.echo(f"wrote {path}")
