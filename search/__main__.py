"""What `wavemix` and `python -m search` start."""

import os
import sys
from contextlib import suppress

from .errors import UserError
from .terminal import open_streams, tell


def main() -> None:
    """Run the command; Ctrl-C is one line and exit code 130, also while the command is being loaded."""
    os.environ.pop("MPLBACKEND", None)  # Jupyter's may not be installed here; pictures are drawn without any
    open_streams()
    try:
        from . import cli

        cli.main()
    except KeyboardInterrupt:
        with suppress(UserError):  # its reader may have been interrupted as well
            tell("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
