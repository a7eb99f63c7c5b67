"""Images on the device that trains: normalised, moved, in the layout of a stack."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from search.data.split import Split
from search.training.augment import affine
from wavemix import kernels
from wavemix.config import LiteConfig
from wavemix.kernels import LANES
from wavemix.stack import to_lanes


class Images:
    """A split on the device: uint8 images, labels, and per-channel normalisation taken from the training images.

    `like` are images whose normalisation these take; `scale` is their size relative to the originals'.
    """

    def __init__(self, split: Split, device: torch.device, like: "Images | None" = None):
        self.images, self.labels = split.images.contiguous().to(device), split.labels.to(device)
        self.scale = 1.0
        if like is None:
            self.mean, self.deviation = (measure.to(device) for measure in normalisation(split.images))
        else:
            self.mean, self.deviation = like.mean, like.deviation
            self.scale = self.images.shape[2] / like.images.shape[2]

    def batch(self, index: Tensor, move: Tensor | None = None, outside: str = "black") -> Tensor:
        """index (K, N) -> normalised images (K, N/LANES, I, H, W, LANES), moved by `move` (K, N, 6) where given."""
        members, count = index.shape
        if self.images.device.type == "cpu" and kernels.library() is not None:
            shape = (members * count // LANES, *self.images.shape[1:])
            out = torch.empty(members, count // LANES, *self.images.shape[1:], LANES)
            index = index.contiguous()
            tensors = (self.images, index, move, self.mean, self.deviation, out)
            kernels.loaded().load_batch(*map(kernels.pointer, tensors), *shape, int(outside == "border"))
            return out
        x = self.images[index.flatten()].float() / 255
        if move is not None:
            x = affine(x, move.flatten(0, 1), outside)
        x = (x - self.mean[:, None, None]) / self.deviation[:, None, None]
        return to_lanes(x.unflatten(0, (members, count)))


def normalisation(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images (N, I, H, W) divided by 255, over up to 10,000."""
    sample = images[spread(len(images), 10000)].float() / 255
    return sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)


def spread(total: int, most: int) -> Tensor:
    """Up to `most` of the numbers below `total`, evenly spaced: images that come from folders are sorted by class."""
    count = min(most, total)
    return torch.arange(count) * total // count


def reduced(data: Split, config: LiteConfig) -> Split:
    """`data` at the largest size below 0.72 of its own that fits the network: about half the work an image."""
    height, width = data.images.shape[2:]
    for size in range(int(0.72 * height), 7, -1):
        try:
            config.check_image_size(size, round(size * width / height))
        except ValueError:
            continue
        shape = size, round(size * width / height)
        images = [
            F.interpolate(part.float(), shape, mode="bilinear", antialias=True, align_corners=False).round().byte()
            for part in data.images.split(4096)
        ]
        return dataclasses.replace(data, images=torch.cat(images))
    return data
