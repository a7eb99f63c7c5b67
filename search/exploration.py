"""Explorations: trainings that a script plans: each is done once, judged on validation images, and recorded."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from search.data import datasets
from search.data.source import Source
from search.data.split import split_validation
from search.files import writable
from search.records.environment import environment
from search.records.jsonl import append, read, repair
from search.records.making import dataset_of, trial_of
from search.records.models import Trial
from search.records.results import Results
from search.tasks.task import task_of
from search.training.outcome import Epoch
from search.training.recipe import Recipe, Training, identity
from wavemix.config import LiteConfig


class Exploration:
    """The trainings of the study `study` over one data set's training part, remembered in its records in `results`.

    The test part is never read. A training that was cut off goes on from its checkpoint. With `images`, only so many
    are trained on, and what was learned of them is judged on all others, once, after the last epoch.
    """

    def __init__(
        self,
        study: str,
        source: Source,
        target: float,
        data_dir: Path | None,
        results: Path,
        device: str = "cpu",
        images: int | None = None,
    ):
        self.study, self.target, self.path = study, target, Results(results).journal(study)
        self.device, self.few = device, images is not None
        split = datasets.load(source, "train", data_dir)
        self.task = task_of(split)
        others = self.task.validation_count(split) if images is None else len(split) - images
        self.training, self.validation = split_validation(split, others, 0)
        self.split = None if split.validation else 0
        writable(results / "studies")
        repair(self.path)

    @property
    def done(self) -> list[Trial]:
        return [r for r in read(self.path) if isinstance(r, Trial)] if self.path.exists() else []

    def recorded(self, config: LiteConfig, recipe: Recipe, seeds: Sequence[int]) -> Trial | None:
        plan = Training(config, recipe, self.training.digest).identity, list(seeds)
        return next((t for t in self.done if (identity(t.config, t.recipe, t.dataset.digest), t.seeds) == plan), None)

    def run(
        self,
        config: LiteConfig,
        recipe: Recipe,
        seeds: Sequence[int],
        *,
        number: int | None = None,
        on_epoch: Callable[[int, list[Epoch]], bool | None] | None = None,
    ) -> Trial:
        """The record of this training, which is done where there is none yet.

        `number` is the trial's in the study; left out, the next one.
        """
        if (earlier := self.recorded(config, recipe, seeds)) is not None:
            return earlier
        name = Training(config, recipe, self.training.digest).checkpoint_name(seeds)
        checkpoint = self.path.parent / "studies" / name
        start = time.monotonic()
        results = self.task.train(
            config,
            recipe,
            self.training,
            seeds,
            validation=None if self.few else self.validation,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
            device=self.device,
        )
        if self.few:
            states = [result.state for result in results]
            measured = self.task.measure(config, states, self.training, self.validation)
            for result, score in zip(results, measured.scores):
                result.accuracy = result.curve[-1].accuracy = score
        trial = trial_of(
            config,
            recipe,
            results,
            study=self.study,
            number=len(self.done) if number is None else number,
            dataset=dataset_of(self.training, self.validation, self.split),
            target=self.target,
            family=config.family,
            seeds=list(seeds),
            state="complete" if results[0].stopped is None else "failed",
            reason=results[0].stopped,
            wall_seconds=time.monotonic() - start,
            environment=environment(self.device),
        )
        append(self.path, trial)
        checkpoint.unlink(missing_ok=True)
        return trial
