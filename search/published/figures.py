"""Upstream's published figures and what the scripts behind them compute, read from the tables beside this file."""

import csv
import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

HERE = Path(__file__).parent
SCRIPTLESS = "no training script published"


def _filled(value: Any) -> Any:
    return None if value == "" else value


Percent = Annotated[float, Field(ge=0, le=100)]
Yes = Annotated[bool, BeforeValidator({"yes": True, "no": False}.get)]


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Protocol(Row):
    """How a figure comes about where its script is run as published; "scored images" are those that it is of."""

    file: str  # repository: path
    metric: str  # what is computed of the images
    chosen_on: str  # which images decide on the epoch
    averaging: str
    at_test: str  # augmentation, and how images are prepared otherwise than for training
    start: str  # weights
    rerun: str  # whether one is contaminated
    flags: tuple[str, ...]  # the same in a few words


class Figure(Row):
    """One published figure of upstream. `read`: whether it was seen where it is published, not in an excerpt."""

    task: str
    data: str
    metric: str
    # per cent, or dB where the metric is PSNR; None: no figure
    value: Annotated[Percent | None, BeforeValidator(_filled)]
    network: str  # as published, where it has no row in the audit
    audit: Annotated[str | None, BeforeValidator(_filled)]  # the audit's row of its network
    source: str
    read: Yes
    protocol: Annotated[str | None, BeforeValidator(_filled)]  # None: no script is published
    against: str  # other published figures that it stands against
    note: str

    @property
    def stated(self) -> float | str:
        """The value for a table: per cent as a number, dB and what is missing in words."""
        if self.value is None:
            return "no figure found"
        return f"{self.value:.2f} dB" if "PSNR" in self.metric else self.value

    @property
    def script(self) -> Protocol | None:
        return protocols()[self.protocol] if self.protocol else None

    @property
    def flags(self) -> tuple[str, ...]:
        """What there is to know of the figure before it is compared with another."""
        return self.script.flags if self.script else (SCRIPTLESS,)


class Peer(Row):
    """Another author's network and its figure. What is known of how the figure was chosen stands in `chosen`."""

    task: Literal["classification", "segmentation", "super-resolution"]
    data: str
    metric: str
    target: Annotated[Percent | None, BeforeValidator(_filled)]  # of the parameter-efficiency table
    network: str
    parameters: Annotated[int, Field(ge=0)]
    parameters_are: Literal["exact", "rounded", "below"]
    figure: Percent  # per cent, or dB
    figure_is: Literal["exact", "above"]
    chosen: str
    source: str
    read: Literal["checked", "not read"]  # in the source itself

    @property
    def bounds(self) -> str:
        """What the numbers are where they are not exact."""
        parts = {"rounded": "parameters rounded", "below": f"fewer than {self.parameters:,} parameters"}
        said = [parts[self.parameters_are]] if self.parameters_are in parts else []
        return "; ".join(said + [f"more than {self.figure:g}"] * (self.figure_is == "above"))


def _table(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@functools.cache
def figures() -> tuple[Figure, ...]:
    """Every published figure of upstream."""
    return tuple(Figure.model_validate(row) for row in _table("figures.csv"))


@functools.cache
def peers() -> tuple[Peer, ...]:
    """Other authors' networks."""
    return tuple(Peer.model_validate(row) for row in _table("peers.csv"))


@functools.cache
def protocols() -> dict[str, Protocol]:
    """Name -> what a published script computes."""
    found = tomllib.loads((HERE / "protocols.toml").read_text("utf-8"))
    return {name: Protocol.model_validate(row) for name, row in found.items()}
