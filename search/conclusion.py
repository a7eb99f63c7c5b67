"""How a command ends: with its verdicts and the tables, or interrupted with the command that goes on."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import signals
from .errors import UserError
from .terminal import tell

if TYPE_CHECKING:
    from .source import Source


@contextmanager
def resumable() -> Iterator[None]:
    """Turns an interruption into the command that goes on and the signal's exit code.

    Signals only come up in the block where it checks for them (see `search.signals`).
    """
    from .environment import command_line

    try:
        with signals.deferred():
            yield
    except KeyboardInterrupt:
        again = "the same command goes on from here, but for what was trained since the last checkpoint"
        with suppress(UserError):  # the terminal may have been closed
            tell(f"interrupted; {again}: {command_line(sys.argv)}", err=True, kept="\n")
        sys.exit(signals.code())


def conclude(attempts: list, source: "Source", results: Path, data_dir: Path | None, device: str = "cpu") -> None:
    """The verdicts, the command that repeats the best, and the tables."""
    from .display import train_command
    from .recipe import Recipe

    for record in attempts:
        tell(verdict(record))
    if attempts:
        words = ("confirmed", "reached")
        best = next((c for word in words for c in attempts if c.verdict == word), attempts[0])
        recipe = Recipe.model_validate(best.recipe)
        tell("reproduce it with:")
        command = train_command(source, best.config, recipe, best.seeds, best.target, data_dir, device, results)
        tell(f"  {command}", kept="\n")
    tabulate(results)


def verdict(record) -> str:
    """A confirmation in one line."""
    from .records import counted

    if record.mean is None:
        return f"confirmation failed: {record.reason}"
    parts = [f"{record.parameters:,} parameters", f"test accuracy {record.mean:.2%}"]
    if record.clipped is not None:
        low, high = record.clipped
        parts[-1] += f" (95 % interval {low:.2%} to {high:.2%})"
    parts.append(f"min {record.min:.2%}, max {record.max:.2%}, {counted(record.n)}")
    if record.target is None:
        return f"{record.verdict}: {', '.join(parts)}"
    missed = "" if record.reached else f" missed by {record.target - record.mean:.2%}"
    parts.append(f"target {record.target:.4g}{missed}")
    told = record.judgement
    if told.confidence is not None:
        adjusted = "says nothing" if told.adjusted is None else f"{_floor(told.adjusted)} %"
        looks = " and looks" * (len(record.looks) > 1)
        parts.append(
            f"one-sided confidence {_floor(told.confidence)} %, adjusted for attempt {record.attempt or 1}{looks} "
            f"{adjusted}"
        )
    return f"{told.verdict}{', not confirmed' * (told.verdict == 'reached')}: {', '.join(parts)}"


def _floor(confidence: float) -> str:
    """In per cent, never rounded up to what was not shown."""
    return f"{math.floor(1000 * confidence) / 10:g}"


def tabulate(results: Path) -> None:
    """Write the tables anew, as every command does that adds a test to the records."""
    from . import tables

    for path in tables.write(results):
        tell(f"wrote {path}")
