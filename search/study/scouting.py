"""Scouts: candidates trained briefly on a few images, so that more is known of them before one is trained in full.

A scout is one seed's training of a few epochs on a fraction of the training images, a hundredth of a trial's work. It
tells who is better, not who reaches the target: its records are of a kind of their own, it is no trial, and the sampler
takes it as a measurement whose level is unknown (`FrontierSampler.learn`). A search scouts candidates of all sizes
before its first proposal, and before each trial those that promise most, until the best one has been scouted. What
another search has scouted in the same way is not scouted again, whatever its target was.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna

from search.data.split import Portion, split_validation
from search.records.environment import environment
from search.records.making import dataset_of, scout_of
from search.records.models import Scout
from search.sampling.candidates import Candidate
from search.sampling.problem import Observation
from search.sampling.sampler import FrontierSampler
from search.study.events import Event
from search.study.scout_records import ScoutRecords
from search.study.setting import Setting
from search.tasks.scale import shortfall
from search.training.outcome import Trained
from wavemix.config import LiteConfig

EPOCHS = 4
SPREAD = 32  # scouts of all sizes before anything is proposed
SMALLEST = 1 / 8  # of the cost to beat: what is smaller is not among them
RIVALS = 4  # scouts before a trial, at most
SHARE = 0.1  # of the time of a search that scouts may take
CHEAP = 0.05  # of a trial's work: what costs more is no scout


class Scouting:
    """The scouts of one worker's search.

    Args:
        setting: of the study; scouts validate on all of its validation images.
        study, sampler: which configuration is the best is asked of these.
        records: where the records of scouts are kept.
        device: that they are trained on.
        obey: called before each; raises what ends the search for now.
        listen: takes the events.
    """

    def __init__(
        self,
        setting: Setting,
        study: optuna.Study,
        sampler: FrontierSampler,
        records: ScoutRecords,
        *,
        device: str = "cpu",
        obey: Callable[[], None] = lambda: None,
        listen: Callable[[Event], None] = lambda event: None,
    ):
        self.setting, self.study, self.sampler, self.records = setting, study, sampler, records
        self.device, self.obey, self.listen = device, obey, listen
        self.recipe = setting.tuning.base.model_copy(update={"epochs": EPOCHS})
        self.images = few(setting)
        self.known: set[tuple] = set()  # the networks that have been scouted, by their hyperparameters
        self.seconds, self.began = 0.0, time.monotonic()

    def best(self, affordable: float, left: float | None) -> Candidate | None:
        """The candidate to train next, when those that promise most have been scouted.

        `affordable` is the most work that its training may be, `left` the seconds that the search has still, None: any.
        None where no candidate is left.
        """
        best = self.sampler.proposal(self.study, affordable=affordable)
        if best is None or self.images is None:
            return best
        before = len(self.known)
        self.learn(self.records.new())
        for candidate in self._spread():
            if not self._late(left):
                self._scout(candidate, self.images)
        if len(self.known) > before:
            best = self.sampler.proposal(self.study, affordable=affordable) or best
        for _ in range(RIVALS):
            if self._key(best.params) in self.known or self._late(left):
                break
            self._scout(best, self.images)
            best = self.sampler.proposal(self.study, affordable=affordable) or best
        return best

    def learn(self, scouts: Iterable[Scout]) -> None:
        """Let the sampler know of those that were trained as here."""
        found = []
        digest, recipe = self.images and self.images.digest, self.recipe.model_dump(mode="json")
        for scout in scouts:
            alike = scout.dataset.digest == digest and scout.recipe == recipe
            params = self.setting.space.hyperparameters_of(scout.config) if alike else None
            if params is None or scout.accuracy_validation is None or self._key(params) in self.known:
                continue
            cost = self.setting.costs.of(scout.config)
            if cost == math.inf:  # of another search, which minimised something else
                continue
            self.known.add(self._key(params))
            value = shortfall(self.setting.task.score, scout.accuracy_validation, self.setting.threshold)
            found.append(Observation({**params, **self.setting.tuning.first}, cost, value, 0.0))
        if found:
            self.sampler.learn(found)

    def _key(self, params: Mapping[str, Any]) -> tuple:
        return tuple(params[name] for name in self.setting.space.hyperparameters)

    def _late(self, left: float | None) -> bool:
        """Whether scouts have had their share of the time."""
        return left is not None and self.seconds > SHARE * (time.monotonic() - self.began + max(0.0, left))

    def _spread(self) -> list[Candidate]:
        """Candidates to begin with, evenly of all sizes by the logarithm of the cost."""
        sizes: dict[int, list[Candidate]] = {}
        unseen = self.sampler.unseen(self.study) if len(self.known) < SPREAD else []
        least = SMALLEST * max((candidate.cost for candidate in unseen), default=0)
        for candidate in unseen:
            if self._key(candidate.params) not in self.known and candidate.cost >= least:
                sizes.setdefault(math.floor(4 * math.log(candidate.cost)), []).append(candidate)
        found: dict[tuple, Candidate] = {}
        while any(sizes.values()) and len(self.known) + len(found) < SPREAD:
            for size in sizes.values():
                if size:
                    candidate = size.pop()
                    found[self._key(candidate.params)] = candidate
        return list(found.values())[: SPREAD - len(self.known)]

    def _scout(self, candidate: Candidate, images: Portion) -> None:
        """Train it briefly, record it and let the sampler know; nothing where the training breaks."""
        self.obey()
        setting, began = self.setting, time.monotonic()
        config, _ = setting.trained(candidate.params)
        try:
            results = setting.task.train(
                config, self.recipe, images, setting.seeds[:1], validation=setting.validation, device=self.device
            )
        except (RuntimeError, MemoryError):  # as a trial it says why
            results = []
        seconds = time.monotonic() - began
        self.seconds += seconds
        if not results or results[0].stopped is not None:
            self.known.add(self._key(candidate.params))
            return
        record = self._record(results[0], config, images, seconds)
        self.records.keep(record)
        self.learn([record])
        self.listen(Event("scout", config=config, number=len(self.known), accuracy=record.accuracy_validation))

    def _record(self, result: Trained, config: LiteConfig, images: Portion, seconds: float) -> Scout:
        setting = self.setting
        return scout_of(
            config,
            self.recipe,
            [result],
            study=setting.name,
            dataset=dataset_of(images, setting.validation, None if setting.data.validation else setting.seed),
            target=setting.target,
            family=setting.family,
            seeds=setting.seeds[:1],
            state="complete",
            wall_seconds=seconds,
            environment=environment(self.device),
        )


def few(setting: Setting) -> Portion | None:
    """The images that scouts of a study train on; None where scouts would not be cheap."""
    train, count = setting.train, setting.task.few(setting.train)
    trial = setting.tuning.base.epochs * len(train) * len(setting.seeds)
    if count >= len(train) or EPOCHS * count > CHEAP * trial:
        return None
    return split_validation(train, len(train) - count, setting.seed)[0]
