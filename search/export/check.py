"""Whether an export does what its network does: both are asked for the scores of the same images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from search.data import datasets, fetch
from search.data.catalogue import COPIES, OFFICIAL
from search.data.pictures import Pictures
from search.data.source import PLAIN, Source
from search.data.split import Portion, Split
from search.errors import UserError
from search.inference.ready import Ready
from search.inference.stored import Stored
from search.records.weights import Inputs
from search.training.images import spread

COUNT = 100  # images
PICTURES = 4  # of a task on pixels, whose outputs are large
TOLERANCE = 1e-5  # of the greatest score where that is more than 1: float32 numbers above have fewer digits behind it


@dataclass(frozen=True)
class Sample:
    """Images that an export is checked on: float32 (N, channels, height, width) between 0 and 1."""

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
    shape, label = _shape(stored, stored.inputs), stored.inputs.data
    count = PICTURES if stored.inputs.any_size else COUNT
    source = _source(stored, data_dir)
    if source is not None:
        try:
            data = datasets.load(source, "test", data_dir)
        except UserError:  # damaged, or no longer there
            data = None
        images = _of_shape(data, shape)
        if len(images):
            images = images[spread(len(images), count)]
            return Sample(images.float() / 255, f"{len(images)} test images of {label}")
    images = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0))
    return Sample(images.float() / 255, f"{count} random images (the test images of {label} are not here)")


def _shape(stored: Stored, given: Inputs) -> tuple[int, int, int]:
    """Channels, height and width of the images that an export is checked on."""
    if not given.any_size:
        return given.shape
    step, (channels, *size) = stored.config.size_step, given.shape
    height, width = (max(step, edge // step * step) for edge in size)
    return 3 if stored.config.task == "super-resolution" else channels, height, width


def _of_shape(data: Portion | None, shape: tuple[int, int, int]) -> Tensor:
    """Test images of that shape, uint8 (N, *shape), cut to it from pictures; N is 0 where there are none."""
    if isinstance(data, Pictures):
        channels, height, width = shape
        parts = [image[..., :height, :width].expand(channels, -1, -1) for image in data.images]
        fitting = [part for part in parts if tuple(part.shape) == shape]
        return torch.stack(fitting) if fitting else torch.empty(0)
    images = data.images if isinstance(data, Split) else torch.empty(0)
    return images if tuple(images.shape[1:]) == shape else torch.empty(0)


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
