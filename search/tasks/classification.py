"""Classification: images with a class each, judged by the share classified right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.data.catalogue import VALIDATION
from search.data.split import Portion, Split
from search.tasks.task import Measured, OnEpoch, State, Task
from search.training.default_recipe import default_recipe
from search.training.evaluate import evaluate
from search.training.images import normalisation
from search.training.outcome import Trained
from search.training.recipe import Recipe
from search.training.train import check_batch, check_fit, train
from wavemix.config import LiteConfig, Views


class Classification(Task):
    """Networks of all seeds train at once, as a stack."""

    name = "classification"

    def own(self, data: Portion) -> dict[str, Any]:
        return {"in_channels": data.shape[0], "num_classes": len(data.classes)}

    def choices(self, data: Portion) -> dict[str, tuple]:
        return {}

    def views(self, recipe: Recipe) -> tuple[Views, ...]:
        views = super().views(recipe)
        return views if recipe.flip or recipe.shift < 1 else ("shifts", *views)

    def recipe(self, data: Portion, parameters: int) -> Recipe:
        return default_recipe(data.name, data.shape[2], None, parameters)

    def validation_count(self, data: Portion) -> int:
        return VALIDATION.get(data.name, max(1, len(data) // 10))

    def few(self, data: Portion) -> int:
        return min(len(data), max(1_000, min(10_000, len(data) // 5)))

    def check(self, config: LiteConfig, recipe: Recipe, data: Portion) -> None:
        check_fit(config, _split(data))
        self.check_recipe(recipe, data)

    def check_recipe(self, recipe: Recipe, data: Portion) -> None:
        check_batch(recipe)

    def train(
        self,
        config: LiteConfig,
        recipe: Recipe,
        data: Portion,
        seeds: Sequence[int],
        *,
        validation: Portion | None = None,
        on_epoch: OnEpoch | None = None,
        checkpoint: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> list[Trained]:
        held_out = None if validation is None else _split(validation)
        options = {"validation": held_out, "on_epoch": on_epoch, "checkpoint": checkpoint, "device": device}
        return train(config, recipe, _split(data), seeds, **options)

    def measure(self, config: LiteConfig, states: Sequence[State], train: Portion, test: Portion) -> Measured:
        return Measured(evaluate(config, [dict(state) for state in states], _split(train), _split(test)))

    def normalisation(self, data: Portion) -> tuple[Tensor, Tensor]:
        return normalisation(_split(data).images)


TASK = Classification()


def _split(data: Portion) -> Split:
    if not isinstance(data, Split):
        raise TypeError("classification takes images with a class each")
    return data
