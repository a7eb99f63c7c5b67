"""A search: an Optuna study of configurations, trained on a training/validation split, by any number of workers.

The cost is known before training, so a suggestion at or above the incumbent's is refused for free. A trial trains one
seed, and others where it leaves hope; its curve is extrapolated after every epoch and the trial is pruned when even an
optimistic end misses the target. It is feasible when the mean validation accuracy reaches the target plus a margin.
Only a confirmation (`search/confirmation`) ever loads the test part of a data set.
"""

import math
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import TrialState
from sqlalchemy.engine import URL

from search import signals
from search.errors import UserError, breakage, present
from search.files import set_aside
from search.records.costs import cost_shown
from search.records.environment import code
from search.records.jsonl import identity_of, read
from search.records.models import Scout, Trial
from search.records.results import Results
from search.records.statistics import FIRST
from search.sampling.sampler import FrontierPruner, FrontierSampler
from search.signals import sleep
from search.space.candidates import Pool
from search.study.checkpoint_store import Checkpoints
from search.study.claim import Claim
from search.study.events import Event
from search.study.found import Found
from search.study.heartbeat import now
from search.study.outage import Lost
from search.study.pace import Pace
from search.study.rebuild import emptied, restored
from search.study.scout_records import ScoutRecords
from search.study.scouting import Scouting
from search.study.seals import checked
from search.study.setting import Setting
from search.study.storage import Presence, connect, open_study, sqlite_file
from search.study.store import Store
from search.study.trial import TrialRun, Unfinished
from search.study.trial_records import TrialRecords, texts
from search.study.warm_start import known_curves, warm_start
from search.tasks.scale import shortfall
from search.upstream import start_of
from wavemix.config import LiteConfig

BROKEN = 3  # trainings in a row that may break before the search gives up
POLL = 1.0  # seconds between two looks at what other workers do
KNOWN = 0.5  # of what is affordable to begin with: training and testing again what is known takes no more


