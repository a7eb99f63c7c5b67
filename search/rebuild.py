"""A lost study made anew from its records: its trials get their numbers, parameters, curves and results back."""

from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from .attempt import STATES
from .errors import UserError
from .journal import read
from .recipe import Recipe
from .records import Trial
from .seal import seal
from .waiting import Word

if TYPE_CHECKING:
    from .study import Search

UNFINISHED = "rebuilding"  # attribute of a study whose trials are not all there yet


def emptied(study: optuna.Study, search: "Search") -> bool:
    """Delete a study that has not got beyond its first trials; False where there is nothing to delete.

    Raises UserError where it is not lost: it has finished trials, or running ones of others.
    """
    trials = study.get_trials(deepcopy=False)
    dead = (TrialState.WAITING, TrialState.RUNNING) if search.presence.alone else (TrialState.WAITING,)
    if not study.user_attrs.get(UNFINISHED) and any(trial.state not in dead for trial in trials):
        raise UserError(f"the study {study.study_name} is not lost, it has {len(trials)} trials: leave --rebuild out")
    if trials:
        optuna.delete_study(study_name=study.study_name, storage=search.storage)
    return bool(trials)


def restored(study: optuna.Study, search: "Search") -> str:
    """Give `study`, an empty one, the trials that the records of `search` tell of; says how many they are.

    Of several records with one number the last counts. One whose record is elsewhere, or whose configuration the space
    does not have, is a failed trial: the others keep their numbers.
    """
    records = [
        record
        for record in (read(search.path) if search.path.exists() else [])
        if isinstance(record, Trial)
        and record.number is not None
        and (record.study, record.target, record.family) == (search.name, search.target, search.family)
        and (record.dataset.digest, record.seeds) == (search.train.digest, search.seeds)
    ]
    latest = {record.number: record for record in sorted(records, key=lambda record: record.created)}
    study.set_user_attr(UNFINISHED, True)
    back = 0
    with Word(f"{len(latest)} trials to be written"):
        for number in range(1 + max(latest, default=-1)):
            trial = trial_of(latest[number], number, search) if number in latest else None
            back += trial is not None
            study.add_trial(trial or create_trial(state=TrialState.FAIL, user_attrs={"lost": True}))
    study.set_user_attr(UNFINISHED, None)
    return f"the study {search.name} has {back} of the {len(latest)} trials in {search.path} again"


def trial_of(record: Trial, number: int, search: "Search") -> FrozenTrial | None:
    """The trial that a record tells of; None where its configuration is not in the search's space, or half told."""
    knobs = search.space.knobs_of(record.config)
    if knobs is None or (record.state == "complete" and record.accuracy_validation is None):
        return None
    params = knobs | search.tuning.knobs_of(Recipe.model_validate(record.recipe))
    choices = search.space.knobs | search.tuning.knobs
    state, accuracy = STATES.get(record.state, TrialState.FAIL), record.accuracy_validation
    attributes: dict[str, Any] = {
        "parameters": record.parameters,
        "config": record.config.model_dump(mode="json"),
        "worker": search.worker,
        "record": record.model_dump_json(),
        "seconds": record.device_seconds,
    }
    if record.state == "complete":
        attributes["feasible"] = record.feasible
    means = [[point.accuracy for point in points] for points in zip(*record.curves)]
    trial = create_trial(
        state=state,
        value=accuracy if record.state in ("complete", "pruned") else None,
        params=params,
        distributions={name: CategoricalDistribution(choices[name]) for name in params},
        user_attrs=attributes,
        intermediate_values={e: sum(found) / len(found) for e, found in enumerate(means, 1) if None not in found},
    )
    trial.number = number
    trial.set_user_attr("seal", seal(trial, state, trial.values, {}))
    return trial
