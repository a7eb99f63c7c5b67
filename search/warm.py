"""A warm start: what other studies measured, as a new study's sampler understands it."""

from collections.abc import Sequence

from .curves import relative_error
from .recipe import Recipe
from .records import Trial
from .space import Space
from .survey import Observation


def warm_start(
    trials: Sequence[Trial], space: Space, label: str, recipe: Recipe, threshold: float
) -> list[Observation]:
    """Complete trials whose configurations lie in `space`, those of other data sets and recipes as noisier ones."""
    observations = []
    plan = recipe.model_dump(mode="json")
    for trial in trials:
        config = trial.config.model_copy(update={"in_channels": space.image[0], "num_classes": space.classes})
        knobs = space.knobs_of(config)
        if knobs is None or trial.accuracy_validation is None:
            continue
        if trial.dataset.label == label:  # another recipe tells less about the level
            value = relative_error(trial.accuracy_validation, threshold)
            noise = 0.1 if trial.recipe == plan else 0.3
        else:  # another data set tells about trends only
            value, noise = relative_error(trial.accuracy_validation, trial.target), 0.4
        observations.append(Observation(knobs, config.parameters(), value, noise))
    return observations
