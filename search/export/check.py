"""Whether an export does what its network does: both are asked for the scores of the same images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from search.data import datasets, fetch
from search.data.catalogue import COPIES, OFFICIAL
from search.data.source import PLAIN, Source
from search.errors import UserError
from search.export.ready import Ready
from search.inference.stored import Stored
from search.training.images import spread

COUNT = 100  # images
TOLERANCE = 1e-5  # of the greatest score where that is more than 1: float32 numbers above have fewer digits behind it


@dataclass(frozen=True)
class Sample:
    """Images that an export is checked on: float32 (COUNT, channels, height, width) between 0 and 1."""

    images: Tensor
    name: str  # "100 test images of MNIST"


@dataclass(frozen=True)
class Check:
    """An export's scores beside the network's."""

    sample: str
    difference: float  # the greatest
    greatest: float  # score

    def __str__(self) -> str:
        return f"{self.sample}: greatest difference {self.difference:.1e}, greatest score {self.greatest:.3g}"


def sample(stored: Stored, data_dir: Path | None = None) -> Sample:
    """Test images, evenly spread, where the data set is on this machine; else random ones of seed 0, which it says.

    Nothing is downloaded.
    """
    if stored.inputs is None:
        raise UserError(f"{stored.path} does not say what images its network takes")
    shape, label = stored.inputs.shape, stored.inputs.data
    source = _source(stored, data_dir)
    if source is not None:
        try:
            images = datasets.load_classes(source, "test", data_dir).images
        except UserError:  # damaged, or no longer there
            images = torch.empty(0)
        if tuple(images.shape[1:]) == shape:
            images = images[spread(len(images), COUNT)]
            return Sample(images.float() / 255, f"{len(images)} test images of {label}")
    images = torch.randint(0, 256, (COUNT, *shape), generator=torch.Generator().manual_seed(0))
    return Sample(images.float() / 255, f"{COUNT} random images (the test images of {label} are not here)")


def _source(stored: Stored, data_dir: Path | None) -> Source | None:
    """Where the test images are on this machine: of the record, or of the data set of the same label."""
    label = stored.inputs.data if stored.inputs else ""
    named = [name for name, known in (OFFICIAL | COPIES).items() if known.label == label]
    source = Source(named[0]) if named else None
    if stored.record is not None:
        recorded = stored.record.dataset
        source = Source(recorded.name, recorded.reading or PLAIN)
    if source is None or source.name not in OFFICIAL | COPIES:
        return source
    return source if fetch.locate(source.name, "test", data_dir) else None


def check(ready: Ready, sample: Sample, scores: Callable[[Tensor], Tensor]) -> Check:
    """Compare `scores` of the images with the network's own. Raises UserError where they differ by more than 1e-5."""
    with torch.inference_mode():
        expected = ready(sample.images)
    found = scores(sample.images)
    greatest = float(expected.abs().max())
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    done = Check(sample.name, difference, greatest)
    if not difference <= TOLERANCE * max(1.0, greatest):  # not a number is no success either
        raise UserError(f"the export does not do what the network does, so it is not written ({done})")
    return done
