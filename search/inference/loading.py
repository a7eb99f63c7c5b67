"""Stored networks as modules that normalise their images themselves, and their outputs for many images."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search import signals
from search.errors import UserError
from search.inference.ready import Ready, ready
from search.inference.stored import Normalisation, Stored, find
from search.records.results import Results, published
from wavemix.compiled import with_kernels
from wavemix.config import LiteConfig
from wavemix.dwt import uncompiled

BATCH = 50  # images at once: the maps of more do not fit into a processor's cache


def module(stored: Stored, seed: int | None = None) -> Ready:
    """The network of a seed, by default the first.

    Raises UserError where the file is damaged, or has no such seed.
    """
    return ready(stored.network(seed), stored.takes)


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


def load(
    what: str | Path,
    seed: int | None = None,
    results: str | Path = "runs",
    compiled: bool = False,
    config: LiteConfig | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Ready:
    """See `wavemix.load`."""
    stored = find(what, Results(results, published()), config, Normalisation.of(mean, std))
    if compiled and stored.config.task != "classification":
        raise UserError(f"{stored.name} is for {stored.config.task}: compiled=True is for classifiers")
    found = module(stored, seed)
    if compiled:
        found.network = with_kernels(found.lite)
    return found
