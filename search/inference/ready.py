"""A trained network as one module for images between 0 and 1, which it normalises itself: of each task one."""

import torch
from torch import Tensor, nn

from search.data.masks import known_colours
from search.data.split import Colour
from search.records.weights import Inputs
from wavemix.head_config import DenseHead, SuperResolutionHead
from wavemix.heads import bicubic
from wavemix.lite import WaveMixLite

# ITU-R BT.601 of values between 0 and 1: Y = BLACK + WEIGHTS · (R, G, B), from 16/255 to 235/255
BLACK, WEIGHTS = 16 / 255, (65.481 / 255, 128.553 / 255, 24.966 / 255)


class Ready(nn.Module):
    """Images (N, C, H, W), floats between 0 and 1 -> what the network makes of them. In evaluation mode.

    Raises ValueError for images of another shape, and for integers, which nothing has divided.

    Attributes:
        network: the network itself, which takes normalised images.
        inputs: what its images and outputs are.
        classes: what the outputs are called, in their order; their numbers where the file does not say.
        shape: channels, height and width of its images; None where any size will do that fits the network.
        channels: what numbers of channels its images may have.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, inputs: Inputs):
        super().__init__()
        self.network, self.inputs, self.classes = network, inputs, inputs.classes
        self.shape = None if inputs.any_size else inputs.shape
        self.channels: tuple[int, ...] = inputs.shape[:1]
        self.register_buffer("mean", torch.tensor(inputs.mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(inputs.deviation)[:, None, None])
        self.eval()

    @property
    def lite(self) -> WaveMixLite:
        """The network, where it is not the compiled one."""
        assert isinstance(self.network, WaveMixLite)
        return self.network

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        return self.network((images - self.mean) / self.deviation)

    def check(self, images: Tensor) -> None:
        """Raise ValueError where these are no images for it."""
        if not images.is_floating_point():
            raise ValueError(f"images are floats between 0 and 1, not {images.dtype}: divide them by 255")
        fits = images.ndim == 4 and images.shape[1] in self.channels
        if not fits or self.shape not in (None, tuple(images.shape[1:])):
            wanted = self.shape or (" or ".join(map(str, self.channels)), "height", "width")
            raise ValueError(f"images are (N, {', '.join(map(str, wanted))}), not {tuple(images.shape)}")


class Classifier(Ready):
    """Images (N, C, H, W), floats between 0 and 1 -> scores (N, K); the softmax of a row are probabilities."""


class Segmenter(Ready):
    """Images (N, C, H, W) of any size, floats between 0 and 1 -> scores (N, K, H, W) of K classes.

    The greatest of a pixel's scores, `argmax(1)`, is its class.

    Attributes:
        colours: of each class, red, green and blue from 0 to 255.
    """

    def __init__(self, network: nn.Module, inputs: Inputs):
        super().__init__(network, inputs)
        self.colours: tuple[Colour, ...] = inputs.colours or known_colours(inputs.classes)


class Enlarger(Ready):
    """Images (N, 1 or 3, H, W) of any size, grey or RGB, floats between 0 and 1 -> the same `scale` times as large.

    A network that takes luma alone enlarges the Y of ITU-R BT.601, as the field does; the colours are enlarged
    bicubically.
    """

    weights: Tensor

    def __init__(self, network: nn.Module, inputs: Inputs, scale: int):
        super().__init__(network, inputs)
        self.scale, self.of_luma = scale, inputs.shape[0] == 1
        self.channels = (1, 3) if self.of_luma else self.channels
        self.register_buffer("weights", torch.tensor(WEIGHTS)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        if not self.of_luma:
            return self._enlarged(images).clamp(0, 1)
        larger = bicubic(images, self.scale)
        y = self._enlarged(self.luma(images))
        # a change of Y alone changes each of R, G and B by as much
        return (larger + (y - self.luma(larger)) / self.weights.sum()).clamp(0, 1)

    def _enlarged(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.deviation) * self.deviation + self.mean

    def luma(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) -> (N, 1, H, W); a grey image is taken for one whose channels are equal."""
        return BLACK + (self.weights * images).sum(1, keepdim=True)


def ready(network: nn.Module, inputs: Inputs) -> Ready:
    """The module of a network's task."""
    head = network.config.head if isinstance(network, WaveMixLite) else None
    if isinstance(head, SuperResolutionHead):
        return Enlarger(network, inputs, head.scale)
    return Segmenter(network, inputs) if isinstance(head, DenseHead) else Classifier(network, inputs)
