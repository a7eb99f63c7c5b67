"""What `wavemix` and `python -m search` start."""

import sys


def main() -> None:
    """Run the command; Ctrl-C is one line and exit code 130, also while the command is being loaded."""
    try:
        from . import cli

        cli.main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
