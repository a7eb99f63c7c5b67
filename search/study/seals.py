"""Seals: digests of what a study keeps, since a damaged database may well be read, and say something else."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.study.outage import Lost

UNSEALED = ("seal", "beat")  # attributes that are not part of it: the beat goes on while a trial is being told


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def seal(trial: FrozenTrial, state: TrialState, values: Sequence[float] | None, attributes: Mapping[str, Any]) -> str:
    """Of a trial that ends in `state` with `values` and these attributes besides those that it has."""
    attributes = {k: v for k, v in {**trial.user_attrs, **attributes}.items() if k not in UNSEALED}
    curve = sorted(trial.intermediate_values.items())
    return digest([trial.number, state.name, list(values or []), trial.params, curve, attributes])


def checked(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of a study as they are in its storage, by number. Raises Lost where they are not what was told."""
    for place, trial in enumerate(trials):
        # one that is being told has its seal already, but not yet its state
        sealed = trial.state.is_finished() and trial.user_attrs.get("seal")
        if trial.number != place or (sealed and sealed != seal(trial, trial.state, trial.values, {})):
            raise Lost(f"the study's storage is damaged: trial {place} is not what was written")
    return trials
