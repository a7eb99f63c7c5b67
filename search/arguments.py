"""What the command line's options mean: times, seeds, models given as JSON, names of studies."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError

from .errors import UserError

FRESH = 1_000_000  # seeds of confirmations start here, those of searches lie below
DataDir = Annotated[Path | None, typer.Option("--data-dir", envvar="WAVEMIX_DATA", help="Where data files lie.")]
Results = Annotated[Path, typer.Option("--results", help="Directory of records, tables and weights.")]


def seconds_of(budget: str) -> float:
    """'90s', '15m', '2h' or '1d' as seconds. Raises UserError for anything else."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(budget[-1:])
    try:
        value = float(budget[:-1]) * (unit or 0)
    except ValueError:
        value = 0
    if not unit or not 0 < value < float("inf"):
        raise UserError(f"--budget is a time such as 90s, 15m or 2h, not {budget!r}")
    return value


def validated(kind: type[BaseModel], text: str, option: str) -> BaseModel:
    """A model from JSON given on the command line, or from the file of that name."""
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{option} takes JSON or a file with JSON; {text!r} can't be read") from error
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{option}: {first_line(error)}") from error


def first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place + ': ' if place else ''}{first['msg']}"


def seeds_of(text: str) -> list[int]:
    """'3' is three seeds counted up, '7,8' is these two; a single number above 64 is that seed."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds is a number of seeds or a list such as 7,8,9, not {text!r}") from error
    if len(numbers) == 1 and 0 < numbers[0] <= 64:
        return [FRESH + n for n in range(numbers[0])]
    if numbers == [0] or min(numbers) < 0 or len(set(numbers)) != len(numbers) or not 0 < len(numbers) <= 64:
        raise UserError(f"--seeds is a number from 1 to 64, or a list of different seeds, not {text!r}")
    return numbers


def checked(target: float, family: str = "extended") -> None:
    if not 0 < target < 1:
        raise UserError(f"--target is a fraction between 0 and 1, not {target:g}: 0.99 means 99 %")
    if family not in ("published", "extended"):
        raise UserError(f"--family is 'published' or 'extended', not {family!r}")


def study_name(data: str, target: float, family: str) -> str:
    stem = Path(data).resolve().name if "/" in data or Path(data).is_dir() else data
    return re.sub(r"[^\w.+-]", "-", f"{stem}-{target * 100:g}-{family}")


def fresh_seeds(count: int, seed: int, offset: int = 0) -> list[int]:
    """Seeds of a confirmation: the same for the same search, none of them one of a search."""
    return list(range(FRESH + seed * 1000 + offset, FRESH + seed * 1000 + offset + count))


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
        typer.echo(f"interrupted; the same command goes on from here: {command_line(sys.argv)}", err=True)
        raise typer.Exit(130) from None
