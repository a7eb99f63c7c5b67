"""Records: what was run and what came out. Tables and plots are functions of these and of nothing else.

They are checked when they are made and when they are read; `search.journal` keeps them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)
from scipy.special import stdtrit

from wavemix.config import LiteConfig

from .cost import Cost
from .environment import Environment, Masked, Model, environment
from .recipe import filled
from .source import Reading

SCHEMA_VERSION = 1


def _plain(value: Any) -> Any:
    """A pydantic model (a Recipe, an Epoch) as the plain data it is stored as."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _finite(value: Any) -> Any:
    """JSON has no NaN: a loss that is not a number is stored as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Accuracy = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Family = Literal["published", "extended"]


class _Record(Model):
    schema_version: Literal[1] = SCHEMA_VERSION
    created: Annotated[AwareDatetime, AfterValidator(lambda t: t.astimezone(UTC))] = Field(
        default_factory=lambda: datetime.now(UTC)
    )
    environment: Environment = Field(default_factory=environment)


class Data(Model):
    """The data set of a run. `digest` is of the images and labels trained on, `test_digest` of those tested on.

    `reading` says how the files of a folder were read, where not plainly; `skipped` of them could not be. Validation
    images without a `split_seed` are a part of the data's own.
    """

    name: str
    label: str  # what tables print
    variant: str
    digest: str
    train_count: Count
    validation_count: Count = 0
    split_seed: int | None = None
    test_digest: str | None = None
    test_count: Count | None = None
    reading: Reading | None = None
    skipped: Count = 0

    @property
    def population(self) -> tuple[str, ...]:
        """What results are compared on: folders of one name are the same only with the same images."""
        return self.label, self.variant, self.digest if self.variant == "folder" else ""


def label(dataset: Data) -> str:
    """What a data set is called in a table: a copy or a user's folder never passes for the official data set."""
    if dataset.variant == "folder":
        return f"{dataset.label} (folder)"
    if dataset.variant == "jpeg" and "JPEG" not in dataset.label:
        return f"{dataset.label} (JPEG copy)"
    return dataset.label


def base_label(name: str) -> str | None:
    """The official data set a label is a variant of; None for a folder."""
    return None if name.endswith("(folder)") else name.removesuffix(" (JPEG copy)")


def counted(count: int, noun: str = "seed") -> str:
    """1 seed, 3 seeds, 3 fresh seeds."""
    return f"{count:,} {noun}" + "s" * (count != 1)


class Point(Model):
    """One epoch of one seed's curve."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    epoch: int
    train_loss: Annotated[float | None, BeforeValidator(_finite)] = None
    accuracy: Accuracy | None = None
    seconds: Seconds | None = None


class _Run(_Record):
    study: str
    config: LiteConfig
    recipe: Annotated[dict[str, JsonValue], BeforeValidator(_plain)]
    dataset: Data
    target: Annotated[float, Field(gt=0, lt=1)]
    family: Family
    seeds: list[int]
    parameters: Count  # closed form
    parameters_counted: Count | None = None  # None: never built
    curves: list[list[Annotated[Point, BeforeValidator(_plain)]]] = Field([])  # one per seed
    accuracies: list[Accuracy | None] = Field([])  # one per seed
    state: Literal["complete", "pruned", "refused", "failed"]
    reason: Masked | None = None
    wall_seconds: Seconds = 0.0
    device_seconds: Seconds = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.parameters != self.config.parameters():
            raise ValueError(f"parameters is not the configuration's closed form {self.config.parameters()}")
        if self.parameters_counted not in (None, self.parameters):
            raise ValueError("parameters_counted differs from the closed form")
        if self.family == "published" and self.config.family != "published":
            raise ValueError("an extended configuration in a study of the published family")
        if self.state == "complete" and len(self.accuracies) != len(self.seeds):
            raise ValueError("complete, but accuracies and seeds differ in length")
        if len(self.accuracies) > len(self.seeds):
            raise ValueError("more accuracies than seeds")
        if self.curves and len(self.curves) != len(self.seeds):
            raise ValueError("curves and seeds differ in length")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed stands twice")
        return self


class Trial(_Run):
    """One candidate of a search, trained on the training part and judged (`accuracies`) on validation images."""

    kind: Literal["trial"] = "trial"
    number: int | None = None  # in its study
    accuracy_validation: Accuracy | None = None  # mean over seeds
    parent: int | None = None  # the trial this one goes on from

    @model_validator(mode="after")
    def _mean(self) -> Self:
        values = [a for a in self.accuracies if a is not None]
        stated = self.accuracy_validation
        judged = self.state == "complete" and stated is not None and values
        if judged and not math.isclose(stated, math.fsum(values) / len(values), abs_tol=1e-6):
            raise ValueError("accuracy_validation is not the mean of accuracies")
        return self


class _Tested(_Run):
    """A network retrained on the whole training set and tested once a seed, at the last epoch.

    Built with `of`, or with the statistics given and checked. `interval` is the two-sided 95 % interval of the mean
    (Student's t, n - 1 degrees of freedom), None for fewer than two accuracies.
    """

    accuracies: list[Accuracy]  # on the test set, one per finished seed
    mean: Accuracy | None
    interval: tuple[Finite, Finite] | None
    min: Accuracy | None
    max: Accuracy | None
    n: Count
    confirmed: bool
    cost: Cost | None = None

    @classmethod
    def of(cls, accuracies: Sequence[float], confirmed: bool | None = None, **fields: Any) -> Self:
        """A record with its statistics computed; confirmed where the mean reaches the target, unless said."""
        statistics = summary(accuracies)
        if confirmed is None:
            finished = fields.get("state") == "complete" and statistics["n"] > 0
            confirmed = finished and statistics["mean"] >= fields["target"]
        return cls(accuracies=list(accuracies), confirmed=confirmed, **statistics, **fields)

    @property
    def clipped(self) -> tuple[float, float] | None:
        """The interval without what no accuracy can be."""
        return self.interval and (max(0.0, self.interval[0]), min(1.0, self.interval[1]))

    @model_validator(mode="after")
    def _statistics(self) -> Self:
        for name, value in summary(self.accuracies).items():
            stated = getattr(self, name)
            if (stated is None) != (value is None) or not (value is None or np.allclose(stated, value, 0, 1e-9)):
                raise ValueError(f"{name} does not agree with accuracies")
        if self.confirmed and (self.state != "complete" or self.mean is None or self.mean < self.target):
            raise ValueError("confirmed, but the mean is below the target or a seed was not finished")
        if self.cost is not None and self.cost.parameters != self.parameters:
            raise ValueError("the cost is that of a network with another number of parameters")
        return self


class Confirmation(_Tested):
    """A candidate's test with fresh seeds; `search.stopping` says after how many seeds it ends, and how sure it is."""

    kind: Literal["confirmation"] = "confirmation"
    looks: list[Annotated[int, Field(ge=1)]] = Field([])  # numbers of seeds it could end after; empty: all at once
    attempt: int | None = Field(None, ge=1)  # the how manieth at its threshold, as known to the run
    reused: list[int] = Field([])  # seeds that an earlier record's run had trained; this one's environment isn't theirs

    @property
    def network(self) -> tuple:
        """What a test is about: the network, its recipe and the images."""
        return tested(self.config, self.recipe, self.dataset.digest)

    @property
    def training(self) -> tuple:
        """What its result follows from: the same training done again is no attempt of its own."""
        return *self.network, tuple(self.seeds)


def tested(config: LiteConfig, recipe: Mapping[str, JsonValue], digest: str) -> tuple:
    """`Confirmation.network` of these."""
    return config, json.dumps(filled(recipe), sort_keys=True), digest


class Reproduction(_Tested):
    """A confirmation run again: the same configuration, recipe, seeds and data. It is no attempt of its own."""

    kind: Literal["reproduction"] = "reproduction"
    row: str  # of the parameter-efficiency table
    reproduces: AwareDatetime  # `created` of the confirmation
    recorded: list[Accuracy]  # its accuracies


def mean_of(accuracies: Sequence[float]) -> float:
    """Their mean, between the least and the greatest also where rounding would leave that range."""
    return min(max(accuracies), max(min(accuracies), math.fsum(accuracies) / len(accuracies)))


def summary(accuracies: Sequence[float]) -> dict[str, Any]:
    """mean, interval, min, max (None of nothing) and n; the interval as in `Confirmation`, not clipped to [0, 1]."""
    n = len(accuracies)
    if n == 0:
        return {"mean": None, "interval": None, "min": None, "max": None, "n": 0}
    low, high = min(accuracies), max(accuracies)
    mean = mean_of(accuracies)
    interval = None
    if n > 1:
        deviation = math.sqrt(math.fsum((a - mean) ** 2 for a in accuracies) / (n - 1))
        half = float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)
        interval = (mean - half, mean + half)
    return {"mean": mean, "interval": interval, "min": low, "max": high, "n": n}


