"""Tests of stored networks: by the plain module and PyTorch's own operations, and compared with what is on record.

So they are a check of the training's kernels, which tested the networks when they were trained.
"""

import math

import numpy as np
from numpy.typing import NDArray

from search.data import datasets
from search.data.catalogue import COPIES, OFFICIAL
from search.data.source import PLAIN, Source
from search.data.split import Split
from search.errors import UserError
from search.inference.classifier import Classifier, scores
from search.inference.stored import Stored
from search.metrics.classification import Calibration, confusion, per_class, softmax, top
from search.records.environment import Model
from search.records.statistics import summary
from search.runtime import Runtime
from wavemix.config import LiteConfig

TOLERANCE = 1  # images a seed: processors round otherwise


class Tested(Model):
    """One seed's network on the test images; shares are between 0 and 1."""

    seed: int
    accuracy: float
    recorded: float | None  # its accuracy on record; None where there is none of these images
    top5: float | None  # share of images whose class is among its five best; None for five classes or fewer
    calibration_error: float  # see `search.metrics.classification.Calibration`
    per_class: list[float | None]  # None: a class without images
    confusion: list[list[int]]  # a row a true class, a column what it was taken for

    @property
    def images(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def off(self) -> int | None:
        """By how many images it differs from the record: positive where more are right now."""
        return None if self.recorded is None else round((self.accuracy - self.recorded) * self.images)


class Evaluation(Model):
    """What a test of stored networks came to."""

    name: str
    row: str | None
    weights: str
    config: LiteConfig
    parameters: int
    data: str  # what the data set is called
    test_digest: str  # of the images and labels tested on
    classes: tuple[str, ...]
    seeds: list[Tested]

    @property
    def accuracies(self) -> list[float]:
        return [tested.accuracy for tested in self.seeds]

    @property
    def mean(self) -> float:
        return math.fsum(self.accuracies) / len(self.seeds)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over seeds, as for records."""
        found = summary(self.accuracies)["interval"]
        return found and (max(0.0, found[0]), min(1.0, found[1]))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K), of all seeds together."""
        return np.sum([tested.confusion for tested in self.seeds], 0)

    @property
    def agrees(self) -> bool | None:
        """Whether every seed is within an image of its record; None where nothing is on record for these images."""
        found = [abs(tested.off) <= TOLERANCE for tested in self.seeds if tested.off is not None]
        return all(found) if found else None


def evaluate(stored: Stored, runtime: Runtime, source: Source | None = None, seeds: int | None = None) -> Evaluation:
    """Test the networks of the record's seeds (without one: of all seeds) on the test part of the data.

    `source` is where these are; by default where the record says, or the data set that the file names. Test images
    whose digest is not the record's are other images: then nothing is compared, and `runtime` says so. `seeds` is how
    many of them are tested, the first ones; None means all.

    Raises UserError where there are no such data, or they do not fit the networks.
    """
    stored.check_classifier()
    test = datasets.load_classes(source or _source(stored), "test", runtime.data_dir)
    check_fit(stored, test)
    record = stored.record
    known: dict[int, float] = {}
    if record is not None and record.dataset.test_digest in (None, test.digest):
        known = dict(zip(record.seeds, record.accuracies))
    elif record is not None:
        if source is None:
            raise UserError(
                f"the test images of {test.label} are not those of the record of {stored.name} (digest "
                f"{test.digest[:12]}, recorded {str(record.dataset.test_digest)[:12]}): name the original ones"
            )
        runtime.say(f"{stored.name}: {test.label} has other test images than the record: nothing to compare with")
    chosen = [seed for seed in stored.seeds if record is None or seed in record.seeds]
    return Evaluation(
        name=stored.name,
        row=stored.row,
        weights=str(stored.path),
        config=stored.config,
        parameters=stored.config.parameters(),
        data=test.label,
        test_digest=test.digest,
        classes=test.classes,
        seeds=[_tested(stored, seed, test, known.get(seed)) for seed in chosen[:seeds]],
    )


def _source(stored: Stored) -> Source:
    """Where the data are that the networks were tested on."""
    if stored.record is not None:
        return Source(stored.record.dataset.name, stored.record.dataset.reading or PLAIN)
    label = stored.inputs and stored.inputs.data
    name = next((name for name, known in [*OFFICIAL.items(), *COPIES.items()] if known.label == label), None)
    if name is None:
        raise UserError(f"{stored.path} does not say where its data are: name them with --data")
    return Source(name)


def check_fit(stored: Stored, data: Split) -> None:
    """Raise UserError where the networks can't be tested on `data`."""
    config, given = stored.config, stored.inputs
    if len(data.classes) != config.num_classes:
        raise UserError(f"{data.label} has {len(data.classes)} classes, {stored.name} tells {config.num_classes} apart")
    if given is not None and given.classes != data.classes:
        wrong = next((ours, theirs) for ours, theirs in zip(given.classes, data.classes) if ours != theirs)
        raise UserError(f"{data.label} has a class {wrong[1]!r} where {stored.name} has {wrong[0]!r}: name other data")
    if data.shape[0] != config.in_channels or given is not None and given.shape != data.shape:
        wanted = "x".join(map(str, given.shape if given else (config.in_channels, "height", "width")))
        raise UserError(
            f"images of {data.label} are {'x'.join(map(str, data.shape))} (channels, height, width), {stored.name} "
            f"takes {wanted}"
        )
    try:
        config.check_image_size(*data.shape[1:])
    except ValueError as error:
        raise UserError(f"images of {data.label} do not fit {stored.name}: {error}") from error


def _tested(stored: Stored, seed: int, test: Split, recorded: float | None) -> Tested:
    found, labels = scores(Classifier.of(stored, seed), test.images), test.labels.numpy()
    matrix = confusion(found, labels)
    return Tested(
        seed=seed,
        accuracy=top(found, labels),
        recorded=recorded,
        top5=top(found, labels, 5) if found.shape[1] > 5 else None,
        calibration_error=Calibration.of(softmax(found), labels).error,
        per_class=[None if math.isnan(share) else share for share in per_class(matrix).tolist()],
        confusion=matrix.tolist(),
    )
