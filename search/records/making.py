"""Records made from what was trained."""

from typing import Any

from search.data.pictures import Pictures
from search.data.source import PLAIN
from search.data.split import Portion
from search.errors import present
from search.records.models import Data, Scout, Trial
from search.training.outcome import Trained
from search.training.recipe import Recipe
from wavemix.config import LiteConfig


def trial_of(config: LiteConfig, recipe: Recipe, results: list[Trained], **fields) -> Trial:
    """The record of a configuration trained with one result a seed (none: untrained); `fields` are the others."""
    return Trial(config=config, **_trained(config, recipe, results), **fields)


def scout_of(config: LiteConfig, recipe: Recipe, results: list[Trained], **fields) -> Scout:
    """The record of a brief training on a few images; see `trial_of`."""
    return Scout(config=config, **_trained(config, recipe, results), **fields)


def _trained(config: LiteConfig, recipe: Recipe, results: list[Trained]) -> dict[str, Any]:
    accuracies = [present(r.accuracy) for r in results]
    return {  # the record's own validation makes plain data of them
        "recipe": recipe,
        "parameters": config.parameters(),
        "curves": [r.curve for r in results],
        "accuracies": accuracies,
        "accuracy_validation": sum(accuracies) / len(accuracies) if accuracies else None,
        "device_seconds": results[-1].seconds if results else 0.0,
    }


def is_buffer(key: str) -> bool:
    """Whether a state dict's entry is BatchNorm's bookkeeping, no parameter."""
    return "running_" in key or "num_batches" in key


def dataset_of(
    train_split: Portion, validation: Portion | None, split_seed: int | None, test: Portion | None = None
) -> Data:
    return Data(
        name=train_split.name,
        label=train_split.label,
        variant=train_split.variant,
        digest=train_split.digest,
        train_count=len(train_split),
        validation_count=len(validation) if validation else 0,
        split_seed=split_seed,
        test_digest=test.digest if test else None,
        test_count=(test.deciding if isinstance(test, Pictures) else len(test)) if test else None,
        reading=train_split.source.reading if train_split.source.reading != PLAIN else None,
        skipped=train_split.skipped,
    )
