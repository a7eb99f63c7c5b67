"""What `wavemix audit --protocol` prints: how upstream's published figures come about."""

import json
from collections.abc import Mapping, Sequence

from rich.console import Group

from search.cli.listing import Block, Listing
from search.cli.terminal import show, tell
from search.published.figures import Figure, Protocol, figures, protocols


def protocol(as_json: bool = False) -> None:
    """Print every published figure with what there is to know of it, and what each published script computes."""
    if as_json:
        rows = [{**figure.model_dump(mode="json"), "flags": figure.flags} for figure in figures()]
        scripts = {name: found.model_dump(mode="json") for name, found in protocols().items()}
        return tell(json.dumps({"figures": rows, "scripts": scripts}))
    show(Group(_figures(figures()), *_scripts(protocols(), figures())))


def _figures(rows: Sequence[Figure]) -> Listing:
    title = "Published figures. Chosen on test: on the images that the figure is of, as every published script does"
    table = Listing("figure", title=title)
    table.add_column("published", justify="right")
    for column in ("what it measures", "script", "read", "stands against"):
        table.add_column(column)
    for row in rows:
        name = f"{row.data}, {row.metric}{f': {row.audit or row.network}' if row.audit or row.network else ''}"
        told = f"{row.stated:.2f} %" if isinstance(row.stated, float) else row.stated
        table.add_row(
            name, str(told), "; ".join(row.flags), row.protocol or "-", "yes" if row.read else "no", row.against or "-"
        )
    return table


LABELS = {
    "metric": "metric",
    "chosen_on": "epoch chosen on",
    "averaging": "averaging",
    "at_test": "augmentation at test time",
    "start": "start weights",
    "rerun": "a rerun",
    "file": "source",
}


def _scripts(found: Mapping[str, Protocol], rows: Sequence[Figure]) -> list[Block]:
    blocks = []
    for name, script in found.items():
        of = [f"{row.data} {row.stated}" for row in rows if row.protocol == name and row.value is not None]
        facts = {label: getattr(script, field) for field, label in LABELS.items()}
        blocks.append(Block(name, {"of": ", ".join(of) or "no published figure", **facts}))
    return blocks
