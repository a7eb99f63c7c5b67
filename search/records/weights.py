"""Weights: the trained seeds of a network in one file, `results/weights/STUDY-CONFIGURATION.safetensors`.

Keys are 'SEED/NAME', NAME as in `WaveMixLite(config)`. The header has what is needed to use them: the configuration,
what goes in and comes out (`Inputs`), the recipe, the digest of the images trained on, the seeds, and of each seed when
the record was made that says how it was trained.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from math import isfinite
from pathlib import Path

import torch
from pydantic import Json, ValidationError, model_serializer
from safetensors import SafetensorError, safe_open
from torch import Tensor

from search.data.split import Colour, Portion
from search.errors import UserError
from search.files import LOCKS, acquire, can_name, set_aside, shortened, temporary_name
from search.records.environment import Model
from search.records.models import Confirmation
from search.tasks.task import task_of
from search.training.recipe import Recipe, Training, filled, identity
from search.training.tensors import Damaged, read, write
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

State = Mapping[str, Tensor]


class Inputs(Model):
    """What networks of a file take and give: images of `shape` (channels, height, width), values between 0 and 1 less
    `mean` and divided by `deviation`, a number a channel; one output for each of `classes`, in their order.

    Networks for segmentation take images of any height and width (`any_size`), those for super-resolution the luma of
    such images and give an enlarged one. `colours` are those that the classes of a segmentation are shown in; a file
    may be from before they were kept.
    """

    data: str  # what the data set is called
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: tuple[str, ...]
    any_size: bool = False
    colours: tuple[Colour, ...] = ()

    @classmethod
    def plain(cls, config: LiteConfig, mean: Sequence[float] = (0,), deviation: Sequence[float] = (1,)) -> "Inputs":
        """Those of networks whose file does not say them: images of any size, less `mean` and divided by `deviation`,
        one number for all channels or one a channel; by default as they are. Raises UserError for other numbers."""
        if {len(mean), len(deviation)} - {1, config.in_channels} or not all(isfinite(d) and d > 0 for d in deviation):
            raise UserError(
                f"a normalisation has a mean and a positive standard deviation for all channels, or for each of "
                f"{config.in_channels}, not {list(mean)} and {list(deviation)}"
            )
        channels, classes = config.in_channels, () if config.task == "super-resolution" else range(config.num_classes)
        return cls(
            data="",
            shape=(channels, 0, 0),
            mean=tuple(map(float, mean)) * (channels // len(mean)),
            deviation=tuple(map(float, deviation)) * (channels // len(deviation)),
            classes=tuple(map(str, classes)),
            any_size=True,
        )

    @model_serializer(mode="wrap")
    def _short(self, write):
        """Classifiers as they were written before classes had colours."""
        return {name: value for name, value in write(self).items() if value or name != "colours"}

    @classmethod
    def of(cls, data: Portion) -> "Inputs":
        """Those of networks trained on all of `data`."""
        task = task_of(data)
        mean, deviation = task.normalisation(data)
        return cls(
            data=data.label,
            shape=task.image(data),
            mean=tuple(mean.tolist()),
            deviation=tuple(deviation.tolist()),
            classes=data.classes,
            any_size=task.name != "classification",
            colours=getattr(data, "colours", ()),
        )

    def prepared(self, images: Tensor) -> Tensor:
        """uint8 images (N, *shape) as the networks take them. Raises UserError for others."""
        given = tuple(images.shape[1:])
        if images.dtype != torch.uint8 or given != self.shape and not (self.any_size and given[:1] == self.shape[:1]):
            size = "H, W" if self.any_size else f"{self.shape[1]}, {self.shape[2]}"
            raise UserError(f"these networks take uint8 images (N, {self.shape[0]}, {size})")
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (self.mean, self.deviation))
        return (images.float() / 255 - mean) / deviation


@dataclass(frozen=True)
class WeightsFile:
    """The file of a training's weights, with what its networks take and give."""

    path: Path
    training: Training
    inputs: Inputs

    @classmethod
    def of(cls, folder: Path, study: str, training: Training, inputs: Inputs) -> "WeightsFile":
        """The one of a study's network in `folder`. Raises UserError where no file of that name can be written."""
        path = folder / f"{shortened(f'{study}-{training.config.name}')}.safetensors"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            probe = temporary_name(path)
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; choose another --results or --name") from error
        return cls(path, training, inputs)

    def save(self, states: Mapping[int, State], created: datetime) -> Path:
        """Add the states by seed, of a record made at `created`, to those in the file, and return where they are now.

        Where another training's weights have its name, that is PATH-2, PATH-3, ...; nothing is lost. The file is
        written whole or not at all; UserError where it can't be.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.path.parent):
                path = self.place()
                held = self._held(path) | {seed: (created.isoformat(), state) for seed, state in states.items()}
                tensors = {f"{seed}/{name}": v for seed, (_, state) in held.items() for name, v in state.items()}
                header = {
                    "config": self.training.config.model_dump_json(),
                    "inputs": self.inputs.model_dump_json(),
                    "recipe": self.training.recipe.model_dump_json(),
                    "digest": self.training.digest,
                    "seeds": json.dumps(list(held)),
                    "records": json.dumps([time for time, _ in held.values()]),
                }
                return write(path, tensors, header)
        except OSError as error:
            raise UserError(f"cannot write weights to {self.path}: {error.strerror or error}") from error

    def load(self, seeds: Iterable[int]) -> dict[tuple[int, str], dict[str, Tensor]]:
        """Those of `seeds` that it holds: by seed and the time of its record, their states."""
        held = self._held(self.place())
        return {(seed, held[seed][0]): held[seed][1] for seed in seeds if seed in held}

    def place(self) -> Path:
        """The file's path, or the first of PATH-2, PATH-3, ... that does not exist or holds this training's weights.

        A damaged file on the way there is set aside.
        """
        found, number = self.path, 1
        while found.exists():
            try:
                if self._held(found):
                    break
            except Damaged as error:
                set_aside(found, f"is a damaged file of weights ({error})")
                break
            number += 1
            found = self.path.with_stem(f"{self.path.stem}-{number}")
        return found

    def _held(self, path: Path) -> dict[int, tuple[str, dict[str, Tensor]]]:
        """When the record of each seed at `path` was made, and its state; nothing where there is anything but this
        training. Raises Damaged."""
        try:
            header, states = _read(path)
            theirs = LiteConfig.model_validate_json(header["config"]), filled(json.loads(header["recipe"]))
            ours = self.training.config, self.training.recipe.model_dump(mode="json")
            if (*theirs, header["digest"]) != (*ours, self.training.digest):
                return {}
            made = dict(zip(states, json.loads(header["records"]), strict=True))
        except Damaged:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {seed: (made[seed], state) for seed, state in states.items()}


class Header(Model):
    """What a file says of its weights, which have not been looked at; `inputs` is None in an older one."""

    config: Json[LiteConfig]
    inputs: Json[Inputs] | None = None
    recipe: Json[dict]
    digest: str  # of the images and labels trained on
    seeds: Json[list[int]]
    records: Json[list[datetime]]  # when the record was made that says how the seed was trained
    sha256: str | None = None

    @property
    def training(self) -> Training:
        """What its seeds were trained with."""
        return Training(self.config, Recipe.model_validate(filled(self.recipe)), self.digest)

    @classmethod
    def read(cls, path: Path | str) -> "Header | None":
        """That of a file; None where there is none, or it is no file of weights that `wavemix` wrote."""
        try:
            with safe_open(path, "pt") as file:
                return cls.model_validate(file.metadata())
        except (OSError, SafetensorError, ValidationError):
            return None


def file_of(run: Confirmation, *folders: Path) -> Path | None:
    """The file of the networks of a test, with all its seeds, in the first of `folders` that has it; None without."""
    stem = shortened(f"{run.study}-{run.config.name}")
    for folder in folders if can_name(stem) else ():  # a record may call its study anything
        for number in chain([""], (f"-{number}" for number in count(2))):  # as `WeightsFile.place` names them
            path = folder / f"{stem}{number}.safetensors"
            if not path.exists():
                break
            found = Header.read(path)
            if found and identity(found.config, found.recipe, found.digest) == run.network:
                if set(run.seeds) <= set(found.seeds):
                    return path
    return None


def networks(path: Path | str) -> dict[int, WaveMixLite]:
    """The trained networks in a file of weights, by seed, in evaluation mode.

    They take what `inputs(path).prepared` makes of images. Raises UserError where the file is none of `wavemix`'s, or
    damaged.
    """
    try:
        header, states = _read(path)
        config = LiteConfig.model_validate_json(header["config"])
        found = {seed: WaveMixLite(config).eval() for seed in states}
        for seed, network in found.items():
            network.load_state_dict(states[seed])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is no file of weights that wavemix trained ({reason})") from error
    return found


def inputs(path: Path | str) -> Inputs:
    """What the networks in a file take and give. Raises UserError as `networks`, and for an older file without it."""
    try:
        return Inputs.model_validate_json(_read(path)[0]["inputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not say what images its networks take ({reason})") from error


# of files from before they had a digest; they had no "inputs" either, so none that has lost its digest passes for one
HEADER = ("config", "recipe", "digest", "seeds", "records")


def _read(path: Path | str) -> tuple[dict[str, str], dict[int, dict[str, Tensor]]]:
    """The header of a file, and the state of each of its seeds, in the header's order. ValueError, KeyError or
    TypeError where it is no file of weights, Damaged where it is damaged."""
    header, tensors = read(path, HEADER)
    states: dict[int, dict[str, Tensor]] = {seed: {} for seed in json.loads(header["seeds"])}
    if {key.split("/", 1)[0] for key in tensors} != set(map(str, states)):
        raise ValueError("its seeds are not those of its header")
    for key, tensor in tensors.items():
        seed, name = key.split("/", 1)
        states[int(seed)][name] = tensor
    return header, states


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
