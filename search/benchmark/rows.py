"""Rows of the benchmark table: each is a TOML file in `table`, or one of a user's own."""

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from torch import nn

from search.benchmark.layouts import LAYOUTS, Layout
from search.benchmark.recipe import LOSSES, Plain, Recipe, recipe_of
from search.data.source import TaskName
from search.errors import UserError
from search.published.figures import Figure, figures
from search.tasks.score import SCORES, Score
from wavemix import SemSegment, cityscapes, registry, sisr
from wavemix.config import LiteConfig
from wavemix.heads import Enlarged
from wavemix.lite import WaveMixLite
from wavemix.padding import take_any_size

FOLDER = Path(__file__).parent / "table"
DENSE = SemSegment.WaveMix, cityscapes.WaveMix, sisr.WaveMix  # which refuse sizes that do not go with their levels
LUMA = "wavemixsr_"  # networks of the registry that take Y alone


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
        if self.lite:
            return self.lite.in_channels
        return 1 if str(self.name).startswith(LUMA) else 3

    @property
    def classes(self) -> int:
        """0 of a network for super-resolution."""
        if self.scale:
            return 0
        return self.lite.num_classes if self.lite else int(self.arguments["num_classes"])

    @property
    def scale(self) -> int:
        """How many times larger than an image what the network makes of it is, 0 where that is no image."""
        if self.lite:
            return getattr(self.lite.head, "scale", 0)
        end = str(self.name).rpartition("_x")[2]
        return int(end) if end.isdigit() else 0

    @property
    def shown(self) -> str:
        return self.lite.name if self.lite else str(self.name)

    def parameters(self) -> int:
        """In closed form."""
        return self.lite.parameters() if self.lite else registry.count(str(self.name), **self.arguments)

    def build(self) -> nn.Module:
        """With random weights; for images of any size, where it isn't a classifier. What is added to a bicubic
        enlargement begins with nothing."""
        network = WaveMixLite(self.lite) if self.lite else registry.create(str(self.name), **self.arguments)
        if isinstance(network, DENSE):
            take_any_size(network, *(2**network.level * factor for factor in network.downscale))
        if isinstance(head := getattr(network, "expand", None), Enlarged):
            head.add_nothing()
        return network


class Published(Plain):
    """Which of `search.published.figures` a row is about: one that has this task, data, value and source."""

    task: str
    data: str
    value: float | None = None  # per cent, or dB; left out where no figure is published
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
    task: TaskName
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
        if bool(self.network.scale) != (self.task == "super-resolution"):
            raise ValueError(f"network: {self.network.shown} is none for {self.task}")
        for name, recipe in self.recipes.items():
            if wrong := _wrong(recipe, self.task):
                raise ValueError(f"recipes: {name} {wrong}")
        return self

    @property
    def score(self) -> Score:
        return SCORES[self.task]

    @property
    def metric(self) -> str:
        return self.score.name

    @property
    def data(self) -> Layout:
        return LAYOUTS[self.layout]

    def recipe(self, name: str) -> Recipe:
        """Raises UserError where the row has none of that name."""
        if name not in self.recipes:
            raise UserError(f"{self.name} has no recipe {name!r}, only {', '.join(self.recipes)}")
        return self.recipes[name]


def _wrong(recipe: Recipe, task: TaskName) -> str:
    """What a recipe does that the task can't have; nothing where it goes with it."""
    if recipe.loss is not None and recipe.loss not in LOSSES[task]:
        return f"has the loss {recipe.loss}, and {task} has {', '.join(LOSSES[task])}"
    if task == "segmentation" and (recipe.auto or recipe.mixing or recipe.fit == "resized-crop"):
        return "changes images as their masks can't be changed"
    if task == "super-resolution":
        other = recipe.auto or recipe.mixing or recipe.colour or recipe.scale or recipe.label_smoothing
        if other or recipe.fit not in ("as-is", "crop") or recipe.normalise != "measured":
            return "changes images in other ways than by crops, flips and turns"
    if recipe.class_weights and task != "segmentation":
        return "weights classes, which is for segmentation"
    return "turns images, which is for super-resolution" if recipe.turns and task != "super-resolution" else ""


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