class Audit(_Record):
    """One network's parameter count by independent ways, and its cost. `agree` is checked against the counts."""

    kind: Literal["audit"] = "audit"
    row: str
    source: str  # where the configuration and the published figure stand
    published: Count | None = None  # None: not published
    published_millions: Count | None = None  # where only a figure rounded to millions is published ("28M")
    closed_form: Count | None = None  # None: no closed form is known for this network
    counted: Count
    fvcore: Count | None = None
    buffers: Count | None = None  # numbers kept beside the parameters (BatchNorm's statistics)
    agree: bool
    upsampling: list[str] = Field([])  # kinds of up-sampling that reproduce the published count
    upsampling_counts: dict[str, int] = Field({})
    configuration: dict[str, JsonValue] | None = None
    cost: Cost | None = None
    note: str = ""

    @model_validator(mode="after")
    def _agreement(self) -> Self:
        others = (self.published, self.closed_form, self.fvcore)
        equal = all(other is None or other == self.counted for other in others)
        if self.published_millions is not None:
            equal = equal and round(self.counted / 1e6) == self.published_millions
        if self.agree and not equal:
            raise ValueError("agree is set, but the counts differ")
        return self


class Benchmark(_Record):
    """One measurement beside peers' in the same run: medians, and ratios ours / peer's (filled in if left out)."""

    kind: Literal["benchmark"] = "benchmark"
    name: str
    unit: str
    ours: Finite
    peers: dict[str, Finite] = Field({})
    ratios: dict[str, Finite] = Field({})
    better: Literal["higher", "lower"] = "higher"
    repetitions: int = Field(ge=1)
    machine: str
    details: dict[str, JsonValue] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _ratios(cls, data: Any) -> Any:
        if isinstance(data, dict) and "ratios" not in data and isinstance(data.get("peers"), dict):
            try:
                ratios = {peer: data["ours"] / value for peer, value in data["peers"].items() if value}
                data = {**data, "ratios": ratios}
            except (KeyError, TypeError):
                pass  # the fields' own validation says what is wrong
        return data

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for peer, ratio in self.ratios.items():
            if peer not in self.peers:
                raise ValueError(f"a ratio to {peer!r}, which is not among the peers")
            if not math.isclose(ratio * self.peers[peer], self.ours, rel_tol=1e-6, abs_tol=1e-12):
                raise ValueError(f"the ratio to {peer!r} is not ours / peer's")
        return self


Record = Annotated[Trial | Confirmation | Reproduction | Audit | Benchmark, Field(discriminator="kind")]
