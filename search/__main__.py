"""What `wavemix` and `python -m search` start."""

import os
import sys

from . import signals
from .terminal import open_streams


def main() -> None:
    """Run the command; where a signal ends it, that is one line and the signal's exit code, also while it is loaded."""
    os.environ.pop("MPLBACKEND", None)  # Jupyter's may not be installed here; pictures are drawn without any
    open_streams()
    signals.install()
    try:
        with signals.deferred():
            from . import cli
        cli.main()
    except KeyboardInterrupt:
        said("interrupted")
        sys.exit(signals.code())
    except (SystemExit, OSError) as end:  # writing to a terminal that has been closed is an OSError
        if signals.received and getattr(end, "code", 1):
            sys.exit(signals.code())
        raise
    finally:
        signals.finish()
        said()


def said(line: str = "") -> None:
    """Everything printed, `line` on standard error last; where they are closed, nothing more is tried."""
    try:
        print(line, file=sys.stderr, end="\n" if line else "")
        sys.stderr.flush()
        sys.stdout.flush()
    except (OSError, ValueError):
        sys.stdout = sys.stderr = open(os.devnull, "w")


if __name__ == "__main__":
    main()
