"""What a task is: data, augmentation, head, loss, metric and score; search and confirmation know nothing else of it."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.data.source import TaskName
from search.data.split import Portion
from search.errors import UserError
from search.tasks.score import SCORES, Score
from search.training.outcome import Epoch, Trained
from search.training.recipe import Recipe
from wavemix.config import LiteConfig, Views

OnEpoch = Callable[[int, list[Epoch]], bool | None]
State = Mapping[str, Tensor]


@dataclass
class Measured:
    """What networks come to on images, one number a seed: the score, and other measures by name."""

    scores: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: "Measured") -> None:
        """Those of further seeds."""
        self.scores += other.scores
        for name, values in other.beside.items():
            self.beside.setdefault(name, []).extend(values)


class Task(ABC):
    """A task; the methods take data of its own kind (a `Portion`).

    Attributes:
        name: of the task, as `--task` takes it.
        ceiling: number of parameters to stay below where nothing is published.
    """

    name: TaskName
    ceiling = 50_000

    @property
    def score(self) -> Score:
        """What its networks are judged by."""
        return SCORES[self.name]

    @abstractmethod
    def own(self, data: Portion) -> dict[str, Any]:
        """What follows from the data for any configuration: channels, classes, and a head where it is not a choice."""

    @abstractmethod
    def choices(self, data: Portion) -> dict[str, tuple]:
        """Name -> values of the hyperparameters of a search that are others than a classifier's."""

    def heads(self, data: Portion) -> dict[str, dict[str, Any]]:
        """Name -> head (as JSON) to choose from; none where there is no choice."""
        return {}

    def views(self, recipe: Recipe) -> tuple[Views, ...]:
        """What a trained network may average its outputs over, the most first: views that its training shows it.

        Of others it knows little, and the mean would be worse than what it makes of the image itself.
        """
        return ("mirror", "one") if recipe.flip else ("one",)

    def image(self, data: Portion) -> tuple[int, int, int]:
        """Channels, height and width of what a network takes, as its cost is stated for."""
        return data.shape

    @abstractmethod
    def recipe(self, data: Portion, parameters: int) -> Recipe:
        """The recipe for these data and networks of up to `parameters`."""

    @abstractmethod
    def validation_count(self, data: Portion) -> int:
        """How many training images validate where the data do not say which."""

    def few(self, data: Portion) -> int:
        """How many of the training images a brief training learns something of."""
        return max(1, len(data) // 5)

    def threshold(self, target: float, validation: Portion, test: Callable[[], Portion] | None) -> float:
        """The validation score from which a trial is feasible. `test` loads the test images, whose kind it may depend
        on; no network is ever judged by them here."""
        return self.score.threshold(target, len(validation))

    @abstractmethod
    def check(self, config: LiteConfig, recipe: Recipe, data: Portion) -> None:
        """Raise UserError where a network or a recipe does not go with these data, before anything is trained."""

    def check_recipe(self, recipe: Recipe, data: Portion) -> None:  # noqa: B027, not every task refuses some
        """Raise UserError where a recipe does not go with these data, whatever the network."""

    @abstractmethod
    def train(
        self,
        config: LiteConfig,
        recipe: Recipe,
        data: Portion,
        seeds: Sequence[int],
        *,
        validation: Portion | None = None,
        on_epoch: OnEpoch | None = None,
        checkpoint: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> list[Trained]:
        """Train one network per seed; see `search.training.train.train`. The accuracies are scores."""

    @abstractmethod
    def measure(self, config: LiteConfig, states: Sequence[State], train: Portion, test: Portion) -> Measured:
        """Scores of the networks of `Trained.state` on `test`; `train` is what they were trained on."""

    @abstractmethod
    def normalisation(self, data: Portion) -> tuple[Tensor, Tensor]:
        """What is taken from inputs between 0 and 1, and what they are divided by: a number a channel."""


def task_of(data: Portion) -> Task:
    """The task that data were loaded for."""
    return task_named(data.source.reading.task)


def task_named(name: TaskName) -> Task:
    """The task of this name: TASK of its module, which is imported when the task is first asked for, so that nothing
    that uses tasks depends on any one of them."""
    return importlib.import_module(f"search.tasks.{name.replace('-', '_')}").TASK


def mismatch(config: LiteConfig, own: Mapping[str, Any], label: str) -> None:
    """Raise UserError where a configuration says other things than the data."""
    for name, value in own.items():
        said = getattr(config, name)
        if said != value:
            raise UserError(f"the network has {name} {said}, {label} needs {value}: change the configuration")
