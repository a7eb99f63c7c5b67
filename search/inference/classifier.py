"""A stored network as one module that normalises its images itself, and its scores for many images."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search import signals
from search.inference.stored import Stored, find
from search.records.results import Results, published
from wavemix.compiled import with_kernels
from wavemix.dwt import uncompiled
from wavemix.lite import WaveMixLite

BATCH = 50  # images at once: the maps of more do not fit into a processor's cache


class Classifier(nn.Module):
    """Images (N, C, H, W), floats between 0 and 1 -> scores (N, K); the softmax of a row are probabilities.

    In evaluation mode. Raises ValueError for images of another shape, and for integers, which nothing has divided.

    Attributes:
        network: the network itself, which takes normalised images.
        classes: what the outputs are called, in their order; their numbers where the file does not say.
        shape: channels, height and width of its images; None where any size will do that fits the network.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        mean: Sequence[float],
        deviation: Sequence[float],
        shape: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        self.network, self.classes, self.shape = network, tuple(classes), shape
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        self.eval()

    @classmethod
    def of(cls, stored: Stored, seed: int | None = None) -> "Classifier":
        """A stored network of a seed, by default the first. Weights of others take their images as they are, from 0 to
        1. Raises UserError where the file is damaged, or has no such seed."""
        stored.check_classifier()
        network, config, given = stored.network(seed), stored.config, stored.inputs
        if given is None:
            channels = config.in_channels
            return cls(network, [str(k) for k in range(config.num_classes)], [0.0] * channels, [1.0] * channels)
        return cls(network, given.classes, given.mean, given.deviation, given.shape)

    def forward(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():
            raise ValueError(f"images are floats between 0 and 1, not {images.dtype}: divide them by 255")
        if images.ndim != 4 or images.shape[1] != len(self.mean) or self.shape not in (None, tuple(images.shape[1:])):
            wanted = ", ".join(map(str, self.shape or (len(self.mean), "height", "width")))
            raise ValueError(f"images are (N, {wanted}), not {tuple(images.shape)}")
        return self.network((images - self.mean) / self.deviation)


def scores(classifier: Classifier, images: Tensor) -> NDArray[np.float32]:
    """Scores (N, K) of uint8 images (N, C, H, W), by PyTorch's own operations: no kernel of ours takes part."""
    layout = torch.channels_last  # in which convolutions of few channels take little more than half of the time
    classifier = copy.deepcopy(classifier).to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # no stub
    found = []
    with torch.inference_mode(), uncompiled():
        for part in images.split(BATCH):
            signals.check()
            found.append(classifier((part.float() / 255).contiguous(memory_format=layout)))
    return torch.cat(found).numpy()


def load(what: str | Path, seed: int | None = None, results: str | Path = "runs", compiled: bool = False) -> Classifier:
    """See `wavemix.load`."""
    stored = find(what, Results(results, published()))
    classifier = Classifier.of(stored, seed)
    if compiled:
        assert isinstance(classifier.network, WaveMixLite)  # as all of `Stored` are
        classifier.network = with_kernels(classifier.network)
    return classifier
