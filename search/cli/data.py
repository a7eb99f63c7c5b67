"""The commands about data sets: list, fetch."""

import json
from typing import Annotated

import typer

from search.cli.app import data_app
from search.cli.options import DataDir, Json
from search.cli.terminal import show, tell


@data_app.command("list")
def data_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the data sets that are known by name, their sizes, and where each one is on this machine."""
    from search.data.catalogue import CLASSES, COPIES, OFFICIAL
    from search.data.fetch import locate

    rows = []
    for name, known in [*OFFICIAL.items(), *COPIES.items()]:
        place = locate(name, data_dir=data_dir)
        images = known.images if name in OFFICIAL else tuple(known.counts.values())
        rows.append(
            {
                "name": name,
                "train_images": images[0],
                "test_images": images[1],
                "shape": list(known.shape),
                "classes": len(CLASSES[name if name in CLASSES else "cifar10"]),
                "download_megabytes": known.megabytes if name in OFFICIAL else None,
                "place": None if place is None else str(place),
            }
        )
    if as_json:
        return tell(json.dumps(rows))
    from search.cli.listing import Listing

    table = Listing("name", "images", "classes", "size", "where")
    for row in rows:
        channels, height, width = row["shape"]
        size = f"{height} x {width}, {'grey' if channels == 1 else 'colour'}"
        missing = f"to be fetched, {row['download_megabytes']} MB" if row["download_megabytes"] else "not here"
        images = f"{row['train_images']:,} + {row['test_images']:,}"
        table.add_row(row["name"], images, str(row["classes"]), size, row["place"] or missing)
    show(table)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument()], data_dir: DataDir = None) -> None:
    """Find a data set on this machine or download it; every file's digest is checked."""
    from search.data.fetch import fetch

    tell(f"{name} is in {fetch(name, data_dir)}")
