"""The records of a small campaign: a search, its misses and its confirmation."""

from datetime import UTC, datetime, timedelta

from search.records.environment import Environment
from search.records.models import Confirmation, Data, Point, Trial
from search.training.recipe import Recipe
from wavemix import LiteConfig

START = datetime(2026, 1, 1, tzinfo=UTC)


ENVIRONMENT = Environment(
    python="3.12.1", torch="2.13.0", numpy="2.0", optuna="5.0", packages={}, device="a processor", cores=2,
    git_commit="c" * 40, dirty=False, command="wavemix search mnist --target 0.99",
)  # fmt: skip


DATA = Data(
    name="mnist", label="MNIST", variant="official", digest="d" * 64, train_count=55000, validation_count=5000,
    split_seed=0,
)  # fmt: skip


def configuration(**hyperparameters) -> LiteConfig:
    return LiteConfig(**{"in_channels": 1, "final_dim": 8, "depth": 3} | hyperparameters)


def trial(number: int, accuracy: float | None, state: str = "complete", epochs: int = 5, **changes) -> Trial:
    """A trial whose error halves until it ends at `accuracy`; None: refused, never trained."""
    config = changes.pop("config", configuration())
    errors = [] if accuracy is None else [min(0.9, (1 - accuracy) * 2 ** (epochs - e)) for e in range(1, epochs + 1)]
    ran = accuracy is not None
    fields = {
        "environment": ENVIRONMENT,
        "created": START + timedelta(minutes=number),
        "study": "s",
        "number": number,
        "config": config,
        "recipe": Recipe(epochs=5),
        "dataset": DATA,
        "target": 0.99,
        "family": "extended",
        "seeds": [0],
        "parameters": config.parameters(),
        "state": state,
        "accuracies": [accuracy] if ran else [],
        "accuracy_validation": accuracy,
        "curves": [[Point(epoch=e, accuracy=1 - error) for e, error in enumerate(errors, 1)]] if ran else [],
        "device_seconds": 60.0 if ran else 0.0,
    }
    return Trial(**fields | changes)


def confirmation(accuracies: list[float], **changes) -> Confirmation:
    config = changes.pop("config", configuration())
    fields = {
        "environment": ENVIRONMENT,
        "created": START + timedelta(days=1),
        "study": "s",
        "config": config,
        "recipe": Recipe(epochs=5),
        "dataset": DATA.model_copy(update={"validation_count": 0, "test_digest": "e" * 64, "test_count": 10000}),
        "target": 0.99,
        "family": "extended",
        "seeds": list(range(len(accuracies))),
        "parameters": config.parameters(),
        "state": "complete",
    }
    return Confirmation.of(accuracies, **fields | changes)


def campaign() -> list:
    """A study of 20 trials of all kinds and its confirmation."""
    runs = []
    for number in range(20):
        activation = ("gelu", "relu")[number // 5 % 2]
        config = configuration(depth=1 + number % 5, activation=activation, final_dim=8 + 4 * (number // 10))
        state = "pruned" if number % 7 == 6 else "complete"
        accuracy = 0.975 + 0.004 * config.depth + 0.002 * (number >= 10) - 0.003 * (activation == "relu")
        runs.append(trial(number, accuracy, state, 2 if state == "pruned" else 5, config=config))
    runs.append(trial(20, None, "refused", reason="not below the incumbent's 900"))
    tests = {3: [0.991, 0.9912, 0.9914], 2: [0.985, 0.99, 0.9951], 1: [0.988, 0.989]}  # by depth: each verdict
    return [*runs, *(confirmation(accuracies, config=configuration(depth=d)) for d, accuracies in tests.items())]
