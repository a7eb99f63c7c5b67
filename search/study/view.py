"""A storage as optuna-dashboard shows it: read only, and every study with the objective that its search has.

A study is stored with the validation accuracy as its value, which is maximised: the sampler and the records rely on
it. A search looks for the fewest parameters, or the least of another cost, among the feasible trials. So that a reader
sees this, trials are changed on their way to the page: that cost is the value, which is minimised, and feasibility is
Optuna's constraint.
"""

import copy
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.errors import UserError
from search.study.optuna_internals import CONSTRAINTS, METRIC_NAMES, FrozenStudy, frozen_study, id_of_study, id_of_trial
from search.study.targets import listed
from search.tasks.score import ACCURACY as SHARE

ACCURACY, NEEDED = "validation accuracy", "validation accuracy to reach"
# Attributes that nobody reads on a page; the records alone are most of what it would have to load.
HIDDEN = ("record", "seal", "beat")


@dataclass(frozen=True)
class Question:
    """What a study looks for: the least of the `objective`, which trials have as an attribute, among those that reach
    the validation accuracy `bound`; of several targets the highest one's."""

    objective: str
    bound: float


def asked(attributes: Mapping[str, Any]) -> Question | None:
    """By a study's attributes; None where it was not made by `wavemix search`: such a study is shown as it is
    stored."""
    identity = attributes.get("identity")
    if not isinstance(identity, dict) or not identity.keys() >= {"target", "validation"}:
        return None
    target = max(listed(identity["target"]))
    bound = max(listed(identity.get("threshold") or SHARE.threshold(target, identity["validation"])))
    return Question(identity.get("minimise", "parameters"), bound)


def constraint(trial: FrozenTrial, bound: float) -> float:
    """How far a trial misses the accuracy `bound`: above zero exactly where it is not feasible.

    A pruned trial is never feasible, and whether a complete one is was decided when it ended.
    """
    missing = bound - trial.values[0]
    if trial.state == TrialState.COMPLETE and trial.user_attrs.get("feasible"):
        return min(missing, 0.0)
    return max(missing, math.ulp(1.0))


def as_shown(trial: FrozenTrial, question: Question) -> FrozenTrial:
    """A copy of `trial` for the page; its learning curve stays.

    One without an accuracy (waiting, running, refused, failed) has no value either, since a value without a constraint
    would look feasible.
    """
    changed = copy.copy(trial)
    changed.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in HIDDEN}
    if trial.values is not None:
        # another program may have ended a trial that this one never built: it has no number of parameters
        changed.values = [float(trial.user_attrs.get(question.objective, math.inf))]
        changed.user_attrs = {ACCURACY: trial.values[0]} | changed.user_attrs
        changed.system_attrs = trial.system_attrs | {CONSTRAINTS: [constraint(trial, question.bound)]}
    return changed


def _refused(*_, **__):
    raise UserError("read only: studies are changed by `wavemix search` alone")


class View(BaseStorage):
    """The studies and trials of `storage`, read anew with every call and never written."""

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refused
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refused
    set_trial_user_attr = set_trial_system_attr = _refused

    def __init__(self, storage: BaseStorage):
        self.storage = storage

    def remove_session(self) -> None:
        self.storage.remove_session()

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        ours = self._asked(study_id) is not None
        return [StudyDirection.MINIMIZE] if ours else self.storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        attributes = self.storage.get_study_user_attrs(study_id)
        question = asked(attributes)
        return attributes if question is None else {NEEDED: question.bound} | attributes

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        attributes = self.storage.get_study_system_attrs(study_id)
        question = self._asked(study_id)
        return attributes if question is None else attributes | {METRIC_NAMES: [question.objective]}

    def get_all_studies(self) -> list[FrozenStudy]:
        return [
            study
            if (question := asked(study.user_attrs)) is None
            else frozen_study(
                study.study_name,
                StudyDirection.MINIMIZE,
                {NEEDED: question.bound} | study.user_attrs,
                study.system_attrs | {METRIC_NAMES: [question.objective]},
                id_of_study(study),
            )
            for study in self.storage.get_all_studies()
        ]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial by its id, looked for in all studies: slow, but the dashboard needs it for artifacts only."""
        for study in self.storage.get_all_studies():
            for trial in self.get_all_trials(id_of_study(study), deepcopy=False):
                if id_of_trial(trial) == trial_id:
                    return trial
        raise KeyError(f"no trial with the id {trial_id}")

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        question = self._asked(study_id)
        trials = self.storage.get_all_trials(study_id, deepcopy, states)
        return trials if question is None else [as_shown(trial, question) for trial in trials]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The feasible trial with the least of the objective, as in the search; without one, the nearest miss.

        Optuna's own storages ignore constraints here, and optuna-dashboard shows whatever the storage returns. Raises
        ValueError where no trial is complete.
        """
        if self._asked(study_id) is None:
            return self.storage.get_best_trial(study_id)
        trials = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        return min(trials, key=lambda trial: (max(0.0, *trial.constraints.values()), trial.value))

    def _asked(self, study_id: int) -> Question | None:
        return asked(self.storage.get_study_user_attrs(study_id))
