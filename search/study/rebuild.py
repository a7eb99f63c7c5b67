"""A lost study made anew from its records: its trials get their numbers, parameters, curves and results back."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.errors import UserError, present
from search.records.jsonl import read
from search.records.models import Trial
from search.signals import Word
from search.study.seals import seal
from search.study.setting import Setting
from search.study.storage import Patient, keep_identity
from search.study.store import STATES
from search.study.targets import marks
from search.training.recipe import Recipe

UNFINISHED = "rebuilding"  # attribute of a study whose trials are not all there yet


def emptied(study: optuna.Study, storage: Patient, alone: bool) -> bool:
    """Delete a study that has not got beyond its first trials; False where there is nothing to delete.

    `alone` says that no other process works on it. Raises UserError where it is not lost: it has finished trials, or
    running ones of others.
    """
    trials = study.get_trials(deepcopy=False)
    dead = (TrialState.WAITING, TrialState.RUNNING) if alone else (TrialState.WAITING,)
    if not study.user_attrs.get(UNFINISHED) and any(trial.state not in dead for trial in trials):
        raise UserError(f"the study {study.study_name} is not lost, it has {len(trials)} trials: leave --rebuild out")
    if trials:
        optuna.delete_study(study_name=study.study_name, storage=storage.as_optunas())
    return bool(trials)


def restored(study: optuna.Study, setting: Setting, path: Path, worker: str) -> str:
    """Give `study`, an empty one, the trials that the records at `path` tell of; says how many they are.

    Of several records with one number the last counts. One whose record is elsewhere, or whose configuration the space
    does not have, is a failed trial: the others keep their numbers.
    """
    records = [
        record
        for record in (read(path) if path.exists() else [])
        if isinstance(record, Trial)
        and record.number is not None
        and (record.study, record.targets, record.family) == (setting.name, setting.targets, setting.family)
        and (record.dataset.digest, record.seeds) == (setting.train.digest, setting.seeds[: len(record.seeds)])
    ]
    latest = {present(record.number): record for record in sorted(records, key=lambda record: record.created)}
    if latest and not setting.stated:  # as when it was begun, whatever is on record since
        _, last = max(latest.items())
        setting.resume({"threshold": [one.needed for one in last.each()]})
        keep_identity(study, setting.identity())
    study.set_user_attr(UNFINISHED, True)
    back = 0
    with Word(f"{len(latest)} trials to be written"):
        for number in range(1 + max(latest, default=-1)):
            trial = trial_of(latest[number], number, setting, worker) if number in latest else None
            back += trial is not None
            study.add_trial(trial or create_trial(state=TrialState.FAIL, user_attrs={"lost": True}))
    study.set_user_attr(UNFINISHED, None)
    return f"the study {setting.name} has {back} of the {len(latest)} trials in {path} again"


def trial_of(record: Trial, number: int, setting: Setting, worker: str) -> FrozenTrial | None:
    """The trial that a record tells of; None where its configuration is not in the study's space, or half told."""
    hyperparameters = setting.space.hyperparameters_of(record.config)
    if hyperparameters is None or (record.state == "complete" and record.accuracy_validation is None):
        return None
    params = hyperparameters | setting.tuning.hyperparameters_of(Recipe.model_validate(record.recipe))
    choices = setting.hyperparameters
    state, accuracy = STATES.get(record.state, TrialState.FAIL), record.accuracy_validation
    attributes: dict[str, Any] = {
        "parameters": record.parameters,
        "config": record.config.model_dump(mode="json"),
        "worker": worker,
        "record": record.model_dump_json(),
        "seconds": record.device_seconds,
        "seeds": len(record.seeds),
    }
    if record.minimised is not None:
        attributes[record.minimised.name] = record.minimised.value
    if record.state == "complete":
        attributes |= marks(setting.targets, [one.target for one in record.each() if one.feasible])
    epochs = zip_longest(*record.curves)  # a seed whose loss was no number has a shorter one
    scores = [[point.accuracy for point in epoch if point and point.accuracy is not None] for epoch in epochs]
    trial = create_trial(
        state=state,
        value=accuracy if record.state in ("complete", "pruned") else None,
        params=params,
        distributions={name: CategoricalDistribution(choices[name]) for name in params},
        user_attrs=attributes,
        intermediate_values={e: sum(found) / len(found) for e, found in enumerate(scores, 1) if found},
    )
    trial.number = number
    trial.set_user_attr("seal", seal(trial, state, trial.values, {}))
    return trial
