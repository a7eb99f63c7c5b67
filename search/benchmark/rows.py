"""Rows of the benchmark table: each is a TOML file in `table`, or one of a user's own."""

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from torch import nn

from search.benchmark.layouts import LAYOUTS, Layout
from search.benchmark.recipe import Plain, Recipe, recipe_of
from search.errors import UserError
from search.published.figures import Figure, figures
from wavemix import registry
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

FOLDER = Path(__file__).parent / "table"
Task = Literal["classification", "segmentation"]
METRICS: dict[str, str] = {"classification": "accuracy", "segmentation": "mIoU"}


class Network(Plain):
    """A network: a name of `wavemix.registry` with arguments of its constructor, or the fields of a `LiteConfig`."""

    name: str | None = None
    arguments: dict[str, Any] = Field({})
    lite: LiteConfig | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.lite is None) or (self.lite is not None and self.arguments):
            raise ValueError("a network has a name, with arguments, or is lite")
        if self.name is not None:
            try:
                registry.count(self.name, **self.arguments)
            except TypeError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def channels(self) -> int:
        return self.lite.in_channels if self.lite else 3

    @property
    def classes(self) -> int:
        return self.lite.num_classes if self.lite else int(self.arguments["num_classes"])

    @property
    def shown(self) -> str:
        return self.lite.name if self.lite else str(self.name)

    def parameters(self) -> int:
        """In closed form."""
        return self.lite.parameters() if self.lite else registry.count(str(self.name), **self.arguments)

    def build(self) -> nn.Module:
        """With random weights."""
        return WaveMixLite(self.lite) if self.lite else registry.create(str(self.name), **self.arguments)


class Published(Plain):
    """Which of `search.published.figures` a row is about: one that has this task, data, value and source."""

    task: str
    data: str
    value: float | None = None  # per cent; left out where no figure is published
    source: str

    def figure(self) -> Figure:
        """Raises ValueError where there is none, or more than one."""
        same = [f for f in figures() if (f.task, f.data, f.value, f.source) == tuple(self.model_dump().values())]
        if len(same) != 1:
            raise ValueError(f"{len(same)} published figures are {self.model_dump()}")
        return same[0]


def _recipe(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("like"), str):
        changes = {name: given for name, given in value.items() if name != "like"}
        return recipe_of(value["like"], changes)
    return value


Recipes = dict[str, Annotated[Recipe, BeforeValidator(_recipe)]]


class Row(Plain):
    """One row. `note` says what is not known of the published configuration, so that the row may be another one."""

    name: str
    task: Task
    label: str  # of the data set, in tables
    layout: str  # of `search.benchmark.layouts`
    network: Network
    recipes: Recipes = Field(min_length=1)
    published: Published | None = None
    note: str = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: there is no {self.layout!r}, only {', '.join(LAYOUTS)}")
        if LAYOUTS[self.layout].task != self.task:
            raise ValueError(f"layout: {self.layout} is for {LAYOUTS[self.layout].task}")
        if self.published is not None:
            self.published.figure()
        for name, recipe in self.recipes.items():
            if self.task == "segmentation" and (recipe.auto or recipe.mixing or recipe.fit == "resized-crop"):
                raise ValueError(f"recipes: {name} changes images as their masks can't be changed")
            if recipe.class_weights and self.task != "segmentation":
                raise ValueError(f"recipes: {name} weights classes, which is for segmentation")
        return self

    @property
    def metric(self) -> str:
        return METRICS[self.task]

    @property
    def data(self) -> Layout:
        return LAYOUTS[self.layout]

    def recipe(self, name: str) -> Recipe:
        """Raises UserError where the row has none of that name."""
        if name not in self.recipes:
            raise UserError(f"{self.name} has no recipe {name!r}, only {', '.join(self.recipes)}")
        return self.recipes[name]


def read(path: Path) -> Row:
    """A row's file; its name is the file's. Raises UserError for what is no row."""
    try:
        return Row.model_validate({"name": path.stem} | tomllib.loads(path.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {place + ': ' if place else ''}{first['msg']}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())[:200]}") from error


@functools.cache
def rows() -> dict[str, Row]:
    """All rows by name."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.toml"))}


def row(name: str) -> Row:
    """The row of a name, or of a TOML file. Raises UserError for an unknown one."""
    if name in rows():
        return rows()[name]
    if name.endswith(".toml"):
        return read(Path(name).expanduser())
    raise UserError(f"there is no row {name!r}: `wavemix benchmark list` names all, or give the path of a .toml file")
