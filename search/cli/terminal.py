"""What a command prints: text made safe, tables that fit, and streams that somebody has closed."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from search.errors import Unheard, UserError
from search.text import printable

loudness = 0  # 1 with --verbose, -1 with --quiet
STREAMS = ("stdin", "stdout", "stderr")


def open_streams() -> None:
    """Give a closed standard stream the null device, and let all print names that their encoding lacks.

    Otherwise the next file that is opened gets its number, and with it whatever a library writes there.
    """
    for number in range(len(STREAMS)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name in STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard(stream: IO[str]) -> None:
    """Give `stream` the null device: what is left in its buffer is not tried again at the program's end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


@contextmanager
def _heard(stream: IO[str]) -> Iterator[None]:
    """Raises UserError where `stream` can't be written to; the silent Unheard where its reader has gone (`| head`)."""
    try:
        yield
    except OSError as error:
        discard(stream)
        if isinstance(error, BrokenPipeError):
            raise Unheard from error
        raise UserError(f"cannot print: {error.strerror or error}") from error


def tell(text: object, *, err: bool = False, kept: str = "", level: int = 1) -> None:
    """Print one line to standard output, or error. `kept` is for what is to be copied, a command: "\\n".

    `level` 1 is a result, 0 progress, which --quiet leaves out, -1 a detail, which --verbose alone shows.
    """
    if level + loudness < 0:
        return
    stream = sys.stderr if err else sys.stdout
    with _heard(stream):
        print(printable(text, kept), file=stream, flush=True)


def show(listing) -> None:
    """Print a table as wide as the terminal at most; one that is piped has 160 columns."""
    from rich.console import Console
    from rich.segment import Segments

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise  # Rich would end the program with 1, which means a mismatch here

    console = Terminal(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False)
    drawn = Segments(list(console.render(listing)))
    with _heard(sys.stdout):
        console.print(drawn, crop=False)
