"""How a command ends: with its verdicts and the tables, or interrupted with the command that goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from search import signals
from search.cli.terminal import tell
from search.errors import UserError

if TYPE_CHECKING:
    from search.data.source import Source
from search.records.verdicts import verdict


@contextmanager
def resumable() -> Iterator[None]:
    """Turns an interruption into the command that goes on and the signal's exit code.

    Signals only come up in the block where it checks for them (see `search.signals`).
    """
    from search.records.environment import command_line

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
    from search.records.commands import train_command
    from search.training.recipe import Recipe

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


def tabulate(results: Path) -> None:
    """Write the tables anew, as every command does that adds a test to the records."""
    from search.report import tables

    for path in tables.write(results):
        tell(f"wrote {path}")
