"""The commands about data sets: list, fetch."""

from typing import Annotated

import typer

from search.cli.app import data_app
from search.cli.options import DataDir
from search.cli.terminal import tell


@data_app.command("list")
def data_list() -> None:
    """The data sets that are known by name."""
    from search.data import catalogue

    for name in catalogue.names():
        tell(name)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument()], data_dir: DataDir = None) -> None:
    """Find a data set on this machine or download it; every file's digest is checked."""
    from search.data.fetch import fetch

    tell(f"{name} is in {fetch(name, data_dir)}")
