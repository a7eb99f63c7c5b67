"""The record of a row of the benchmark table that was run here."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from search.records.base import RecordBase
from search.records.costs import Accuracy, Count, Finite, Positive, Seconds, Seed
from search.records.environment import Masked, Model


class RowData(Model):
    """The images of a run. `limited`: training images were left out on purpose, to be done sooner."""

    label: str
    train_count: Positive
    validation_count: Count
    test_count: Positive
    limited: bool = False
    test_split: str = ""  # how the test part was made, where the data have none


class RowEpoch(Model):
    """One epoch: mean loss of training images, score of validation images where there are any."""

    phase: Positive
    epoch: Positive
    loss: Finite
    score: Accuracy | None
    lr: Finite
    seconds: Seconds


class PublishedFigure(Model):
    """Which of `search.published.figures` a run is of."""

    task: str
    data: str
    value: Finite | None
    source: str


class RowRun(RecordBase):
    """A row trained once, from one seed, and tested once.

    The weights tested are those that the last phase hands on: of the epoch that validation images chose, or the last.
    """

    kind: Literal["row-run"] = "row-run"
    row: str
    task: Literal["classification", "segmentation"]
    metric: Literal["accuracy", "mIoU"]
    published: PublishedFigure | None = None
    recipe_name: str
    recipe: dict[str, JsonValue]
    network: str
    arguments: dict[str, JsonValue] = Field({})
    parameters: Count
    data: RowData
    seed: Seed
    start: Masked | None = None  # the file of weights that it began with
    setup: dict[str, JsonValue]
    processes: Positive = 1
    mean: list[Finite]
    deviation: list[Finite]
    curve: list[RowEpoch]
    score: Accuracy
    beside: dict[str, Accuracy] = Field({})

    @property
    def epochs(self) -> int:
        return len(self.curve)

    @property
    def run(self) -> tuple:
        """What runs of several seeds have in common."""
        return self.row, self.recipe_name, str(self.recipe), str(self.data), self.environment.device, self.start

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.score > 1 or any(value > 1 for value in self.beside.values()):
            raise ValueError(f"a score above 1 is no {self.metric}")
        if not self.curve:
            raise ValueError("a run has at least one epoch")
        return self
