"""Records of what was trained: trials, scouts, confirmations and reproductions, and the data set they are of.

Tables and plots are functions of records and of nothing else. They are checked when they are made and when they are
read; `search.records.jsonl` keeps them, with those of audits and measurements.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_serializer,
    model_validator,
)

from search.data.source import Reading
from search.errors import present
from search.records.costs import Accuracy, Cost, Count, Finite, Minimised, Positive, Seconds, Seed, size_shown
from search.records.environment import Masked, Model, Moment, RecordBase
from search.records.statistics import Judgement, judge, summary
from search.tasks.score import MOST_DECIBELS, SCORES, Score
from search.training.recipe import MOST_EPOCHS, identity
from wavemix.config import LiteConfig


def _plain(value: Any) -> Any:
    """A pydantic model (a Recipe, an Epoch) as the plain data it is stored as."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _finite(value: Any) -> Any:
    """JSON has no NaN: a loss that is not a number is stored as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


LATER = ("threshold", "aims", "beside", "minimised")  # fields that records are without where they say nothing
Family = Literal["published", "extended"]
Kept = TypeVar("Kept", bound=RecordBase)
Target = Annotated[float, Field(gt=0, lt=MOST_DECIBELS)]


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
    split_seed: Seed | None = None
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
    epoch: Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
    train_loss: Annotated[float | None, BeforeValidator(_finite)] = None
    accuracy: Accuracy | None = None
    seconds: Seconds | None = None


class _Run(RecordBase):
    study: str
    config: LiteConfig
    recipe: Annotated[dict[str, JsonValue], BeforeValidator(_plain)]
    dataset: Data
    target: Target
    family: Family
    seeds: list[Seed]
    parameters: Count  # closed form
    parameters_counted: Count | None = None  # None: never built
    curves: list[list[Annotated[Point, BeforeValidator(_plain)]]] = Field([])  # one per seed
    accuracies: list[Accuracy | None] = Field([])  # one per seed
    state: Literal["complete", "pruned", "refused", "failed"]
    reason: Masked | None = None
    wall_seconds: Seconds = 0.0
    device_seconds: Seconds = 0.0
    minimised: Minimised | None = None  # by its search; None: the parameters

    @model_serializer(mode="wrap")
    def _as_ever(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """As records were before there were these fields."""
        return {name: value for name, value in write(self).items() if name not in LATER or value not in (None, [], {})}

    @property
    def objective(self) -> float:
        """What its search has made small."""
        return self.parameters if self.minimised is None else self.minimised.value

    @property
    def size(self) -> str:
        """See `size_shown`."""
        return size_shown(self.parameters, self.minimised)

    @property
    def score(self) -> Score:
        """What `accuracies`, whatever they are called, are scores of, and `target` is a value of."""
        return SCORES[self.config.task]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        most = self.score.most
        values = [*self.accuracies, *(point.accuracy for curve in self.curves for point in curve)]
        if any(value is not None and value > most for value in values):
            raise ValueError(f"a {self.score.name} above {most:g}")
        if self.target is not None and not self.score.possible(self.target):
            raise ValueError(f"a target {self.score.name} of {most:g} or more")
        return self

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


class _Judged(_Run):
    """A candidate trained on training images and judged (`accuracies`) on validation images."""

    accuracy_validation: Accuracy | None = None  # mean over seeds

    @model_validator(mode="after")
    def _mean(self) -> Self:
        values = [a for a in self.accuracies if a is not None]
        stated = self.accuracy_validation
        judged = self.state == "complete" and bool(values)
        if judged and stated is not None and not math.isclose(stated, math.fsum(values) / len(values), abs_tol=1e-6):
            raise ValueError("accuracy_validation is not the mean of accuracies")
        return self


class Scout(_Judged):
    """One candidate trained briefly on a few of the training images, to rank it among others: no trial."""

    kind: Literal["scout"] = "scout"


class Aim(Model):
    """One of several targets, and the validation score from which a trial is feasible for it."""

    target: Target
    threshold: Finite


class Trial(_Judged):
    """One candidate of a search, trained on the whole training part but for the validation images."""

    kind: Literal["trial"] = "trial"
    number: Count | None = None  # in its study
    parent: Count | None = None  # the trial this one goes on from
    threshold: Finite | None = None  # the validation score asked for; None: the target and the margin over it
    aims: list[Aim] = Field([])  # of a study with several targets, lowest first; `target` is the highest

    @property
    def targets(self) -> list[float]:
        return [aim.target for aim in self.aims] or [self.target]

    def each(self) -> list["Trial"]:
        """The trial at each target that it counts for."""
        if not self.aims:
            return [self]
        return [
            self.model_copy(update={"target": aim.target, "threshold": aim.threshold, "aims": []}) for aim in self.aims
        ]

    @property
    def needed(self) -> float:
        """The validation score from which it is feasible."""
        if self.threshold is not None:
            return self.threshold
        return self.score.threshold(self.target, self.dataset.validation_count)

    @property
    def feasible(self) -> bool:
        """Whether it reached what its search asked for."""
        mean = self.accuracy_validation
        return self.state == "complete" and mean is not None and mean >= self.needed


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
    # that the mean reaches the target; older records call it confirmed
    reached: bool = Field(validation_alias=AliasChoices("reached", "confirmed"))
    cost: Cost | None = None
    # other measures of the same networks on the test images, by name, one a seed
    beside: dict[str, list[Finite]] = Field({})

    @classmethod
    def of(cls, accuracies: Sequence[float], **fields: Any) -> Self:
        """A record with its statistics computed."""
        statistics, target = summary(accuracies), fields["target"]
        finished = fields.get("state") == "complete" and statistics["n"] > 0 and target is not None
        reached = finished and statistics["mean"] >= target
        return cls(accuracies=list(accuracies), reached=reached, **statistics, **fields)

    @property
    def clipped(self) -> tuple[float, float] | None:
        """The interval without what no score can be."""
        return self.interval and (max(0.0, self.interval[0]), min(self.score.most, self.interval[1]))

    @model_validator(mode="after")
    def _statistics(self) -> Self:
        for name, value in summary(self.accuracies).items():
            stated = getattr(self, name)
            if (stated is None) != (value is None) or not (value is None or np.allclose(stated, value, 0, 1e-9)):
                raise ValueError(f"{name} does not agree with accuracies")
        mean, target = self.mean, self.target
        met = self.state == "complete" and mean is not None and target is not None and mean >= target
        if self.reached and not met:
            raise ValueError("reached, but the mean is below the target or a seed was not finished")
        if any(len(values) != len(self.accuracies) for values in self.beside.values()):
            raise ValueError("another measure has not one value a seed")
        if self.cost is not None and self.cost.parameters != self.parameters:
            raise ValueError("the cost is that of a network with another number of parameters")
        return self


class Confirmation(_Tested):
    """A candidate's test with fresh seeds; `search.records.statistics` says when it ends, and how sure it is."""

    kind: Literal["confirmation"] = "confirmation"
    target: Target | None  # None: trained and tested without one
    looks: list[Positive] = Field([])  # numbers of seeds it could end after; empty: all at once
    attempt: Positive | None = None  # its number at its threshold, as known to the run; see `numbered`
    reused: list[Seed] = Field([])  # seeds that an earlier record's run had trained; this environment isn't theirs

    @property
    def network(self) -> tuple:
        """What a test is about: `Training.identity` of the network, its recipe and the images."""
        return identity(self.config, self.recipe, self.dataset.digest)

    @property
    def training(self) -> tuple:
        """What its result follows from."""
        return *self.network, tuple(self.seeds)

    def continues(self, other: "Confirmation") -> bool:
        """Whether it is no attempt of its own beside an earlier one: the same training, or more seeds of its plan."""
        same_plan = bool(self.looks) and self.looks == other.looks
        seeds = self.seeds[: len(other.seeds)] if same_plan else self.seeds
        return seeds == other.seeds and self.network == other.network

    @property
    def judgement(self) -> Judgement:
        """What its accuracies come to, as the attempt it has the number of (without one: the first)."""
        images = self.dataset.test_count if self.score.counted else None
        return judge(self.accuracies, present(self.target), self.looks, self.attempt or 1, images)

    @property
    def verdict(self) -> str:
        """'confirmed', 'reached' or 'missed'; 'failed' where the training broke, 'tested' where there is no target."""
        if self.state != "complete":
            return "failed"
        return "tested" if self.target is None else self.judgement.verdict


