"""Evaluation: BatchNorm statistics measured anew, and the share of images classified right."""

import torch
from torch import Tensor

from search import signals
from search.data.split import Split
from search.training.images import Images, spread
from search.training.recipe import MULTIPLE
from wavemix.config import LiteConfig
from wavemix.kernels import LANES
from wavemix.stack import Stack, Statistics

RECALIBRATION = 2048  # training images that BatchNorm's statistics are measured on before an evaluation


EVALUATION = 1024  # images a forward pass of an evaluation


@torch.no_grad()
def recalibrate(stack: Stack, flat: Tensor, images: Images) -> Statistics:
    """BatchNorm statistics under the weights `flat`, of one large batch of unmoved training images."""
    total = len(images.labels)
    index = spread(total, min(RECALIBRATION, total // MULTIPLE * MULTIPLE)).to(images.labels.device)
    parts = [stack(images.batch(index[None].expand(len(flat[at]), -1)), flat[at])[1] for at in _portions(flat)]
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    means, variances = zip(*pairs)
    return torch.cat(means), torch.cat(variances)


def _portions(flat: Tensor) -> list[slice]:
    """Members that are evaluated together: on a GPU one at a time, since evaluation is not what its memory is for."""
    size = 1 if flat.is_cuda else len(flat)
    return [slice(first, first + size) for first in range(0, len(flat), size)]


@torch.no_grad()
def accuracy(stack: Stack, flat: Tensor, statistics: Statistics, held_out: Images) -> list[float]:
    """Fraction of `held_out` images classified right, by member."""
    right, count = torch.zeros(len(flat), dtype=torch.float64), len(held_out.labels)
    for start in range(0, count, EVALUATION):
        signals.check()
        size = min(EVALUATION, count - start)
        padded = -(-size // LANES) * LANES  # the last group is filled up with repetitions, which are not counted
        index = (start + torch.arange(padded)).clamp_max(count - 1).to(held_out.labels.device)
        for at in _portions(flat):
            given = {name: (mean[at], variance[at]) for name, (mean, variance) in statistics.items()}
            logits, _ = stack(held_out.batch(index[None].expand(len(flat[at]), -1)), flat[at], given)
            right[at] += (logits[:, :size].argmax(2) == held_out.labels[index[:size]]).sum(1).cpu()
    return (right / count).tolist()


def evaluate(config: LiteConfig, states: list[dict[str, Tensor]], train_split: Split, split: Split) -> list[float]:
    """Accuracy of each state dict (of `Trained.state`) on `split`; normalisation comes from `train_split`."""
    stack = Stack(config, [0] * len(states))
    flat = torch.stack([torch.cat([state[name].flatten() for name in stack.shapes]) for state in states])
    names = [key.removesuffix(".running_mean") for key in stack.keys if key.endswith(".running_mean")]

    def of_all(key: str) -> Tensor:
        return torch.stack([state[key] for state in states])

    statistics = {name: (of_all(f"{name}.running_mean"), of_all(f"{name}.running_var")) for name in names}
    device = torch.device("cpu")
    return accuracy(stack, flat, statistics, Images(split, device, like=Images(train_split, device)))
