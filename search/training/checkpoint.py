"""Checkpoints of a training: all that going on with it needs, in one file that shows whether it is whole."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from search.errors import UserError
from search.files import set_aside
from search.training.optimizer import Optimizer, Weights
from search.training.outcome import Epoch
from search.training.recipe import filled
from search.training.tensors import Damaged, read, write
from wavemix.config import LiteConfig


@dataclass
class State:
    """What a training has come to: weights and their average, the optimizer, the curves, and the seconds it took."""

    stack: Weights
    optimizer: Optimizer
    average: Tensor
    curves: list[list[Epoch]]
    seconds: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        return {
            "flat": self.stack.flat,
            "first": self.optimizer.first,
            "second": self.optimizer.second,
            "average": self.average,
        }

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write it to `path`; `identity` says what training it is of. Raises OSError."""
        progress = {
            "count": self.optimizer.count,
            "seconds": self.seconds,
            "curves": [[epoch.model_dump() for epoch in curve] for curve in self.curves],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"identity": json.dumps(identity, sort_keys=True), "progress": json.dumps(progress)}
        write(path, self.tensors(), header)

    def resume(self, path: Path, identity: dict[str, Any]) -> None:
        """Go on from the checkpoint at `path`. A damaged one is set aside, and nothing is changed.

        Raises UserError for one of another training.
        """
        try:
            header, tensors = read(path)
            progress = _progress(header)
            written = _identity(header)
        except Damaged as error:
            set_aside(path, f"is a damaged checkpoint ({error}), so its training starts over")
            return
        targets = self.tensors()
        fits = all(key in tensors and tensors[key].shape == target.shape for key, target in targets.items())
        if written != identity or not fits or len(progress.curves) != len(self.curves):
            raise UserError(f"{path} is the checkpoint of another training: delete it or name another one")
        with torch.no_grad():
            for key, target in targets.items():
                target.copy_(tensors[key])
        self.optimizer.count = progress.count
        for curve, epochs in zip(self.curves, progress.curves):
            curve.extend(epochs)
        self.seconds = progress.seconds


def steps(path: Path) -> int | None:
    """How many steps of training a checkpoint holds: 0 where there is none, None where it is damaged."""
    try:
        return _progress(read(path)[0]).count
    except FileNotFoundError:
        return 0
    except Damaged:
        return None


class _Progress(BaseModel):
    count: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    curves: list[list[Epoch]]


def _progress(header: dict[str, str]) -> _Progress:
    try:
        progress = _Progress.model_validate_json(header["progress"])
    except (KeyError, ValueError) as error:
        raise Damaged("it does not say how far it has come") from error
    if len({len(curve) for curve in progress.curves}) > 1:
        raise Damaged("its seeds are at different epochs")
    return progress


def _identity(header: dict[str, str]) -> dict:
    """What training a checkpoint is of, with what was not known yet when it was written."""
    try:
        written = json.loads(header["identity"])
        if {"config", "recipe"} <= written.keys():
            written["recipe"] = filled(written["recipe"])
            written["config"] = LiteConfig.model_validate(written["config"]).model_dump(mode="json")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Damaged("it does not say what it is of") from error
    return written
