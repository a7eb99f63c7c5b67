"""Which hyperparameters matter: a measure made from completed trials."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from search.records.jsonl import Record
from search.records.models import Trial
from search.tasks.scale import shortfall
from search.training.recipe import filled
from wavemix.config import LiteConfig

FEWEST = 12  # completed trials from which a fit says something about a hyperparameter


def importances(records: Iterable[Record]) -> dict[str, float]:
    """How much of what the parameter count leaves open each hyperparameter explains, most first; {} for too few trials.

    Over the completed trials, the logarithm of the validation error is fitted by least squares with an intercept and
    the logarithm of the parameter count; then, for one hyperparameter at a time, with an indicator for each of its
    values as well. A hyperparameter's figure is the share of residual variance that it removes, 1 - (RSS1 / dof1) /
    (RSS0 / dof0), not below 0: dividing by the degrees of freedom keeps hyperparameters with many values from looking
    important by that alone. Figures are of single hyperparameters, so they do not add up to 1, and they speak about
    what was tried, not about causes. Hyperparameters of the recipe, named "recipe: ...", count wherever they differ.
    """
    trials = [r for r in records if isinstance(r, Trial) and r.state == "complete" and r.accuracy_validation]
    if len(trials) < FEWEST:
        return {}
    half_an_image = [0.5 / max(1, r.dataset.validation_count) for r in trials]
    score = trials[0].score
    if score.counted:
        error = np.log([max(1 - (r.accuracy_validation or 0.0), least) for r, least in zip(trials, half_an_image)])
    else:
        error = np.array([shortfall(score, r.accuracy_validation or 0.0, r.needed) for r in trials])
    size = np.log([r.parameters for r in trials])
    base = np.stack([np.ones(len(trials)), size], axis=1)
    before, freedom = _residual(base, error)
    if freedom < 1 or before <= 1e-12:
        return {}
    found = {}
    for name, values in _hyperparameters(trials).items():
        levels = sorted(set(values))
        if not 1 < len(levels) <= len(trials) // 3:
            continue
        indicators = np.array([[value == level for level in levels[1:]] for value in values], dtype=float)
        after, left = _residual(np.concatenate([base, indicators], axis=1), error)
        if left >= 1:
            found[name] = max(0.0, 1 - (after / left) / (before / freedom))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _residual(columns: NDArray, values: NDArray) -> tuple[float, int]:
    """(sum of squared residuals, degrees of freedom left) of the least-squares fit."""
    solution, _, rank, _ = np.linalg.lstsq(columns, values, rcond=None)
    return float(np.sum((values - columns @ solution) ** 2)), len(values) - int(rank)


def _hyperparameters(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Hyperparameter -> its value in every trial, as text; "(C)" is a feed-forward as wide as the embedding."""
    configs = [r.config for r in trials]
    names = LiteConfig.model_fields.keys() - {"in_channels", "num_classes"}  # JSON is without some at their defaults
    hyperparameters = {name: [str(getattr(c, name)) for c in configs] for name in sorted(names)}
    hyperparameters["ff_channel"] = [f"{c.ff_outputs / c.final_dim:g} C" for c in configs]
    recipes = [filled(r.recipe) for r in trials]
    for name in sorted({key for recipe in recipes for key in recipe}):
        hyperparameters[f"recipe: {name}"] = [str(recipe.get(name)) for recipe in recipes]
    return hyperparameters
