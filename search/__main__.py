"""What `wavemix` and `python -m search` start."""

import sys


def main() -> None:
    """Run the command; Ctrl-C while it is being loaded ends it without a traceback, as later."""
    try:
        from .cli import main
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    main()


if __name__ == "__main__":
    main()
