"""Weights: the trained seeds of a network in one file, `results/weights/STUDY-CONFIGURATION.safetensors`.

Keys are 'SEED/NAME', NAME as in `WaveMixLite(config)`; configuration, recipe and seeds are in the file's header.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor

from wavemix.config import LiteConfig

from .recipe import Recipe, filled
from .whole import write_whole

State = Mapping[str, Tensor]


def save(path: Path, config: LiteConfig, recipe: Recipe, states: Mapping[int, State]) -> Path:
    """Write the states of all seeds, whole or not at all, and return where: at `path`, or, where another recipe's
    weights lie there, which are kept, at PATH-2, PATH-3, ... Seeds of the same training that lie there stay, too."""
    path = place(path, config, recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    states = load(path, config, recipe) | dict(states)
    tensors = {f"{seed}/{name}": value.contiguous() for seed, state in states.items() for name, value in state.items()}
    metadata = {
        "config": config.model_dump_json(),
        "recipe": recipe.model_dump_json(),
        "seeds": json.dumps(list(states)),
    }
    return write_whole(path, packed(tensors, metadata))


def place(path: Path, config: LiteConfig, recipe: Recipe) -> Path:
    """`path`, or the first of PATH-2, PATH-3, ... that does not exist or holds this training's weights."""
    found, number = path, 1
    while found.exists() and not load(found, config, recipe):
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found


def load(path: Path, config: LiteConfig, recipe: Recipe) -> dict[int, dict[str, Tensor]]:
    """The states by seed of this configuration and recipe at `path`; none where it holds anything else."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            same = LiteConfig.model_validate_json(header["config"]) == config
            if not same or filled(json.loads(header["recipe"])) != recipe.model_dump(mode="json"):
                return {}
            states: dict[int, dict[str, Tensor]] = {seed: {} for seed in json.loads(header["seeds"])}
            for key in file.keys():  # not a dict
                seed, name = key.split("/", 1)
                states[int(seed)][name] = file.get_tensor(key)
            return states
    except (OSError, SafetensorError, ValueError, KeyError):
        return {}
