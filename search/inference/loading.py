"""Stored networks as modules that normalise their images themselves, and their outputs for many images."""

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search import signals
from search.errors import UserError
from search.inference.ready import Ready, ready
from search.inference.stored import Stored, find
from search.records.results import Results, published
from search.records.weights import Inputs
from wavemix.compiled import with_kernels
from wavemix.dwt import uncompiled

BATCH = 50  # images at once: the maps of more do not fit into a processor's cache


def module(stored: Stored, seed: int | None = None) -> Ready:
    """The network of a seed, by default the first. Weights of others take their images as they are, from 0 to 1.

    Raises UserError where the file is damaged, or has no such seed.
    """
    return ready(stored.network(seed), stored.inputs or Inputs.plain(stored.config))


def scores(network: Ready, images: Tensor) -> NDArray[np.float32]:
    """What a network makes of uint8 images (N, C, H, W), by PyTorch's own operations: no kernel of ours takes part."""
    layout = torch.channels_last  # in which convolutions of few channels take little more than half of the time
    network = copy.deepcopy(network).to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # no stub
    found = []
    with torch.inference_mode(), uncompiled():
        for part in images.split(BATCH):
            signals.check()
            found.append(network((part.float() / 255).contiguous(memory_format=layout)))
    return torch.cat(found).numpy()


def load(what: str | Path, seed: int | None = None, results: str | Path = "runs", compiled: bool = False) -> Ready:
    """See `wavemix.load`."""
    stored = find(what, Results(results, published()))
    if compiled and stored.config.task != "classification":
        raise UserError(f"{stored.name} is for {stored.config.task}: compiled=True is for classifiers")
    network = stored.network(seed)
    found = ready(network, stored.inputs or Inputs.plain(stored.config))
    if compiled:
        found.network = with_kernels(found.lite)
    return found
