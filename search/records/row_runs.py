"""What is known of a row of the benchmark table that was run here; `search.records.benchmarks` makes a record of it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
METRICS = {"classification": "accuracy", "segmentation": "mIoU", "super-resolution": "PSNR"}
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RowData(_Part):
    """The images of a run. `limited`: training images were left out on purpose, to be done sooner."""

    label: str
    train_count: Positive
    validation_count: Count
    test_count: Positive
    limited: bool = False
    test_split: str = ""  # how the test part was made, where the data have none


class RowEpoch(_Part):
    """One epoch: mean loss of training images, score of validation images where there are any: a share, or dB."""

    phase: Positive
    epoch: Positive
    loss: Finite
    score: Finite | None
    lr: Finite
    seconds: Annotated[float, Field(ge=0, le=1e10)]


class PublishedFigure(_Part):
    """Which of `search.published.figures` a run is of."""

    task: str
    data: str
    value: Finite | None
    source: str


class RowResult(_Part):
    """A row trained once, from one seed, and tested once.

    The weights tested are those that the last phase hands on: of the epoch that validation images chose, or the last.
    """

    row: str
    task: Literal["classification", "segmentation", "super-resolution"]
    metric: Literal["accuracy", "mIoU", "PSNR"]
    published: PublishedFigure | None = None
    recipe_name: str
    recipe: dict[str, JsonValue]
    network: str
    arguments: dict[str, JsonValue] = Field({})
    parameters: Count
    data: RowData
    seed: Count
    start: str | None = None  # the name of the file of weights that it began with
    setup: dict[str, JsonValue]
    processes: Positive = 1
    mean: list[Finite]
    deviation: list[Finite]
    curve: list[RowEpoch] = Field(min_length=1)
    score: Finite
    beside: dict[str, Finite] = Field({})

    @property
    def epochs(self) -> int:
        return len(self.curve)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.metric != METRICS[self.task]:
            raise ValueError(f"{self.metric} is no metric of {self.task}")
        named = [(self.metric, self.score), *((self.metric, epoch.score) for epoch in self.curve), *self.beside.items()]
        for name, value in named:
            least, most = (0, 100) if name.startswith("PSNR") else (-1 if name.startswith("SSIM") else 0, 1)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{value:g} is no {name}")
        return self
