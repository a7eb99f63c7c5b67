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
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from wavemix.config import LiteConfig

from . import signals
from .allocation import Allocation
from .attempt import Attempt, Event, Unfinished
from .checkpoints import Checkpoints
from .claim import Claim
from .datasets import Split, split_validation
from .environment import code
from .errors import UserError
from .heartbeat import now
from .journal import identity_of, read
from .ledger import Ledger, texts
from .names import LONGEST, can_name
from .outage import Lost
from .pool import Pool
from .protocol import STARTS, threshold
from .rebuild import emptied, restored
from .recipe import Recipe
from .records import Confirmation, Record, Trial
from .sampler import FrontierPruner, FrontierSampler
from .seal import checked
from .space import Space
from .stopping import FIRST
from .storage import Presence, connect, embedded, open_study, sqlite_file
from .tuning import Tuning
from .waiting import sleep
from .warm import warm_start
from .whole import set_aside

SCHEMA = 1  # of what a study holds: raised when older studies can't be gone on with
BROKEN = 3  # trainings in a row that may break before the search gives up
TESTED = "confirmation "  # what the study's attributes begin with that are records of confirmations
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
        rebuild: make a study that is lost anew from its records under `results`; an SQLite file that is damaged is set
            aside.

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
        storage: str | URL | None = None,
        seed: int = 0,
        members: int = 2,
        ceiling: int,
        validation_count: int,
        start: LiteConfig | None = None,
        source: str | None = None,
        checkpoints: str | None = None,
        device: str = "cpu",
        rebuild: bool = False,
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
        self.broken, self.ended, self.stopped = 0, 0, False
        self.pool = Pool(self.space, self.tuning, seed, self._finished)
        url = storage or embedded(self.results, name)
        self.presence, self.storage = Presence(sqlite_file(url)), None
        try:
            try:
                self.storage = connect(url, wait=True)
                self.study = self._open(rebuild)
            except Lost:
                if not rebuild or sqlite_file(url) is None:
                    raise
                if self.storage:
                    self.storage.close()
                for part in ("", "-wal", "-shm"):
                    set_aside(Path(f"{sqlite_file(url)}{part}"), "is damaged, so the study is made anew")
                self.storage = connect(url)
                self.study = self._open(rebuild)
            self.claim = Claim(self.storage, self.storage.get_study_id_from_name(name), self.ledger.id)
            self.allocation = Allocation(
                self.study, self.storage, self.knobs, lambda: self.sampler.proposal(self.study), self.marks
            )
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
                    self.allocation.put_back(trial)
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

    def _open(self, rebuild: bool) -> optuna.Study:
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
        checked(study.get_trials(deepcopy=False))
        if rebuild:
            if emptied(study, self):
                study = open_study(self.storage, self.name, identity)
            self.listen(Event("note", restored(study, self)))
        elif study.user_attrs.get("rebuilding"):
            raise UserError(f"rebuilding the study {self.name} was cut off: give --rebuild again")
        self._keep_choices(study)
        # those of the study itself it knows already, but for what an earlier study of this name left in the records
        known = {identity_of(text.encode()) for text in texts(study.get_trials(deepcopy=False))}
        trials = [
            r
            for path in sorted(self.results.glob("*.jsonl"))
            for r in read(path, known if path == self.path else ())
            if isinstance(r, Trial) and r.state == "complete"
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

    def marks(self, params: Mapping) -> dict:
        """What a running trial of this worker says of itself, for others and for the sampler."""
        config, _ = self.plan(params)
        built = {"parameters": config.parameters(), "config": config.model_dump(mode="json")} if config else {}
        return built | {"worker": self.worker, "beat": now()}

    def obey(self) -> None:
        """Raises Unfinished where `wavemix stop` has stopped the study, UserError where other code goes on with it."""
        attributes = self.storage.get_study_user_attrs(self.allocation.study_id)
        if attributes.get("stop"):
            self.stopped = True
            raise Unfinished(f"the study {self.name} was stopped: `wavemix search` with its options goes on with it")
        if self.claim.taken_over(attributes):
            raise Unfinished(f"another machine's `wavemix search` has taken over the study {self.name}")
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

    def shared(self, records: Sequence[Record]) -> list[Record]:
        """`records` and the confirmations of this study that other machines have made; the storage gets those in it.

        So a network is confirmed once, and attempts are counted through, wherever the study is searched.
        """
        stored = self.storage.get_study_system_attrs(self.allocation.study_id)  # the others are read every epoch
        ours = {
            f"{TESTED}{r.created.isoformat()} {r.config.name}": r
            for r in records
            if isinstance(r, Confirmation) and r.study == self.name
        }
        for key in ours.keys() - stored.keys():
            self.storage.set_study_system_attr(self.allocation.study_id, key, ours[key].model_dump_json())
        theirs = sorted(key for key in stored if key.startswith(TESTED) and key not in ours)
        return [*records, *(Confirmation.model_validate_json(stored[key]) for key in theirs)]

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
        confirmation_seeds: int = FIRST,
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
            signals.check()
            try:
                self.obey()
                others = self.allocation.running()
                if not self._one(deadline if self.best() else None):
                    if not others:
                        self.listen(Event("note", "no untried configuration below the incumbent was found"))
                        break
                    sleep(POLL)  # one of them may die and leave its trial
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
        taken = self.allocation.take()
        if taken is None:
            return False
        attempt = Attempt(self, *taken)
        incumbent = self.incumbent
        if attempt.config is None:
            attempt.drop()
        elif (twin := self.allocation.twin(*taken)) is not None:
            attempt.drop(twin=twin)
        elif attempt.config.parameters() >= incumbent:
            attempt.refuse(f"not below the incumbent's {incumbent:,}")
        else:
            attempt.run(deadline)
        return True

    def broke(self, reason: str, error: Exception) -> None:
        """Count a training that broke. Raises UserError after BROKEN in a row."""
        self.broken += 1
        if self.broken == BROKEN:
            raise UserError(f"{BROKEN} trials in a row broke, the last with {reason}") from error


def checked_name(name: str) -> None:
    if not can_name(name):
        raise UserError(f"{name[:80]!r} cannot name a study: use letters, digits and . _ + -, at most {LONGEST} bytes")
