"""Networks to export: untrained ones, with BatchNorms that have something to do."""

import torch
from torch import nn

from search.inference.ready import Classifier, Ready
from search.records.weights import Inputs
from wavemix import LiteConfig, WaveMixLite
from wavemix.lite import Affine


def ready(config: LiteConfig, height: int, width: int, data: str = "toys") -> Ready:
    """A network of random weights for images of a size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = WaveMixLite(config)
        for owner in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d | Affine) and m.weight is not None):
            nn.init.uniform_(owner.weight, 0.5, 1.5)
            nn.init.normal_(owner.bias)
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    channels, classes = config.in_channels, tuple(f"class {k}" for k in range(config.num_classes))
    given = Inputs(
        data=data,
        shape=(channels, height, width),
        mean=tuple(0.3 + 0.1 * c for c in range(channels)),
        deviation=tuple(0.2 + 0.1 * c for c in range(channels)),
        classes=classes,
    )
    return Classifier(network, given)


def images(network: Ready, count: int = 100) -> torch.Tensor:
    """Random images as it takes them."""
    return torch.rand(count, *network.inputs.shape, generator=torch.Generator().manual_seed(1))
