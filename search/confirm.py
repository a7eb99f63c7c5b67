"""Confirmation: retrain a candidate on the whole training set with fresh seeds and test it once, at the last epoch.

This is the only module that loads the test part of a data set. What is confirmed was chosen on validation images
before; every attempt is recorded, failed ones too, and nothing is chosen by what the test set says except to go on to
the next larger candidate after a failure (each further attempt is a further chance to pass by luck: the table says how
many attempts a row took).
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors.torch import save_file

from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

from . import datasets
from .cost import cost
from .datasets import Split
from .recipe import Recipe
from .records import Confirmation, append
from .study import dataset_of
from .training import Epoch, Trained, evaluate, train

FRESH = 1_000_000  # seeds of confirmations start here, those of searches lie below


def confirm(
    config: LiteConfig,
    recipe: Recipe,
    data: Split,
    target: float,
    seeds: Sequence[int],
    *,
    study: str,
    family: str,
    results: Path,
    data_dir: Path | None = None,
    on_epoch: Callable[[int, list[Epoch]], bool | None] | None = None,
    checkpoint: Path | None = None,
) -> Confirmation:
    """Train on all of `data` with every seed, test each network once, append the record and keep the weights.

    Confirmed when the mean test accuracy reaches `target`. The weights of all seeds go to
    `results/weights/STUDY-CONFIGURATION.safetensors`, with configuration and recipe in the file's metadata.
    """
    start = time.monotonic()
    trained = train(config, recipe, data, seeds, on_epoch=on_epoch, checkpoint=checkpoint)
    stopped = trained[0].stopped
    test = datasets.load(data.name, "test", data_dir)
    accuracies = evaluate(config, [t.state for t in trained], data, test) if stopped is None else []
    network = WaveMixLite(config)
    record = Confirmation.of(
        accuracies,
        study=study,
        config=config,
        recipe=recipe,
        dataset=dataset_of(data, None, None, test),
        target=target,
        family=family,
        seeds=list(seeds),
        parameters=config.parameters(),
        parameters_counted=sum(p.numel() for p in network.parameters()),
        curves=[t.curve for t in trained],
        state="complete" if stopped is None else "failed",
        reason=stopped,
        wall_seconds=time.monotonic() - start,
        device_seconds=trained[0].seconds,
        cost=cost(network, tuple(data.images.shape[1:])),
    )
    if stopped is None:
        save_weights(results / "weights" / f"{study}-{config.name}.safetensors", config, recipe, trained)
    append(results / f"{study}.jsonl", record)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return record


def save_weights(path: Path, config: LiteConfig, recipe: Recipe, trained: Sequence[Trained]) -> None:
    """All seeds' state dicts in one file, keys 'SEED/NAME'; written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{t.seed}/{name}": value.contiguous() for t in trained for name, value in t.state.items()}
    metadata = {
        "config": config.model_dump_json(),
        "recipe": recipe.model_dump_json(),
        "seeds": json.dumps([t.seed for t in trained]),
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
