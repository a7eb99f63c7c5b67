"""The network that is exported: it takes images between 0 and 1 and normalises them itself."""

import torch
from torch import Tensor, nn

from search.records.weights import Inputs
from wavemix.lite import WaveMixLite


class Ready(nn.Module):
    """images (N, *inputs.shape), float32 between 0 and 1 -> scores (N, classes), before the softmax.

    `network` is one of a file of weights, `inputs` what the file says of the images.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: WaveMixLite, inputs: Inputs):
        super().__init__()
        self.network, self.inputs = network.eval(), inputs
        self.register_buffer("mean", torch.tensor(inputs.mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(inputs.deviation)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.deviation)
