"""One target of a study or several, and which of them a trial is feasible for, as the storage has it."""

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial


def listed(value: float | Sequence[float]) -> list[float]:
    """One number or several, as a study's identity has them."""
    return list(value) if isinstance(value, Sequence) else [value]


def one_or_all(values: list[float]) -> float | list[float]:
    """The other way round."""
    return values if len(values) > 1 else values[0]


def marks(targets: Sequence[float], reached: Sequence[float]) -> dict[str, Any]:
    """A complete trial's attributes: whether it is feasible for the highest target, and of several for which."""
    return {"feasible": targets[-1] in reached} | ({"reached": list(reached)} if len(targets) > 1 else {})


def reached(trial: FrozenTrial, targets: Sequence[float]) -> list[float]:
    """Those that a trial is feasible for, by its `marks`."""
    every = trial.user_attrs.get("reached")
    if every is None:
        return list(targets[-1:]) if trial.user_attrs.get("feasible") else []
    return [target for target in targets if target in every]
