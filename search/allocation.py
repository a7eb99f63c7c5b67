"""Which worker of a study works on which trial: taking the next one, and putting back those of dead workers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from .heartbeat import Watch, sign
from .storage import Patient


def knobs_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters, also of one that waits to be given them."""
    return trial.system_attrs.get("fixed_params") or trial.params


class Allocation:
    """The trials of a study as one worker takes them.

    Args:
        knobs: name -> choices, of every trial.
        propose: parameters of a new trial, None where nothing is left to try.
        marks: what a running trial of this worker with these parameters says of itself, as user attributes.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: Patient,
        knobs: Mapping[str, Sequence],
        propose: Callable[[], dict[str, Any] | None],
        marks: Callable[[dict[str, Any]], dict[str, Any]],
    ):
        self.study, self.storage, self.propose, self.marks = study, storage, propose, marks
        self.distributions = {name: CategoricalDistribution(values) for name, values in knobs.items()}
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.watch, self._waited = Watch(), 0

    def trial_id(self, number: int) -> int:
        """The storage's own number of a trial."""
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
            state=TrialState.RUNNING, params=params, distributions=self.distributions, user_attrs=self.marks(params)
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
            if trial.number < number and trial.state != TrialState.FAIL and knobs_of(trial) == params:
                return trial.number
        return None

    def put_back(self, trial: FrozenTrial) -> None:
        """Let a trial whose worker has died wait for another: it stays the same one, so none is lost or made twice.

        One without parameters has nothing to go on with, and is ended.
        """
        whole = knobs_of(trial).keys() == self.distributions.keys()
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
