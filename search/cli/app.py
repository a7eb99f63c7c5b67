"""The command `wavemix`: what all its commands have in common. Each adds itself to `app`."""

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from search.cli.terminal import discard, tell
from search.cli.values import first_line
from search.errors import Unheard, UserError
from search.files import check_text

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Find the fewest-parameter WaveMix network that reaches a target accuracy, and prove it.",
)
data_app = typer.Typer(no_args_is_help=True, help="List and fetch data sets.")
app.add_typer(data_app, name="data")
benchmark_app = typer.Typer(no_args_is_help=True, help="Run rows of the published benchmark table.")
app.add_typer(benchmark_app, name="benchmark")


def told_version(wanted: bool) -> None:
    if wanted:
        from search.records.environment import code

        tell(f"wavemix {code()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=told_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    check_text(sys.argv)


# what Typer raises for arguments of the wrong form; where the class lies depends on Typer's version
MALFORMED: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command; a problem of the user's is one line on standard error and exit code 2.

    Raises KeyboardInterrupt where it is interrupted.
    """
    try:
        code = app(standalone_mode=False)
        if code == 130:  # what Typer makes of an interruption
            raise KeyboardInterrupt
        sys.exit(code)
    except Unheard:
        sys.exit(141)  # as a program that the signal ends
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        for stream in (sys.stdout, sys.stderr):  # Typer or Rich, which print the help, end with 1 then
            with suppress(OSError):  # the other one may still be read
                stream.flush()
            discard(stream)
        sys.exit(141)
    except UserError as error:
        fail(str(error))
    except MALFORMED as error:
        text, context = error.format_message(), getattr(error, "ctx", None)
        if not text:  # no arguments at all: the help has been printed
            sys.exit(2)
        fail(f"{text} (`{context.command_path} --help` lists what there is)" if context else text)
    except ValidationError as error:
        fail(first_line(error))
    except OSError as error:  # a full disk, say
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def fail(reason: str) -> None:
    from search.records.environment import mask

    with suppress(UserError):  # nobody reads that either
        tell(f"wavemix: {mask(reason)}", err=True)
    sys.exit(2)
