"""Trials that a search hands to a confirmation."""

import torch

from search.data.split import Split
from search.records.models import Data, Trial
from search.training.recipe import Recipe
from wavemix import LiteConfig

RECIPE = Recipe(epochs=4)


SEEDS = [1_000_000, 1_000_001, 1_000_002]


SURE = [0.949, 0.95, 0.951]


def config(depth: int, **hyperparameters) -> LiteConfig:
    return LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=depth, **hyperparameters)


def split(part: str = "train", count: int = 40) -> Split:
    generator = torch.Generator().manual_seed(len(part))
    images = torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return Split("toy", "Toy", part, images, torch.arange(count) % 4, tuple("abcd"), "folder")


def trial(depth: int, accuracy: float, **changes) -> Trial:
    state = changes.pop("state", "complete")
    fields = {
        "study": "toy",
        "config": config(depth),
        "recipe": RECIPE,
        "dataset": Data(name="toy", label="Toy", variant="folder", digest="d", train_count=9, validation_count=100),
        "target": 0.9,
        "family": "published",
        "seeds": [1],
        "parameters": config(depth).parameters(),
        "accuracies": [accuracy],
        "accuracy_validation": accuracy,
        "state": state,
    }
    return Trial(**fields | changes)
