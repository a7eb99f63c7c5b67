"""A search: an Optuna study of configurations, trained on a training/validation split, by any number of workers.

The parameter count is known before training, so a suggestion at or above the incumbent's is refused for free. A trial
trains `members` seeds at once; its curve is extrapolated after every epoch and the trial is pruned when even an
optimistic end misses the target. It is feasible when the mean validation accuracy reaches the target plus a margin.
Only `confirm` ever loads the test part of a data set.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from wavemix.config import LiteConfig

from .attempt import Attempt, Event, Unfinished
from .checkpoints import Checkpoints
from .datasets import Split, split_validation
from .environment import code
from .errors import UserError
from .heartbeat import Watch
from .journal import read
from .ledger import Ledger, recorded
from .names import LONGEST, can_name
from .pool import Pool
from .protocol import STARTS, threshold
from .recipe import Recipe
from .records import Trial
from .sampler import FrontierPruner, FrontierSampler
from .space import Space
from .stopping import ENOUGH
from .storage import Presence, connect, open_study, sqlite_file
from .tuning import Tuning
from .warm import warm_start

SCHEMA = 1  # of what a study holds: raised when older studies can't be gone on with
BROKEN = 3  # trainings in a row that may break before the search gives up
POLL = 1.0  # seconds between two looks at what other workers do


class Search:
    """One worker's view of a study over one data set's training part.

    Args:
        data: the training part; `validation_count` images of it are split off by `split_seed`.
        recipe: what every trial is trained with, but for the knobs that `tune` has choices for.
        tune: knob of the recipe -> choices, which are searched together with the architecture's (see `Tuning`).
        results: directory of the records; the embedded storage lies under it (`studies/NAME.db`).
        storage: an Optuna storage URL instead of the embedded one.
        start: configuration that a new study tries first; left out, one near the published network.
        source: what a worker on another machine loads the data by; left out, the data set's name.
        checkpoints: directory or fsspec URL of the checkpoints, shared by machines that shall go on with each other's
            trials; left out, `studies/NAME` under `results`.
        device: what this worker trains on.

    Raises UserError where the storage holds another study of this name, cannot be opened, or no configuration is
    possible.
    """

    def __init__(
        self,
        data: Split,
        target: float,
        recipe: Recipe,
        *,
        tune: Mapping[str, Sequence] | None = None,
        family: str = "extended",
        name: str,
        results: Path,
        storage: str | None = None,
        seed: int = 0,
        members: int = 2,
        ceiling: int,
        validation_count: int,
        start: LiteConfig | None = None,
        source: str | None = None,
        checkpoints: str | None = None,
        device: str = "cpu",
        listen=lambda event: None,
    ):
        if not 0 < target < 1:
            raise UserError(f"the target accuracy is a fraction between 0 and 1, not {target}: 0.99 means 99 %")
        checked_name(name)
        self.data, self.target, self.family, self.name = data, target, family, name
        self.tuning = Tuning(recipe, tune)
        self.results, self.seed, self.ceiling, self.listen = Path(results), seed, ceiling, listen
        self.device = device
        self.seeds = [seed * 1000 + member for member in range(members)]
        self.train, self.validation = split_validation(data, validation_count, seed)
        self.space = Space(family, tuple(data.images.shape[1:]), len(data.classes), ceiling)
        self.threshold = threshold(target, validation_count)
        self.ledger = Ledger(self.results, name)
        self.path = self.ledger.path
        self.checkpoints = Checkpoints(checkpoints, self.ledger.folder)
        self.worker = f"{self.ledger.id}-{secrets.token_hex(2)}"
        self.broken, self.ended, self.stopped, self.watch = 0, 0, False, Watch()
        self._waited = 0
        self.pool = Pool(self.space, self.tuning, seed, self._finished)
        url = storage or embedded(self.results, name)
        self.presence, self.storage = Presence(sqlite_file(url)), None
        try:
            self.storage = connect(url)
            self.study = self._open()
            self._id = self.storage.get_study_id_from_name(name)
            self._start(source or data.name, start)
        except BaseException:
            self.close()
            raise

    def _start(self, source: str, start: LiteConfig | None) -> None:
        """What every worker does first: see to what killed ones left, and say what others need to join."""
        trials = self.study.get_trials(deepcopy=False)
        if self.presence.alone:
            for trial in trials:
                if trial.state == TrialState.RUNNING:
                    self._put_back(trial)
        self.presence.settle()
        self.ledger.complete(trials)
        reading = self.data.source.reading.model_dump(mode="json", exclude_defaults=True)
        told = {"source": source, "reading": reading, "code": self.study.user_attrs.get("code") or code()}
        for key, value in told.items():
            if self.study.user_attrs.get(key) != value:
                self.study.set_user_attr(key, value)
        knobs = self._first(start)
        if not trials and knobs:
            self.study.enqueue_trial(knobs | self.tuning.first)
        elif start and not any(
            knobs.items() <= (t.params or t.system_attrs.get("fixed_params", {})).items() for t in trials
        ):
            self.listen(Event("note", f"the study has begun: {start.name} is not put before what it has tried"))

    def _first(self, start: LiteConfig | None) -> dict | None:
        """Knobs of the configuration tried first: the given one, or one of the published width. Raises UserError."""
        if start is None:
            guess = STARTS.get(self.data.name) or STARTS.get((self.data.name.removesuffix("-jpeg"), self.target))
            return self.space.near_published(*guess) if guess else None
        knobs = self.space.knobs_of(start)
        if knobs is None or start.parameters() >= self.ceiling:
            raise UserError(
                f"{start.name}, {start.parameters():,} parameters, can't be tried first: it is none of the "
                f"{self.family} family's configurations below {self.ceiling:,} parameters"
            )
        return knobs

    def __enter__(self) -> "Search":
        return self

    def __exit__(self, *problem) -> None:
        self.close()

    def close(self) -> None:
        """Leave the study to others."""
        if self.storage is not None:
            self.storage.close()
        self.presence.close()

    # --- the study ---------------------------------------------------------------------------------------------

    def _open(self) -> optuna.Study:
        identity = {
            "schema": SCHEMA,
            "digest": self.data.digest,
            "target": self.target,
            "family": self.family,
            "seed": self.seed,
            "members": len(self.seeds),
            "validation": len(self.validation),
            "recipe": self.tuning.base.model_dump(mode="json"),
            "ceiling": self.ceiling,
        }
        if self.tuning.choices:  # studies without are as they were before there was this
            identity["tune"] = {name: list(values) for name, values in self.tuning.choices.items()}
        study = open_study(self.storage, self.name, identity)
        self._keep_choices(study)
        # those of the study itself it knows already, but for what an earlier study of this name left in the records
        known = {(r.number, r.created) for r in recorded(study.get_trials(deepcopy=False))}
        trials = [
            r
            for path in sorted(self.results.glob("*.jsonl"))
            for r in read(path)
            if isinstance(r, Trial) and r.state == "complete"
            and not (path == self.path and (r.number, r.created) in known)
        ]  # fmt: skip
        earlier = warm_start(trials, self.space, self.data.label, self.tuning, self.threshold)
        self.sampler = FrontierSampler(
            self.knobs,
            self.pool.below,
            self.threshold,
            self.ceiling,
            near=self.pool.near,
            epochs=self.tuning.base.epochs,
            seed=self.seed,
            earlier=earlier,
            centred=self.tuning.knobs,
        )
        study.sampler, study.pruner = self.sampler, FrontierPruner(self.sampler)
        return study

    def _keep_choices(self, study: optuna.Study) -> None:
        """A study goes on with the choices that its knobs had when it began: Optuna allows no others."""
        for trial in study.get_trials(deepcopy=False):
            for name, distribution in trial.distributions.items():
                if name in self.space.knobs:
                    self.space.knobs[name] = distribution.choices
            if trial.distributions.keys() >= self.space.knobs.keys():
                break
        self.knobs = self.space.knobs | self.tuning.knobs

    def plan(self, params: Mapping) -> tuple[LiteConfig | None, Recipe]:
        """The configuration that a trial's parameters mean, None where they don't go together, and the recipe."""
        return self.space.build({name: params[name] for name in self.space.knobs}), self.tuning.recipe(params)

    def trial_id(self, number: int) -> int:
        """The storage's own number of a trial."""
        return self.storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _put_back(self, trial: FrozenTrial) -> None:
        """Let a trial whose worker has died wait for another: it stays the same one, so none is lost or made twice.

        One that was killed while it was being asked for has nothing to go on with, and is ended.
        """
        whole = trial.params.keys() == self.knobs.keys() or "fixed_params" in trial.system_attrs
        try:
            state = TrialState.WAITING if whole else TrialState.FAIL
            self.storage.set_trial_state_values(self.trial_id(trial.number), state)
        except UpdateFinishedTrialError:
            pass  # its worker lives after all and has just finished it

    def _running(self, own: int | None = None) -> list[FrozenTrial]:
        """Trials of other workers that show signs of life; the others are put back."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        running = [trial for trial in running if trial.number != own]
        if self.storage.waited != self._waited:
            self._waited = self.storage.waited
            self.watch.forget()
        stale = self.watch.stale(running)
        for trial in stale:
            self._put_back(trial)
        return [trial for trial in running if trial not in stale]

    def obey(self) -> None:
        """Raises Unfinished where `wavemix stop` has stopped the study, UserError where other code goes on with it."""
        attributes = self.storage.get_study_user_attrs(self._id)
        if attributes.get("stop"):
            self.stopped = True
            raise Unfinished(f"the study {self.name} was stopped: `wavemix search` with its options goes on with it")
        if attributes.get("code") != code():
            raise UserError(f"the study {self.name} is gone on with by another version of this program: use that one")

    def _finished(self) -> int:
        return sum(t.state.is_finished() for t in self.study.get_trials(deepcopy=False))

    def feasible(self) -> list[FrozenTrial]:
        """Trials that reached the threshold, fewest parameters first."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted((t for t in done if t.user_attrs.get("feasible")), key=lambda t: t.user_attrs["parameters"])

    def best(self) -> list[FrozenTrial]:
        """Feasible trials, fewest parameters first; where there are none, the completed one nearest to the target."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self.feasible() or sorted(done, key=lambda t: -t.value)[:1]

    @property
    def incumbent(self) -> int:
        """Parameters that a suggestion has to undercut: of the smallest trial believed to reach the threshold."""
        best = self.sampler.incumbent(self.study)
        return best.user_attrs["parameters"] if best else self.ceiling

    def reopen(self) -> None:
        """Take back what `wavemix stop` has asked for, and go on with this version of the program, no other.

        For the one `wavemix search` of the study, which holds its `ledger.searching`.
        """
        for key, value in {"stop": None, "code": code()}.items():
            if self.study.user_attrs.get(key) != value:
                self.study.set_user_attr(key, value)

    # --- running -----------------------------------------------------------------------------------------------

    def recorded(self) -> list[FrozenTrial]:
        """Trials of the study that have ended with a record, of all workers; not those dropped untried."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished() and "record" in t.user_attrs]

    def run(
        self,
        *,
        trials: int | None = None,
        total: int | None = None,
        seconds: float | None = None,
        confirmation_seeds: int = ENOUGH,
    ) -> None:
        """Run trials until their number or the time is used up, less the time that confirming the best takes.

        `trials` are this worker's from now on, `total` the whole study's.

        The first trial of a study is finished whatever the time; a later one that can't be is left for the next run.
        While other workers' trials run, it waits for what becomes of them before it says that nothing is left.
        """
        start, before = time.monotonic(), self.ended
        while (trials is None or self.ended - before < trials) and (total is None or len(self.recorded()) < total):
            deadline = None
            if seconds is not None:
                deadline = start + seconds - self.confirmation_seconds(confirmation_seeds)
                left = deadline - time.monotonic()
                late = left <= 0 or (self.ended > before and left < 0.5 * self._typical_seconds())
                if late and self.recorded():
                    break
            try:
                self.obey()
                others = self._running()
                if not self._one(deadline if self.best() else None):
                    if not others:
                        self.listen(Event("note", "no untried configuration below the incumbent was found"))
                        break
                    time.sleep(POLL)  # one of them may die and leave its trial
            except Unfinished as reason:
                self.listen(Event("note", str(reason)))
                break

    def confirmation_seconds(self, seeds: int) -> float:
        """Expected seconds of confirming the best trial so far, from the trial's own time and sizes."""
        best = self.best()
        return self.growth(seeds) * best[0].user_attrs.get("seconds", 0.0) * 1.1 if best else 0.0

    def growth(self, seeds: int) -> float:
        """How much more than a trial a training with `seeds` seeds on all training images has to do."""
        return seeds / len(self.seeds) * len(self.data) / len(self.train)

    def _typical_seconds(self) -> float:
        times = [
            t.user_attrs.get("seconds", 0.0) for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()
        ]
        times = sorted(time for time in times if time)
        return times[len(times) // 2] if times else 0.0

    def _one(self, deadline: float | None = None) -> bool:
        """Ask for one configuration, train it and tell; False when there is nothing left to try."""
        distributions = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in self.knobs.items()
        }
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and not self.sampler.unseen(self.study):
            return False
        try:
            trial = self.study.ask(distributions)
        except UpdateFinishedTrialError:
            return True  # it took so long that the others thought this worker dead
        attempt = Attempt(self, trial.number, trial.params)
        incumbent = self.incumbent
        if attempt.config is None:
            attempt.drop()
        elif (twin := self._twin(trial.number, trial.params)) is not None:
            attempt.drop(twin=twin)
        elif attempt.config.parameters() >= incumbent:
            attempt.refuse(f"not below the incumbent's {incumbent:,}")
        else:
            attempt.run(deadline)
        return True

    def _twin(self, number: int, params: dict) -> int | None:
        """The earlier trial with the same configuration and recipe, which another worker asked for at the same moment.

        The lower number keeps it, so the lower ones that are still choosing are waited for: the bakery algorithm
        (Lamport, "A new solution of Dijkstra's concurrent programming problem", 1974).
        """
        while True:
            self._running(number)  # one that was killed while choosing is not waited for
            trials = self.study.get_trials(deepcopy=False)
            lower = [t for t in trials if t.number < number and t.state != TrialState.FAIL]
            for trial in lower:
                if (trial.params or trial.system_attrs.get("fixed_params")) == params:
                    return trial.number
            choosing = [t for t in lower if t.state == TrialState.RUNNING and t.params.keys() != params.keys()]
            if not choosing:
                return None
            time.sleep(0.05)

    def broke(self, reason: str, error: Exception) -> None:
        """Count a training that broke. Raises UserError after BROKEN in a row."""
        self.broken += 1
        if self.broken == BROKEN:
            raise UserError(f"{BROKEN} trials in a row broke, the last with {reason}") from error


def embedded(results: Path, name: str) -> str:
    """URL of the storage that a study has where none is named."""
    return f"sqlite:///{results / 'studies' / name}.db"


def checked_name(name: str) -> None:
    if not can_name(name):
        raise UserError(f"{name[:80]!r} cannot name a study: use letters, digits and . _ + -, at most {LONGEST} bytes")
