"""Tables, plots and the report, made from records alone."""

import os
from contextlib import suppress


def _load_matplotlib(backend: str) -> None:
    """Import matplotlib, with `backend` where it is installed: the import fails where MPLBACKEND names one that is not.

    A notebook sets it to its own for all programs that it starts. Pictures are drawn here without any.
    """
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = backend  # programs that are started from here may have it
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend


if "MPLBACKEND" in os.environ:  # before any module of this package imports it; otherwise tables do without it
    _load_matplotlib(os.environ.pop("MPLBACKEND"))
