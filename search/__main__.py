"""What `wavemix` and `python -m search` start."""

import os
import sys
from contextlib import suppress

from search import signals
from search.cli.terminal import open_streams, tell
from search.errors import UserError


def main() -> None:
    """Run the command; where a signal ends it, that is one line and the signal's exit code, also while it is loaded."""
    os.environ.pop("MPLBACKEND", None)  # as in search.report, for whatever else imports matplotlib
    open_streams()
    signals.install()
    try:
        with signals.deferred():
            # each of them adds its commands, in the order of `wavemix --help`
            from search.cli import run, workers, launch, use, export, audit, show, data, benchmark, app  # noqa: F401, I001
        app.main()
    except KeyboardInterrupt:
        with suppress(UserError):  # its reader may have been interrupted as well
            tell("interrupted", err=True)
        sys.exit(signals.code())
    except (SystemExit, OSError, UserError) as end:  # a terminal that has been closed can't be written to
        if signals.received and getattr(end, "code", 1):
            sys.exit(signals.code())
        raise
    finally:
        signals.finish()


if __name__ == "__main__":
    main()
