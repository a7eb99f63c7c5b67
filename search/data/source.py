"""What a user names as data, and how the images of a folder or archive are read: one object for all commands."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Variant = Literal["official", "jpeg", "folder"]
TaskName = Literal["classification", "segmentation", "super-resolution"]
Edge = Annotated[int, Field(ge=1, le=4096)]


class Reading(BaseModel):
    """How the files of a folder or archive become a data set; part of the records of what was trained on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: tuple[Edge, Edge] | None = Field(
        default=None, description="height and width in pixels, antialiased; None: as is"
    )
    test_split: float | None = Field(
        default=None, gt=0, lt=1, description="share of each class that becomes the test part"
    )
    skip_unreadable: bool = Field(default=False, description="leave out what can't be read, instead of refusing all")
    task: TaskName = Field(default="classification", description="what networks are trained for on the images")
    scale: Literal[2, 3, 4] | None = Field(default=None, description="of super-resolution: how many times larger")
    test_set: str | None = Field(default=None, description="of several test sets the one that decides")


PLAIN = Reading()


@dataclass(frozen=True)
class Source:
    """A data set as it is loaded: `name` is one in `search.data.catalogue` or the path of a folder or archive."""

    name: str
    reading: Reading = PLAIN

    def at(self, name: str) -> "Source":
        """The same data in another place."""
        return replace(self, name=name)

    def words(self) -> list[str]:
        """What names it on a command line."""
        reading = self.reading
        return [
            self.name,
            *(["--resize", ",".join(map(str, reading.resize))] if reading.resize else []),
            *(["--test-split", f"{reading.test_split:g}"] if reading.test_split else []),
            *["--skip-unreadable"] * reading.skip_unreadable,
            *(["--task", reading.task] if reading.task != PLAIN.task else []),
            *(["--scale", str(reading.scale)] if reading.scale else []),
            *(["--test-set", reading.test_set] if reading.test_set else []),
        ]


Part = Literal["train", "test"]


@dataclass(frozen=True)
class File:
    """One official file. `md5` is that of its unzipped content when `zipped`, else of the file as it is."""

    name: str
    md5: str
    part: Part | None = None  # None: holds both parts
    zipped: bool = False
