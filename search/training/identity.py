"""What a training is: its network, its recipe and its images. Everything else follows from these and the seeds."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.training.recipe import Recipe, filled
from wavemix.config import LiteConfig


@dataclass(frozen=True)
class Training:
    """`digest` is of the images and labels trained on."""

    config: LiteConfig
    recipe: Recipe
    digest: str

    @property
    def identity(self) -> tuple:
        """Equal for equal trainings, those that a record holds included (`identity`)."""
        return identity(self.config, self.recipe.model_dump(mode="json"), self.digest)

    def checkpoint_name(self, seeds: Sequence[int]) -> str:
        """The file name of the checkpoint of this training with `seeds`.

        Hyperparameters at their defaults are left out, so that a later version with more of them finds it.
        """
        given = [part.model_dump(mode="json", exclude_defaults=True) for part in (self.config, self.recipe)]
        key = hashlib.sha256(json.dumps([*given, list(seeds), self.digest], sort_keys=True).encode()).hexdigest()
        return f"{self.config.name}-{key[:16]}.checkpoint"


def identity(config: LiteConfig, recipe: Mapping[str, Any], digest: str) -> tuple:
    """`Training.identity` of a recipe as a record keeps it, which may be older than some hyperparameters."""
    return config, json.dumps(filled(recipe), sort_keys=True), digest
