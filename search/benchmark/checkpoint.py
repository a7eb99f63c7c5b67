"""A training that can be gone on with, in one file: weights, averages, optimizer and how far it has come.

A safetensors file with a digest (`search.training.tensors`), written whole or not at all by the first process, read by
all, which therefore share its file system. Tensors are whole however they are divided among processes: a training can
be gone on with by more processes, or fewer.
"""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from search.benchmark.processes import Processes
from search.benchmark.snapshots import Snapshot
from search.errors import UserError
from search.files import set_aside, temporaries
from search.training import tensors

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
log = logging.getLogger(__name__)


class Checkpoint:
    """The file of one training, whose `identity` says which one it is."""

    def __init__(self, path: Path, identity: dict[str, Any], processes: Processes):
        self.path, self.processes = path, processes
        self.identity = json.dumps(identity, sort_keys=True)

    def write(
        self, network: nn.Module, kept: dict[str, Snapshot], optimizer: torch.optim.Optimizer | None, progress: str
    ) -> None:
        """All processes take part. Raises UserError where it can't be written."""
        found = {f"network/{name}": tensor for name, tensor in whole_state(network).items()}
        for kind, snapshot in kept.items():
            with snapshot.in_place():
                found |= {f"{kind}/{name}": tensor.clone() for name, tensor in whole_state(network).items()}
        if optimizer is not None:
            state: Any = get_optimizer_state_dict(network, optimizer, options=WHOLE).get("state", {})
            found |= {
                f"optimizer/{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
                for name, values in state.items()
                for key, value in values.items()
            }
        problem = ""
        if self.processes.first:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                for left in temporaries(self.path):
                    left.unlink(missing_ok=True)
                tensors.write(self.path, found, {"identity": self.identity, "progress": progress})
            except OSError as error:
                problem = f"cannot write {self.path}: {error.strerror or error}"
        if problem := self.processes.said(problem):
            raise UserError(problem)

    def read(self) -> tuple[str, dict[str, dict[str, Tensor]]] | None:
        """Progress, and tensors by kind and name; None where there is none. One that is damaged is set aside; one of
        another training is left, and begun anew."""
        try:
            header, found = tensors.read(self.path)
        except FileNotFoundError:
            return None
        except tensors.Damaged as error:
            if self.processes.first:
                set_aside(self.path, f"is damaged ({error})")
            return None
        if header.get("identity") != self.identity:
            if self.processes.first:
                log.warning("%s is of another training: this one begins anew", self.path)
            return None
        kinds: dict[str, dict[str, Tensor]] = {}
        for name, tensor in found.items():
            kind, _, rest = name.partition("/")
            kinds.setdefault(kind, {})[rest] = tensor
        return header["progress"], kinds

    def remove(self) -> None:
        """The training has ended and is on record."""
        if self.processes.first:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                self.path.parent.rmdir()


def whole_state(network: nn.Module) -> dict[str, Any]:
    """A network's state dict on the CPU; of one divided among processes only the first one gets it."""
    return get_model_state_dict(network, options=WHOLE)


def load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Give the network, divided or not, the tensors of a whole state dict."""
    set_model_state_dict(network, dict(state), options=StateDictOptions(full_state_dict=True))


def load_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer, found: dict[str, Tensor]) -> None:
    """The same for what an optimizer remembers, by parameter and name."""
    state: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        parameter, _, key = name.rpartition("/")
        state.setdefault(parameter, {})[key] = tensor
    everywhere = StateDictOptions(full_state_dict=True)
    whole = get_optimizer_state_dict(network, optimizer, options=everywhere)
    whole["state"] = state  # pyright: ignore[reportArgumentType]
    set_optimizer_state_dict(network, optimizer, whole, options=everywhere)
