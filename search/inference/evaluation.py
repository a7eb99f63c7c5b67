"""Tests of stored networks: by the plain module and PyTorch's own operations, and compared with what is on record.

So they are a check of the training's kernels, which tested the networks when they were trained.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from search.data import datasets
from search.data.catalogue import COPIES, OFFICIAL
from search.data.source import PLAIN, Reading, Source
from search.data.split import Portion, Split
from search.errors import UserError
from search.inference.loading import module, scores
from search.inference.stored import Stored
from search.metrics.classification import Calibration, confusion, per_class, softmax, top
from search.records.environment import Model
from search.records.statistics import summary
from search.runtime import Runtime
from search.tasks.pixel_task import PixelTask
from search.tasks.score import SCORES, Score
from search.tasks.task import task_named
from wavemix.config import LiteConfig
from wavemix.dwt import uncompiled

TOLERANCE = 1  # images a seed: processors round otherwise
# of a mean IoU and of a PSNR in dB, for the same reason: some pixels lie between two classes, or two of 255 values
TOLERANCES = {"mIoU": 2e-4, "PSNR": 2e-3}


class Tested(Model):
    """One seed's classifier on the test images; shares are between 0 and 1."""

    seed: int
    accuracy: float
    recorded: float | None  # its accuracy on record; None where there is none of these images
    top5: float | None  # share of images whose class is among its five best; None for five classes or fewer
    calibration_error: float  # see `search.metrics.classification.Calibration`
    per_class: list[float | None]  # None: a class without images
    confusion: list[list[int]]  # a row a true class, a column what it was taken for

    @property
    def score(self) -> float:
        return self.accuracy

    @property
    def images(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def off(self) -> int | None:
        """By how many images it differs from the record: positive where more are right now."""
        return None if self.recorded is None else round((self.accuracy - self.recorded) * self.images)

    @property
    def agrees(self) -> bool | None:
        return None if self.off is None else abs(self.off) <= TOLERANCE


class TestedOnPixels(Model):
    """One seed's network for segmentation or super-resolution on the test images."""

    seed: int
    measure: str  # what the score is: mIoU, a share between 0 and 1, or PSNR in dB
    score: float
    recorded: float | None  # its score on record; None where there is none of these images
    beside: dict[str, float]  # other measures: pixel accuracy and the IoU of each class; PSNR and SSIM of each test set
    recorded_beside: dict[str, float]  # these on record; empty as above

    @property
    def agrees(self) -> bool | None:
        return None if self.recorded is None else abs(self.score - self.recorded) <= TOLERANCES[self.measure]


class Evaluation(Model):
    """What a test of stored networks came to."""

    name: str
    row: str | None
    weights: str
    config: LiteConfig
    parameters: int
    data: str  # what the data set is called
    images: int  # of the test part
    test_digest: str  # of the images and labels tested on
    classes: tuple[str, ...]
    normalised: bool  # whether images are; else values go in as they are, from 0 to 1
    seeds: list[Tested] | list[TestedOnPixels]

    @property
    def score(self) -> Score:
        """What the networks are judged by."""
        return SCORES[self.config.task]

    @property
    def scores(self) -> list[float]:
        return [tested.score for tested in self.seeds]

    @property
    def mean(self) -> float:
        return math.fsum(self.scores) / len(self.seeds)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over seeds, as for records."""
        found = summary(self.scores)["interval"]
        return found and (max(0.0, found[0]), min(self.score.most, found[1]))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K), of all seeds together; of classifiers alone."""
        return np.sum([tested.confusion for tested in self.seeds if isinstance(tested, Tested)], 0)

    @property
    def beside(self) -> dict[str, tuple[float, float | None]]:
        """Means over seeds of the other measures of a task on pixels, here and on record."""
        found = [tested for tested in self.seeds if isinstance(tested, TestedOnPixels)]
        here, before = ([getattr(one, kind) for one in found] for kind in ("beside", "recorded_beside"))
        return {name: (_mean(here, name) or 0.0, _mean(before, name)) for name in (here[0] if here else ())}

    @property
    def agrees(self) -> bool | None:
        """Whether every seed is what is on record, but for rounding; None where nothing is of these images."""
        found = [tested.agrees for tested in self.seeds if tested.agrees is not None]
        return all(found) if found else None


def evaluate(stored: Stored, runtime: Runtime, source: Source | None = None, seeds: int | None = None) -> Evaluation:
    """Test the networks of the record's seeds (without one: of all seeds) on the test part of the data.

    `source` is where these are; by default where the record says, or the data set that the file names. Test images
    whose digest is not the record's are other images: then nothing is compared, and `runtime` says so. `seeds` is how
    many of them are tested, the first ones; None means all.

    Raises UserError where there are no such data, or they do not fit the networks.
    """
    test = datasets.load(source or _source(stored), "test", runtime.data_dir)
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
    chosen = [seed for seed in stored.seeds if record is None or seed in record.seeds][:seeds]
    if isinstance(test, Split):
        tested = [_tested(stored, seed, test, known.get(seed)) for seed in chosen]
    else:
        tested = _on_pixels(stored, chosen, test, known)
    return Evaluation(
        name=stored.name,
        row=stored.row,
        weights=str(stored.path),
        config=stored.config,
        parameters=stored.config.parameters(),
        data=test.label,
        images=len(test),
        test_digest=test.digest,
        classes=test.classes,
        normalised=stored.inputs is not None or stored.normalisation is not None,
        seeds=tested,
    )


def _mean(measures: list[dict[str, float]], name: str) -> float | None:
    values = [one[name] for one in measures if name in one]
    return math.fsum(values) / len(values) if values else None


def _source(stored: Stored) -> Source:
    """Where the data are that the networks were tested on."""
    if stored.record is not None:
        return Source(stored.record.dataset.name, stored.record.dataset.reading or PLAIN)
    label = stored.inputs and stored.inputs.data
    name = next((name for name, known in [*OFFICIAL.items(), *COPIES.items()] if known.label == label), None)
    if name is None:
        raise UserError(f"{stored.path} does not say where its data are: name them with --data")
    return Source(name)


def source_like(stored: Stored, source: Source) -> Source:
    """Data named by the user, read for the networks' task: as those that they were tested on, where that is known."""
    config, record = stored.config, stored.record
    if record is not None and record.dataset.reading is not None and source.reading == PLAIN:
        return replace(source, reading=record.dataset.reading)
    scale = getattr(config.head, "scale", None)
    return replace(source, reading=Reading(**source.reading.model_dump() | {"task": config.task, "scale": scale}))


def check_fit(stored: Stored, data: Portion) -> None:
    """Raise UserError where the networks can't be tested on `data`."""
    config, given = stored.config, stored.inputs
    # super-resolution takes the luma of whatever images there are
    if config.task != "super-resolution" and len(data.classes) != config.num_classes:
        raise UserError(f"{data.label} has {len(data.classes)} classes, {stored.name} tells {config.num_classes} apart")
    if given is not None and given.classes != data.classes and config.task != "super-resolution":
        wrong = next((ours, theirs) for ours, theirs in zip(given.classes, data.classes) if ours != theirs)
        raise UserError(f"{data.label} has a class {wrong[1]!r} where {stored.name} has {wrong[0]!r}: name other data")
    any_size = given is None or given.any_size
    if config.task != "super-resolution" and (
        data.shape[0] != config.in_channels or given is not None and not any_size and given.shape != data.shape
    ):
        size = "height and width of any size" if config.task == "segmentation" else "height x width"
        wanted = "x".join(map(str, given.shape)) if given and not any_size else f"{config.in_channels} channels, {size}"
        raise UserError(
            f"images of {data.label} are {'x'.join(map(str, data.shape))} (channels, height, width), {stored.name} "
            f"takes {wanted}"
        )
    try:
        config.check_image_size(*data.shape[1:])
    except ValueError as error:
        raise UserError(f"images of {data.label} do not fit {stored.name}: {error}") from error


def _on_pixels(stored: Stored, seeds: list[int], test: Portion, known: dict[int, float]) -> list[TestedOnPixels]:
    """As a confirmation tests them, by the task itself."""
    given = stored.takes
    normalisation = torch.tensor(given.mean), torch.tensor(given.deviation)
    task = task_named(stored.config.task)
    assert isinstance(task, PixelTask)
    with uncompiled():
        found = task.tested([stored.network(seed) for seed in seeds], normalisation, test)
    record, beside = stored.record, dict[int, dict[str, float]]()
    if record is not None and known:
        for number, seed in enumerate(record.seeds):
            beside[seed] = {name: values[number] for name, values in record.beside.items()}
    return [
        TestedOnPixels(
            seed=seed,
            measure=task.score.name,
            score=score,
            recorded=known.get(seed),
            beside={name: values[number] for name, values in found.beside.items()},
            recorded_beside=beside.get(seed, {}),
        )
        for number, (seed, score) in enumerate(zip(seeds, found.scores))
    ]


def _tested(stored: Stored, seed: int, test: Split, recorded: float | None) -> Tested:
    found, labels = scores(module(stored, seed), test.images), test.labels.numpy()
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
