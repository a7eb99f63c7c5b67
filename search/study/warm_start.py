"""A warm start: what other studies measured, as a new study's sampler understands it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from search.records.models import Trial
from search.sampling.learning_curves import Curves
from search.sampling.posterior import SHARED
from search.sampling.prior import expected, par_of
from search.sampling.problem import ALIKE, Observation, averaged
from search.space.configurations import Space
from search.space.recipe_choices import EPOCHS, Tuning
from search.tasks.scale import shortfall
from search.tasks.score import ACCURACY, Score
from search.training.recipe import Recipe

WHOLE = 20  # curves of earlier trainings that are remembered: more would outweigh a study's own for long
MANY = 10  # measurements of one kind from which their common level is taken out


def warm_start(
    trials: Sequence[Trial],
    space: Space,
    label: str,
    tuning: Tuning,
    threshold: float,
    score: Score = ACCURACY,
    curves: Sequence[Sequence[float]] = (),
) -> list[Observation]:
    """Complete trials whose configurations lie in `space`, those of other data sets and recipes as noisier ones, and
    pruned ones of the same data and recipe by where their curves were heading: as the `known_curves` did.

    Another data set, and another recipe (fewer epochs, say), tell about trends; their level is another one. A few such
    trials hardly move the model's level; many would, so theirs is moved to where the sampler's prior mean has it.
    """
    groups: dict[tuple, list[Observation]] = defaultdict(list)
    known = Curves(partial(shortfall, score), threshold)
    for curve in curves:
        known.add(curve)
    for trial in trials:
        own = {"in_channels": space.image[0]} | ({"num_classes": space.classes} if space.classes else {})
        config = trial.config.model_copy(update=own)
        hyperparameters = space.hyperparameters_of(config)
        if hyperparameters is None or trial.accuracy_validation is None or space.costs.of(config) == math.inf:
            continue
        # trained in another precision it is no other recipe
        recipe = Recipe.model_validate(trial.recipe).model_copy(update={"precision": tuning.base.precision})
        chosen = tuning.hyperparameters_of(recipe)
        ours, same = trial.dataset.label == label, tuning.recipe(chosen) == recipe
        if not same:  # the level of such records says nothing about lengths
            chosen = tuning.first | {name: value for name, value in chosen.items() if name != EPOCHS}
        value = shortfall(score, trial.accuracy_validation, threshold if ours else trial.threshold or trial.target)
        noise, shared = 0.4 if not ours else 0.1 if same else 0.3, 0.0
        kind = () if ours and same else (trial.dataset.label, trial.study)
        if trial.state != "complete":
            ends = [
                known.end(len(curve), recipe.epochs, curve[-1].accuracy, threshold)
                for curve in trial.curves
                if curve and curve[-1].accuracy is not None
            ]
            if kind or not ends:  # elsewhere it says too little
                continue
            value, deviation = (sum(part) / len(ends) for part in zip(*ends))
            noise, shared = math.hypot(noise, deviation), SHARED * deviation
        groups[kind].append(Observation(hyperparameters | chosen, space.costs.of(config), value, noise, shared))
    _levelled(groups, space.bound, tuning)
    # the least noisy last: a survey takes those that it has room for from the end
    return sorted((o for group in groups.values() for o in group), key=lambda o: -o.noise)


def _levelled(groups: Mapping[tuple, list[Observation]], ceiling: float, tuning: Tuning) -> None:
    """Move the level of other data sets and recipes, many of a kind, to where the prior mean has it, given what was
    measured under the same conditions."""
    usual = tuning.length(tuning.first)

    def line(observations: Sequence[Observation]) -> tuple[list[float], list[float], float]:
        return [o.cost for o in observations], [tuning.length(o.params) for o in observations], usual

    told = averaged(o for o in groups.get((), ()) if o.noise <= ALIKE)
    par = par_of(ceiling, *line(told), [o.value for o in told])
    for kind, group in groups.items():
        if kind and len(group) >= MANY:
            level = float(np.mean([o.value for o in group] - expected(par, *line(group))))
            for observation in group:
                observation.value -= level


def known_curves(trials: Sequence[Trial], label: str, tuning: Tuning) -> list[list[float]]:
    """Scores by epoch, mean of the seeds, of the latest whole trainings on these data by the same recipe, whatever the
    network and the number of epochs."""
    found = []
    for trial in trials:
        recipe = Recipe.model_validate(trial.recipe)
        free = {name: getattr(tuning.base, name) for name in (*tuning.choices, "epochs", "precision")}
        alike = recipe.model_copy(update=free) == tuning.base
        if trial.dataset.label != label or not alike or {len(curve) for curve in trial.curves} != {recipe.epochs}:
            continue
        scores = [[point.accuracy for point in epoch] for epoch in zip(*trial.curves)]
        if all(None not in epoch for epoch in scores):
            found.append([sum(epoch) / len(epoch) for epoch in scores])
    return found[-WHOLE:]
