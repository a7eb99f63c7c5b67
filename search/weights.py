"""Weights: the trained seeds of a network in one file, `results/weights/STUDY-CONFIGURATION.safetensors`.

Keys are 'SEED/NAME', NAME as in `WaveMixLite(config)`. The header has the configuration, the recipe, the digest of the
images trained on, the seeds, and of each seed when the record was made that says how it was trained.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor

from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

from .errors import UserError
from .lock import LOCKS, acquire
from .recipe import Recipe, filled
from .whole import write_whole

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Training:
    """What all seeds of a file have in common; `digest` is of the images and labels."""

    config: LiteConfig
    recipe: Recipe
    digest: str

    def save(self, path: Path, states: Mapping[int, State], created: datetime) -> Path:
        """Add the states by seed, of a record made at `created`, to those at `path`, and return where they are now.

        Where another training's weights lie at `path`, that is PATH-2, PATH-3, ...; nothing is lost. The file is
        written whole or not at all; UserError where it can't be.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.parent):
                path = self.place(path)
                made = self._made(path) | {seed: created.isoformat() for seed in states}
                kept = {seed: state for (seed, _), state in self.load(path, made).items()} | dict(states)
                tensors = {
                    f"{seed}/{name}": v.contiguous() for seed, state in kept.items() for name, v in state.items()
                }
                header = {
                    "config": self.config.model_dump_json(),
                    "recipe": self.recipe.model_dump_json(),
                    "digest": self.digest,
                    "seeds": json.dumps(list(kept)),
                    "records": json.dumps([made[seed] for seed in kept]),
                }
                return write_whole(path, packed(tensors, header))
        except OSError as error:
            raise UserError(f"cannot write weights to {path}: {error.strerror or error}") from error

    def load(self, path: Path, seeds: Iterable[int]) -> dict[tuple[int, str], dict[str, Tensor]]:
        """Those of `seeds` that lie at `path`: by seed and the time of its record, their states."""
        made = self._made(path)
        if not made:
            return {}
        with safe_open(path, "pt") as file:
            states = _states(file, [seed for seed in seeds if seed in made])
        return {(seed, made[seed]): state for seed, state in states.items()}

    def place(self, path: Path) -> Path:
        """`path`, or the first of PATH-2, PATH-3, ... that does not exist or holds this training's weights."""
        found, number = path, 1
        while found.exists() and not self._made(found):
            number += 1
            found = path.with_stem(f"{path.stem}-{number}")
        return found

    def _made(self, path: Path) -> dict[int, str]:
        """When the records of the seeds at `path` were made; nothing where it holds anything but this training."""
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                seeds = dict(zip(json.loads(header["seeds"]), json.loads(header["records"]), strict=True))
                theirs = LiteConfig.model_validate_json(header["config"]), filled(json.loads(header["recipe"]))
                same = (*theirs, header["digest"]) == (self.config, self.recipe.model_dump(mode="json"), self.digest)
                return seeds if same and _whole(file, seeds) else {}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return {}


def networks(path: Path | str) -> dict[int, WaveMixLite]:
    """The trained networks in a file of weights, by seed, in evaluation mode.

    They take images (N, C, H, W) as floats between 0 and 1, less the mean and divided by the standard deviation of each
    channel of the training images. Raises UserError where the file is none of `wavemix`'s.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            seeds = json.loads(header["seeds"])
            if not _whole(file, seeds):
                raise ValueError("its seeds are not those of its header")
            states = _states(file, seeds)
        config = LiteConfig.model_validate_json(header["config"])
        found = {seed: WaveMixLite(config).eval() for seed in states}
        for seed, network in found.items():
            network.load_state_dict(states[seed])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is no file of weights that wavemix trained ({reason})") from error
    return found


def _states(file: safe_open, seeds: Iterable[int]) -> dict[int, dict[str, Tensor]]:
    """What lies in an open file of each of `seeds`."""
    states = {seed: {} for seed in seeds}
    for key in file.keys():  # not a dict
        seed, name = key.split("/", 1)
        if int(seed) in states:
            states[int(seed)][name] = file.get_tensor(key)
    return states


def _whole(file: safe_open, seeds: Iterable[int]) -> bool:
    """Whether an open file holds these seeds and no others."""
    return {key.split("/", 1)[0] for key in file.keys()} == set(map(str, seeds))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time, so that none overwrites what another adds; freed with the process."""
    if not LOCKS:  # Windows can't open a folder
        yield
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        acquire(file)
        yield
    finally:
        os.close(file)