class Search:
    """One worker's view of a study over one data set's training part.

    Made by `open`.

    Args:
        storage: an Optuna storage URL instead of the file that the study has in `results`.
        checkpoints: directory or fsspec URL of the checkpoints, shared by machines that shall go on with each other's
            trials; left out, the study's directory in `results`.
        device: what this worker trains on; `precision`: in which, see `settled_precision`.
        listen: takes the events.
    """

    def __init__(
        self,
        setting: Setting,
        results: Results,
        *,
        storage: str | URL | None = None,
        checkpoints: str | None = None,
        device: str = "cpu",
        precision: str = "auto",
        listen: Callable[[Event], None] = lambda event: None,
    ):
        self.setting, self.results, self.device, self.listen = setting, results, device, listen
        self.precision = precision
        self.url = storage or results.database(setting.name)
        self.place = checkpoints
        self.broken, self.stopped = 0, False
        self._until: tuple[float, int] | None = None  # when `run` has to end, and the seeds of the confirmation then
        self.pool = Pool(setting.space, setting.tuning, setting.seed, lambda: len(self.found.ended()))
        self.connection, self.here = ExitStack(), ExitStack()  # what `close` ends: the storage's, then the presence

    @classmethod
    def open(
        cls,
        setting: Setting,
        results: Results,
        *,
        start: LiteConfig | None = None,
        source: str | None = None,
        seconds: float | None = None,
        rebuild: bool = False,
        **options,
    ) -> "Search":
        """The study of `setting`, begun where there is none; `options` are the constructor's.

        Args:
            start: configuration that a new study tries first; left out, one near the published network.
            seconds: that the search will have with the confirmation; what takes longer is not tried first, None: any.
            source: what a worker on another machine loads the data by; left out, the data set's name.
            rebuild: make a study that is lost anew from its records in `results`; an SQLite file that is damaged is set
                aside.

        Raises UserError where the storage holds another study of this name, cannot be opened, or no configuration is
        possible.
        """
        search = cls(setting, results, **options)
        try:
            search._enter(rebuild)
            search._start(source or setting.data.name, start, seconds)
        except BaseException:
            search.close()
            raise
        return search

    def _enter(self, rebuild: bool) -> None:
        """Take part in the study: its records, its checkpoints, its storage."""
        self.records = TrialRecords(self.results.journal(self.setting.name), self.results.study(self.setting.name))
        self.checkpoints = Checkpoints(self.place, self.records.folder)
        self.worker = f"{self.records.id}-{secrets.token_hex(2)}"
        self.presence = self.here.enter_context(closing(Presence(sqlite_file(self.url))))
        self.study = self._opened(self.url, rebuild)
        self.claim = Claim(self.storage, self.storage.get_study_id_from_name(self.setting.name), self.records.id)
        self.store = Store(
            self.study,
            self.storage,
            self.records,
            self.worker,
            self.setting.hyperparameters,
            self._proposal,
            self.marks,
        )
        kept = ScoutRecords(self.records.path, self.storage, self.store.study_id)
        self.scouting = Scouting(
            self.setting, self.study, self.sampler, kept, device=self.device, obey=self.obey, listen=self.listen
        )
        self.scouting.learn(self._scouts)

    def _start(self, source: str, start: LiteConfig | None, seconds: float | None) -> None:
        """What every worker does first: see to what killed ones left, and say what others need to join."""
        trials = self.study.get_trials(deepcopy=False)
        if self.presence.alone:
            for trial in trials:
                if trial.state == TrialState.RUNNING:
                    self.store.put_back(trial)
        self.presence.settle()
        self.records.complete(trials)
        reading = self.setting.data.source.reading.model_dump(mode="json", exclude_defaults=True)
        told = {"source": source, "reading": reading, "code": self.study.user_attrs.get("code") or code()}
        for key, value in told.items():
            if self.study.user_attrs.get(key) != value:
                self.study.set_user_attr(key, value)
        if not trials and self.records.path.exists():
            self.listen(
                Event(
                    "note",
                    f"{self.records.path} has records, but the study itself is not here: a new one starts from them "
                    "(--rebuild takes their trials into it)",
                )
            )
        hyperparameters = self._given(start) if start else self._promising(seconds)
        if not trials and hyperparameters:
            self.study.enqueue_trial(self.setting.tuning.first | hyperparameters)
        elif start and not any(
            present(hyperparameters).items() <= (t.params or t.system_attrs.get("fixed_params", {})).items()
            for t in trials
        ):
            self.listen(Event("note", f"the study has begun: {start.name} is not put before what it has tried"))

    def _promising(self, seconds: float | None) -> dict | None:
        """Hyperparameters of what is tried first where nothing is given: the cheapest that an earlier study knows to
        reach the target, of those that leave most of the time for others, or else a guess of the published width."""
        setting, affordable = self.setting, self.pace.affordable([], seconds and KNOWN * seconds, FIRST)
        for known in self.sampler.problem.known[-1]:
            if setting.work(known.params) <= affordable:
                return known.params
        guess = start_of(setting.data.name, setting.target)
        return setting.space.near_published(*guess) if guess else None

    def _given(self, start: LiteConfig) -> dict:
        """Hyperparameters of a configuration that shall be tried first. Raises UserError where it can't be."""
        setting = self.setting
        hyperparameters = setting.space.hyperparameters_of(start)
        if hyperparameters is None or start.parameters() >= setting.ceiling:
            raise UserError(
                f"{start.name}, {start.parameters():,} parameters, can't be tried first: it is none of the "
                f"{setting.family} family's configurations below {setting.ceiling:,} parameters"
            )
        setting.costs.measure([start])
        if exceeded := setting.costs.exceeded(start):
            raise UserError(f"{start.name} can't be tried first: it has {exceeded}")
        return hyperparameters

    def __enter__(self) -> "Search":
        return self

    def __exit__(self, *problem) -> None:
        self.close()

    def close(self) -> None:
        """Leave the study to others."""
        self.connection.close()
        self.here.close()

    # --- the study ---------------------------------------------------------------------------------------------

    def _opened(self, url: str | URL, rebuild: bool) -> optuna.Study:
        """The study in the storage at `url`; with `rebuild` a damaged SQLite file is set aside and made anew."""
        try:
            self.storage = self.connection.enter_context(closing(connect(url, wait=True)))
            return self._open(rebuild)
        except Lost:
            if not rebuild or sqlite_file(url) is None:
                raise
        self.connection.close()
        for part in ("", "-wal", "-shm"):
            set_aside(Path(f"{sqlite_file(url)}{part}"), "is damaged, so the study is made anew")
        self.storage = self.connection.enter_context(closing(connect(url)))
        return self._open(rebuild)

    def _open(self, rebuild: bool) -> optuna.Study:
        setting, identity = self.setting, self.setting.identity()
        free = () if setting.stated else ("threshold",)
        study = open_study(self.storage, setting.name, identity, free)
        setting.resume(study.user_attrs["identity"])
        checked(study.get_trials(deepcopy=False))
        if rebuild:
            if emptied(study, self.storage, self.presence.alone):
                study = open_study(self.storage, setting.name, setting.identity())
            self.listen(Event("note", restored(study, setting, self.records.path, self.worker)))
        elif study.user_attrs.get("rebuilding"):
            raise UserError(f"rebuilding the study {setting.name} was cut off: give --rebuild again")
        setting.keep_choices(study.get_trials(deepcopy=False))
        # those of the study itself it knows already, but for what an earlier study of this name left in the records
        known = {identity_of(text.encode()) for text in texts(study.get_trials(deepcopy=False))}
        records = [r for path in self.results.known() for r in read(path, known if path == self.records.path else ())]
        trained = [r for r in records if isinstance(r, Trial) and r.state in ("complete", "pruned")]
        trials = [trial for trial in trained if trial.state == "complete"]
        self._scouts = [r for r in records if isinstance(r, Scout)]
        self.pace, label, tuning = Pace(setting, trials), setting.data.label, setting.tuning
        curves = known_curves(trials, label, tuning)
        earlier = warm_start(trained, setting.space, label, tuning, setting.threshold, setting.task.score, curves)
        self.sampler = FrontierSampler(
            setting.hyperparameters,
            self.pool.below,
            [aim.threshold for aim in setting.aims],
            setting.space.bound,
            near=self.pool.near,
            cost=setting.costs.minimise,
            epochs=setting.tuning.length,
            seed=setting.seed,
            earlier=earlier,
            curves=curves,
            centred=setting.tuning.hyperparameters,
            error=partial(shortfall, setting.task.score),
        )
        study.sampler, study.pruner = self.sampler, FrontierPruner(self.sampler)
        self.found = Found(study, setting, self.sampler)
        return study

    def marks(self, params: Mapping) -> dict:
        """What a running trial of this worker says of itself, for others and for the sampler."""
        config, _ = self.setting.plan(params)
        built = {"parameters": config.parameters(), "config": config.model_dump(mode="json")} if config else {}
        if minimised := self.setting.minimised(config):
            built[minimised.name] = minimised.value
        return built | {"worker": self.worker, "beat": now()}

    def obey(self) -> None:
        """Raises Unfinished where `wavemix stop` has stopped the study, UserError where other code goes on with it."""
        name, attributes = self.setting.name, self.storage.get_study_user_attrs(self.store.study_id)
        if attributes.get("stop"):
            self.stopped = True
            raise Unfinished(f"the study {name} was stopped: `wavemix search` with its options resumes it")
        if self.claim.taken_over(attributes):
            raise Unfinished(f"another machine's `wavemix search` has taken over the study {name}")
        if attributes.get("code") != code():
            raise UserError(f"the study {name} is being searched by another version of this program: use that one")

    def reopen(self) -> None:
        """Take back what `wavemix stop` has asked for, and go on with this version of the program, no other.

        For the one `wavemix search` of the study, which holds its `records.searching`.
        """
        for key, value in {"stop": None, "code": code()}.items():
            if self.study.user_attrs.get(key) != value:
                self.study.set_user_attr(key, value)

    # --- running -----------------------------------------------------------------------------------------------

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
        start, before = time.monotonic(), self.store.ended
        self._until = None if seconds is None else (start + seconds, confirmation_seeds)
        while (trials is None or self.store.ended - before < trials) and (
            total is None or len(self.found.recorded()) < total
        ):
            deadline = None
            if seconds is not None:
                deadline = start + seconds - sum(self._confirming(confirmation_seeds))
                left = deadline - time.monotonic()
                late = left <= 0 or (self.store.ended > before and left < 0.5 * self.pace.typical(self.found.ended()))
                if late and self.found.recorded():
                    break
            signals.check()
            try:
                self.obey()
                others = self.store.running()
                if not self._one(deadline if self.found.best() else None):
                    if not others:
                        fitting = "" if self._affordable() == math.inf else " that fits into the time left"
                        text = f"no untried configuration below the incumbent was found{fitting}"
                        self.listen(Event("note", text))
                        break
                    sleep(POLL)  # one of them may die and leave its trial
            except Unfinished as reason:
                self.listen(Event("note", str(reason)))
                break

    def _proposal(self) -> dict | None:
        """Parameters of a new trial: one that the time left is enough for, but for the first, which is finished in any
        case."""
        left = None if self._until is None else self._until[0] - time.monotonic()
        fitting = self.scouting.best(self._affordable(), left)
        if fitting is None and not self.found.recorded():
            fitting = self.scouting.best(math.inf, left)
        return dict(fitting.params) if fitting else None

    def _affordable(self) -> float:
        """Work of the largest configuration that can be trained and confirmed in the time left."""
        if self._until is None:
            return math.inf
        end, seeds = self._until
        # in its stead the costliest one of the front is not confirmed; the others are
        others = sum(sorted(self._confirming(seeds))[:-1])
        return self.pace.affordable(self.found.ended(), end - time.monotonic() - others, seeds)

    def _confirming(self, seeds: int) -> list[float]:
        """Expected seconds of confirming each trial of the front."""
        return [self.pace.confirmation(trial, seeds) for trial in self.found.front()]

    def _one(self, deadline: float | None = None) -> bool:
        """Ask for one configuration, train it and tell; False when there is nothing left to try."""
        taken = self.store.take()
        if taken is None:
            return False
        run = TrialRun(
            self.setting,
            self.store,
            *taken,
            checkpoints=self.checkpoints,
            device=self.device,
            precision=self.precision,
            obey=self.obey,
            listen=self.listen,
        )
        if run.config is None:
            self.store.drop(run.id)
        elif (twin := self.store.twin(*taken)) is not None:
            self.store.drop(run.id, twin=twin)
        elif reason := self._refusal(run.config):
            run.refuse(reason)
        else:
            self._count(run.run(deadline))
        return True

    def _refusal(self, config: LiteConfig) -> str | None:
        """Why a configuration is not to be trained: a latency, for one, is known only now that it was measured."""
        costs, incumbent = self.setting.costs, self.found.incumbent
        if costs.of(config) >= incumbent:
            return f"not below the incumbent's {cost_shown(costs.minimise, incumbent)}"
        return costs.exceeded(config)

    def _count(self, broken: Exception | None) -> None:
        """A training that broke (out of memory, say) is one failed trial; several in a row are no accident."""
        self.broken = 0 if broken is None else self.broken + 1
        if broken is not None and self.broken == BROKEN:
            raise UserError(f"{BROKEN} trials in a row broke, the last with {breakage(broken)}") from broken
