"""What a training is: its network, its recipe and its images. Everything else follows from these and the seeds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from search.training.recipe import Recipe
from wavemix.config import LiteConfig


@dataclass(frozen=True)
class Training:
    """`digest` is of the images and labels trained on."""

    config: LiteConfig
    recipe: Recipe
    digest: str

    def checkpoint_name(self, seeds: Sequence[int]) -> str:
        """The file name of the checkpoint of this training with `seeds`.

        Knobs at their defaults are left out, so that a later version with more of them finds it.
        """
        knobs = [part.model_dump(mode="json", exclude_defaults=True) for part in (self.config, self.recipe)]
        key = hashlib.sha256(json.dumps([*knobs, list(seeds), self.digest], sort_keys=True).encode()).hexdigest()
        return f"{self.config.name}-{key[:16]}.checkpoint"
