"""Commands that train again what a record holds."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from search.data.source import Source
from search.records.models import Confirmation, Trial
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
    results: Path = Path("results"),
) -> str:
    """The command that trains a configuration again; it needs nothing but the data."""
    # defaults are left out so that a person can read it
    knobs = json.dumps(config.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))
    steps = json.dumps(recipe.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))
    command = ["wavemix", "train", *source.words(), "--config", knobs, "--recipe", steps]
    command += ["--seed-list", ",".join(map(str, seeds))] + ([] if target is None else ["--target", f"{target:g}"])
    command += ["--device", device] * (device != "cpu") + (["--data-dir", str(data_dir)] if data_dir else [])
    command += ["--results", str(results)] * (results != Path("results"))
    return shlex.join(command)


def command(run: Trial | Confirmation) -> str:
    """The shell command that trains a run's network again with its recipe and seeds, and tests it."""
    config = json.dumps(run.config.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))
    recipe = json.dumps(run.recipe, separators=(",", ":"))
    words = [run.dataset.name, "--config", config, "--recipe", recipe, "--seed-list", ",".join(map(str, run.seeds))]
    words += [] if run.target is None else ["--target", f"{run.target:g}"]
    return shlex.join(["wavemix", "train", *words])
