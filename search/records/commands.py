"""Commands that train again what a record holds."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from search.data.source import PLAIN, Source
from search.records.models import Confirmation, Trial
from search.tasks.score import SCORES
from search.training.precision import SMALLEST
from search.training.recipe import Recipe
from wavemix.config import LiteConfig


def train_command(
    source: Source,
    config: LiteConfig,
    recipe: Recipe,
    seeds: Sequence[int],
    target: float | None,
    data_dir: Path | None = None,
    device: str = "cpu",
    results: Path = Path("runs"),
) -> str:
    """The command that trains a configuration again; it needs nothing but the data."""
    # defaults are left out so that a person can read it
    command = _training(source, config, recipe.model_dump(mode="json", exclude_defaults=True), seeds, target)
    command += ["--device", device] * (device != "cpu") + (["--data-dir", str(data_dir)] if data_dir else [])
    command += ["--results", str(results)] * (results != Path("runs"))
    return shlex.join(command)


def command(run: Trial | Confirmation) -> str:
    """The shell command that trains a run's network again with its recipe and seeds, and tests it.

    The recipe is printed whole, as it was recorded, since defaults change.
    """
    source = Source(run.dataset.name, run.dataset.reading or PLAIN)
    return shlex.join(_training(source, run.config, run.recipe, run.seeds, run.target))


def _training(
    source: Source, config: LiteConfig, recipe: dict, seeds: Sequence[int], target: float | None
) -> list[str]:
    """The words of `wavemix train` for these."""
    name, *reading = source.words()
    # a folder's name that begins with a dash would be read as an option
    words = ["wavemix", "train", f"./{name}" if name.startswith("-") else name, *reading]
    for option, value in (("--config", config.model_dump(mode="json", exclude_defaults=True)), ("--recipe", recipe)):
        words += [option, json.dumps(value, separators=(",", ":"))]
    words += ["--seed-list", ",".join(map(str, seeds))]
    if "precision" not in recipe and config.parameters() >= SMALLEST and config.task == "classification":
        words += ["--precision", "float32"]  # by default it would be chosen anew
    if target is None:
        return words
    return [*words, "--target", f"{target}dB" if SCORES[config.task].unit == "dB" else str(target)]  # every digit of it
