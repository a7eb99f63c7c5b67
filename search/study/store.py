"""A study in its storage, as one of its workers uses it: trials are taken, reported on, ended or put back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.records.jsonl import Record, append
from search.records.models import Confirmation, Trial
from search.study.heartbeat import Heartbeat, Watch, now, sign
from search.study.outage import Lost
from search.study.seals import seal
from search.study.storage import Patient
from search.study.trial_records import TrialRecords

TESTED = "confirmation "  # what the study's attributes begin with that are records of confirmations
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "refused": TrialState.PRUNED}


class Taken(Exception):
    """Ends a trial that another worker, to whom it had been given, has finished first."""


def hyperparameters_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters, also of one that waits to be given them."""
    return trial.system_attrs.get("fixed_params") or trial.params


class Store:
    """The trials of a study as one worker has them.

    Args:
        records: those of this worker's results directory.
        worker: its name.
        hyperparameters: name -> choices, of every trial.
        propose: parameters of a new trial, None where nothing is left to try.
        marks: what a running trial of this worker with these parameters says of itself, as user attributes.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: Patient,
        records: TrialRecords,
        worker: str,
        hyperparameters: Mapping[str, Sequence],
        propose: Callable[[], dict[str, Any] | None],
        marks: Callable[[dict[str, Any]], dict[str, Any]],
    ):
        self.study, self.storage, self.propose, self.marks = study, storage, propose, marks
        self.records, self.worker = records, worker
        self.ended = 0  # trials that this worker has ended
        self.distributions = {name: CategoricalDistribution(values) for name, values in hyperparameters.items()}
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.watch, self._waited = Watch(), 0

    def trial_id(self, number: int) -> int:
        """The storage's own number of a trial, which the methods on one trial take."""
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)

    def take(self) -> tuple[int, dict[str, Any]] | None:
        """Number and parameters of the trial to work on: one that waits, or a new one; None where nothing is left.

        A new trial's number, parameters and worker come into the storage in one step, and those that wait have their
        parameters: nobody ever has to wait for what a worker, which may have been killed, is about to try.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            try:
                if self.storage.set_trial_state_values(self.trial_id(trial.number), TrialState.RUNNING):
                    return trial.number, self._completed(trial)
            except UpdateFinishedTrialError:
                continue  # another program has ended it
        params = self.propose()
        if params is None:
            return None
        trial = create_trial(
            state=TrialState.RUNNING, params=params, distributions={**self.distributions}, user_attrs=self.marks(params)
        )
        return self.storage.get_trial_number_from_id(self.storage.create_new_trial(self.study_id, trial)), params

    def _completed(self, trial: FrozenTrial) -> dict[str, Any]:
        """The parameters of a trial that has been taken; one that was put in from outside is given them now."""
        if trial.params.keys() == self.distributions.keys():
            return trial.params
        taken = optuna.trial.Trial(self.study, self.trial_id(trial.number))
        return {name: taken.suggest_categorical(name, d.choices) for name, d in self.distributions.items()}

    def twin(self, number: int, params: Mapping[str, Any]) -> int | None:
        """The earlier trial with the same parameters, which another worker took at the same moment: it keeps them."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.number < number and trial.state != TrialState.FAIL and hyperparameters_of(trial) == params:
                return trial.number
        return None

    def put_back(self, trial: FrozenTrial) -> None:
        """Let a trial whose worker has died wait for another: it stays the same one, so none is lost or made twice.

        One without parameters has nothing to go on with, and is ended.
        """
        whole = hyperparameters_of(trial).keys() == self.distributions.keys()
        try:
            state = TrialState.WAITING if whole else TrialState.FAIL
            self.storage.set_trial_state_values(self.trial_id(trial.number), state)
        except UpdateFinishedTrialError:
            pass  # its worker lives after all and has just finished it

    def running(self) -> list[FrozenTrial]:
        """Trials of other workers that show signs of life; the others are put back."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if self.storage.waited != self._waited:
            self._waited = self.storage.waited
            self.watch.forget()
        stale = self.watch.stale({trial.number: sign(trial) for trial in running})
        for trial in running:
            if trial.number in stale:
                self.put_back(trial)
        return [trial for trial in running if trial.number not in stale]

    # --- a trial that this worker has taken ----------------------------------------------------------------------

    def begin(self, trial: int, params: dict[str, Any]) -> None:
        """Say that this worker has it. Raises Taken where it has been ended meanwhile."""
        try:
            stored = self.storage.get_trial(trial).user_attrs
            for key, value in self.marks(params).items():
                if stored.get(key) != value:
                    self.storage.set_trial_user_attr(trial, key, value)
        except UpdateFinishedTrialError:
            raise Taken from None

    def beating(self, trial: int) -> Heartbeat:
        """Signs of life of a trial, during a `with` block."""
        once = self.storage.once
        return Heartbeat(once, lambda: once.set_trial_user_attr(trial, "beat", now()))

    def report(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Keep a point of its curve; whether it is to be pruned. Raises Taken."""
        try:
            self.storage.set_trial_intermediate_value(trial, epoch, accuracy)
        except UpdateFinishedTrialError:
            raise Taken from None
        return self.study.pruner.prune(self.study, self.storage.get_trial(trial))

    def hopeful(self, trial: int) -> bool:
        """Whether a trial whose first seed has been trained may be feasible, given all that is known."""
        pruner: Any = self.study.pruner  # ours, see `Search`
        return pruner.hopeful(self.study, self.storage.get_trial(trial))

    def drop(self, trial: int, **attributes) -> None:
        """End it without a record: there was nothing to try."""
        try:
            for key, value in attributes.items():
                self.storage.set_trial_user_attr(trial, key, value)
            self.storage.set_trial_state_values(trial, TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass

    def release(self, trial: int) -> None:
        """Let another run go on with it, now: it stays the same trial, its checkpoint lies where that run looks.

        Without patience: where the storage does not answer, the trial is found without a sign of life later on.
        """
        try:
            stored = self.storage.once.get_trial(trial)
            if stored.user_attrs.get("worker") == self.worker and stored.state == TrialState.RUNNING:
                self.storage.once.set_trial_state_values(trial, TrialState.WAITING)
        except Exception:  # whatever a driver raises
            pass

    def end(self, trial: int, record: Trial, **attributes) -> None:
        """Tell its outcome and write the record. Raises Taken where another worker had done so before.

        The record is part of what the storage keeps, and whoever sets the final state first has ended the trial: it is
        counted once, and a run that is killed before the last line is completed by the next one (see `TrialRecords`).
        """
        storage, final = self.storage, STATES.get(record.state, TrialState.FAIL)
        accuracy = record.accuracy_validation if record.state in ("complete", "pruned") else None
        values = None if accuracy is None else [accuracy]
        attributes |= {"worker": self.worker, "record": record.model_dump_json()}
        with self.records.locked():
            repeated = storage.waited
            try:
                attributes["seal"] = seal(storage.get_trial(trial), final, values, attributes)
                for key, value in attributes.items():
                    storage.set_trial_user_attr(trial, key, value)
                storage.set_trial_state_values(trial, final, values)
            except UpdateFinishedTrialError:
                stored = storage.get_trial(trial).user_attrs.get("record")
                if storage.waited == repeated or stored != attributes["record"]:
                    raise Taken from None
                # otherwise the answer to this very call had been lost
            except Lost:
                append(self.records.path, record)  # all that is left of it
                raise
            self.ended += 1
            append(self.records.path, record)

    def lost(self, trial: int, params: dict[str, Any]) -> str:
        """What became of a trial that was `Taken`. One that another program failed has not been tried: it is put in
        anew."""
        ended = self.storage.get_trial(trial)
        if ended.state == TrialState.FAIL and not {"record", "twin"} & ended.user_attrs.keys():
            self.study.enqueue_trial(params)
            return "was failed by another program: it is put in anew"
        return "was finished by another worker first"

    def shared(self, records: Sequence[Record]) -> list[Record]:
        """`records` and the confirmations of this study that other machines have made; the storage gets those in it.

        So a network is confirmed once, and attempts are counted through, wherever the study is searched.
        """
        stored = self.storage.get_study_system_attrs(self.study_id)  # the others are read every epoch
        ours = {
            f"{TESTED}{r.created.isoformat()} {r.config.name}": r
            for r in records
            if isinstance(r, Confirmation) and r.study == self.study.study_name
        }
        for key in ours.keys() - stored.keys():
            self.storage.set_study_system_attr(self.study_id, key, ours[key].model_dump_json())
        theirs = sorted(key for key in stored if key.startswith(TESTED) and key not in ours)
        return [*records, *(Confirmation.model_validate_json(stored[key]) for key in theirs)]