def at_each_target(records: Iterable[Any]) -> list[Any]:
    """The records, trials of a study with several targets at each of them (`Trial.each`)."""
    return [one for record in records for one in (record.each() if isinstance(record, Trial) else [record])]


def numbered(records: Iterable[Kept]) -> list[Kept]:
    """The records, each confirmation with the number of its attempt among all of its data, target and family.

    In the order they were made: what came later was no chance for it to pass by luck. At least the number that the run
    itself knew, whose records may not all be here.
    """
    records = list(records)
    tests = [r for r in records if isinstance(r, Confirmation) and r.target is not None]
    rows: dict[tuple, list[Confirmation]] = defaultdict(list)
    numbers: dict[int, int] = {}
    for run in sorted(tests, key=lambda run: run.created):
        row = rows[run.dataset.population, round(present(run.target), 9), run.family]
        known = [numbers[id(other)] for other in row if run.continues(other)]
        following = 1 + max((numbers[id(other)] for other in row), default=0)
        numbers[id(run)] = known[0] if known else max(run.attempt or 1, following)
        row.append(run)
    return [r.model_copy(update={"attempt": numbers[id(r)]}) if id(r) in numbers else r for r in records]


class Reproduction(_Tested):
    """A confirmation run again: the same configuration, recipe, seeds and data. It is no attempt of its own."""

    kind: Literal["reproduction"] = "reproduction"
    row: str  # of the parameter-efficiency table
    reproduces: Moment  # `created` of the confirmation
    recorded: list[Accuracy]  # its accuracies
