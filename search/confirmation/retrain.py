"""Retraining: networks of fresh seeds, trained on all training images and tested once, at the last epoch.

Only this module and `search.inference.evaluation`, which trains nothing, load the test part of a data set.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from search import signals
from search.audit.cost import cost
from search.confirmation.plan import SeedPlan
from search.data import datasets
from search.data.split import Portion
from search.errors import UserError
from search.records.environment import environment
from search.records.making import dataset_of
from search.records.models import Cost, counted
from search.records.statistics import FIRST
from search.runtime import Runtime
from search.tasks.task import Measured, task_of
from search.text import span
from search.training.outcome import Epoch, Trained
from search.training.recipe import Training
from wavemix.lite import WaveMixLite

OnEpoch = Callable[[int, list[Epoch]], bool | None]


def quarterly(epochs: int, runtime: Runtime) -> OnEpoch:
    """An `on_epoch` that says the training loss, and the time that is left, after each quarter of the epochs."""
    last, first = epochs, (0, 0.0)

    def on_epoch(epoch: int, latest: list[Epoch]) -> None:
        nonlocal last, first
        runtime.obey()
        if epoch <= last:  # a batch of seeds begins
            first = epoch, time.monotonic()
        last = epoch
        if epoch % max(1, epochs // 4) == 0 or epoch == epochs:
            loss = sum(e.train_loss for e in latest) / len(latest)
            runtime.say(f"  epoch {epoch}/{epochs}: training loss {loss:.4f}{_left(epoch, epochs, *first)}")

    return on_epoch


def _left(epoch: int, epochs: int, first: int, began: float) -> str:
    """How long the other epochs will take at the speed since the epoch `first` had ended."""
    if not first < epoch < epochs:
        return ""
    return f", {span((time.monotonic() - began) / (epoch - first) * (epochs - epoch))} left"


@dataclass(frozen=True)
class Retrained:
    """Networks trained on all training images and tested: what a record says of them, and they themselves."""

    fields: dict[str, Any]
    trained: list[Trained]
    checkpoints: list[Path]  # of the batches of seeds; they are kept until there is a record


def retrain(
    training: Training,
    data: Portion,
    target: float | None,
    plan: SeedPlan,
    runtime: Runtime,
    *,
    checkpoint: Path,
    on_epoch: OnEpoch | None = None,
    known: Mapping[int, Trained] | None = None,
    test_digest: str | None = None,
) -> Retrained:
    """Train the seeds up to each look of `plan` and test them, until they are enough.

    Seeds that are `known` are not trained, and a batch that was trained before an interruption is taken from its
    checkpoint, named after `checkpoint`. `on_epoch` is by default `quarterly`.

    Raises UserError where the configuration does not fit the images, or the test part is missing, of other
    images or not the one of `test_digest`, before anything is trained, and where the training breaks (a full disk, no
    memory).
    """
    task_of(data).check(training.config, training.recipe, data)
    with signals.prompt():
        test = datasets.load(data.source, "test", runtime.data_dir)
    if test_digest not in (None, test.digest):
        raise UserError(f"the test images of {data.label} are not those of the record: nothing was trained")
    datasets.compare(data, test)
    test_of = _Test(training, data, test, plan, runtime, checkpoint, known or {})
    test_of.measure()  # before the training, so that whatever it lacks does not show after hours
    test_of.run(target, on_epoch or quarterly(training.recipe.epochs, runtime))
    return Retrained(test_of.fields(), test_of.trained, test_of.checkpoints)


class _Test:
    """A test while it runs. The arguments are those of `retrain`."""

    def __init__(
        self,
        training: Training,
        data: Portion,
        test: Portion,
        plan: SeedPlan,
        runtime: Runtime,
        checkpoint: Path,
        known: Mapping[int, Trained],
    ):
        self.training, self.data, self.test, self.plan, self.runtime = training, data, test, plan, runtime
        self.checkpoint, self.known = checkpoint, known
        self.start = time.monotonic()
        self.cost: Cost | None = None
        self.counted = 0
        self.trained: list[Trained] = []
        self.task, self.measured = task_of(data), Measured()
        self.checkpoints: list[Path] = []
        self.seconds, self.fresh, self.stopped = 0.0, 0, None  # `fresh`: seeds that these seconds trained

    def measure(self) -> None:
        """What the network costs."""
        config = self.training.config
        network = WaveMixLite(config)
        self.counted = sum(p.numel() for p in network.parameters())
        with _breakage(f"the cost of {config.name} could not be measured"):
            self.cost = cost(network, self.task.image(self.data), device=self.runtime.device)

    def run(self, target: float | None, on_epoch: OnEpoch) -> None:
        plan, say, score = self.plan, self.runtime.say, self.task.score
        images, accuracies = len(self.test), self.measured.scores
        for first, last in pairwise((0, *plan.stops)):
            if self._late(first, last):
                left = counted(plan.stops[-1] - first, "other seed")
                say(f"  no time for {left}: the same command with a larger --budget trains them")
                break
            members = self._members(first, last, on_epoch)
            self.trained += members
            if self.stopped is not None:
                break
            states = [member.state for member in members]
            self.measured.add(self.task.measure(self.training.config, states, self.data, self.test))
            if plan.enough(accuracies, target, images, score):
                if plan.hopeless(accuracies, target, images, score):
                    left = counted(plan.stops[-1] - last, "other seed")
                    say(f"  after {last} seeds: the bound can no longer be reached, {left} would not confirm it")
                break
            say(f"  after {last} seeds: not decided yet")  # no mean: who saw it and stopped would leave no record

    def _late(self, first: int, last: int) -> bool:
        """Whether the seeds after the first look would take until after the deadline."""
        deadline = self.plan.deadline
        if deadline is None or first < FIRST:
            return False
        # what is known took none of these seconds
        return time.monotonic() + self.seconds / max(1, self.fresh) * (last - first) > deadline

    def _members(self, first: int, last: int, on_epoch: OnEpoch) -> list[Trained]:
        """The networks of the seeds from `first` to `last`, those that are not known trained together."""
        seeds = self.plan.seeds[first:last]
        fresh = [seed for seed in seeds if seed not in self.known]
        if not fresh:
            return [self.known[seed] for seed in seeds]
        path = self.checkpoint.with_name(f"{self.checkpoint.name}.{first}") if first else self.checkpoint
        if path.exists():  # the batch was begun before some of it became known
            fresh = list(seeds)
        elif len(fresh) < last - first:
            path = path.with_name(f"{path.name}-{hashlib.sha256(repr(fresh).encode()).hexdigest()[:8]}")
        self.checkpoints.append(path)
        config, recipe = self.training.config, self.training.recipe
        with _breakage(f"{config.name} could not be trained"):
            new = self.task.train(
                config, recipe, self.data, fresh, on_epoch=on_epoch, checkpoint=path, device=self.runtime.device
            )
        self.seconds, self.fresh = self.seconds + new[0].seconds, self.fresh + len(new)
        self.stopped = new[0].stopped
        found = {**self.known, **{member.seed: member for member in new}}
        return [found[seed] for seed in seeds]

    def fields(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "accuracies": self.measured.scores,
            "beside": self.measured.beside,
            "config": self.training.config,
            "recipe": self.training.recipe,
            "dataset": dataset_of(self.data, None, None, self.test),
            "seeds": [member.seed for member in self.trained],
            "parameters": self.training.config.parameters(),
            "parameters_counted": self.counted,
            "curves": [member.curve for member in self.trained],
            "state": "complete" if self.stopped is None else "failed",
            "reason": self.stopped,
            "wall_seconds": time.monotonic() - self.start,
            "device_seconds": self.seconds,
            "cost": self.cost,
            "environment": environment(self.runtime.device),
        }


@contextmanager
def _breakage(what: str) -> Iterator[None]:
    """A full disk, a full memory or a device that fails, as a UserError."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        raise UserError(f"{what}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error
