"""Records as they are read from files."""

from search.records.environment import environment
from search.records.models import Confirmation, Data, Trial
from search.training.recipe import Recipe
from wavemix import LiteConfig

ENVIRONMENT = environment()


SMALL = LiteConfig(in_channels=1, final_dim=8, depth=2)


def data(**changes) -> Data:
    return Data(
        **{"name": "mnist", "label": "MNIST", "variant": "official", "digest": "d" * 64, "train_count": 60000} | changes
    )


def trial(**changes) -> Trial:
    config = changes.get("config", SMALL)
    fields = {
        "environment": ENVIRONMENT,
        "study": "s",
        "config": config,
        "recipe": Recipe(),
        "dataset": data(),
        "target": 0.99,
        "family": config.family,
        "seeds": [1],
        "parameters": config.parameters(),
        "state": "refused",
        "reason": "not below the incumbent",
    }
    return Trial(**fields | changes)


def confirmation(accuracies, **changes) -> Confirmation:
    config = changes.get("config", SMALL)
    fields = {
        "environment": ENVIRONMENT,
        "study": "s",
        "config": config,
        "recipe": Recipe(),
        "dataset": data(),
        "target": 0.99,
        "family": config.family,
        "seeds": list(range(len(accuracies))),
        "parameters": config.parameters(),
        "state": "complete",
    }
    return Confirmation.of(accuracies, **fields | changes)
