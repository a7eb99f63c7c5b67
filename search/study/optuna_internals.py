"""All that the project uses of Optuna without a promise that it stays: another version may rename or change it.

Nothing else imports or reads such a part. tests/study/test_optuna_internals.py says which one a version has changed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb import storage as rdb
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Engine

__all__ = ["FrozenStudy", "models", "rdb"]

METRIC_NAMES = "study:metric_names"  # Optuna's key for the names of a study's objectives
# Optuna's key for a trial's constraints in its older format, a list: the only one that optuna-dashboard 0.21 reads
CONSTRAINTS = "constraints"

# opens a session of SQLAlchemy's and turns what goes wrong in it into Optuna's exceptions
scoped_session: Callable = rdb._create_scoped_session


def cached(storage: RDBStorage) -> BaseStorage:
    """A storage that remembers the trials that have ended; it reads others by `RDBStorage._get_trials`."""
    return _CachedStorage(storage)


def engine(storage: BaseStorage) -> Engine | None:
    """SQLAlchemy's engine of what `cached` has returned; None for other storages."""
    return getattr(getattr(storage, "_backend", None), "engine", None)


def frozen_study(
    name: str, direction: StudyDirection, user: Mapping[str, Any], system: Mapping[str, Any], number: int
) -> FrozenStudy:
    return FrozenStudy(name, direction, dict(user), dict(system), number)


def id_of_study(study: FrozenStudy) -> int:
    """The number that a storage knows the study by."""
    return study._study_id


def id_of_trial(trial: FrozenTrial) -> int:
    """The number that a storage knows the trial by; `number` counts the trials of its study."""
    return trial._trial_id


def rewrite(study: optuna.Study, trial: optuna.Trial, values: Mapping[str, Any]) -> None:
    """Change what was suggested to a trial, to other values of the same distributions."""
    distributions = trial.distributions
    for name, value in values.items():
        number = distributions[name].to_internal_repr(value)
        study._storage.set_trial_param(trial._trial_id, name, number, distributions[name])
