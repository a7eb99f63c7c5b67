"""Copies of a network's weights: the moving average of them, and those of the best epoch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule


class Snapshot:
    """The parameters and buffers of a network as they were; of a network whose weights are divided among processes,
    this process's part of them."""

    def __init__(self, network: nn.Module):
        self.network = network
        self.tensors = [tensor.detach().clone() for tensor in _tensors(network)]

    @torch.no_grad()
    def take(self) -> None:
        """Become what the network is now."""
        for kept, now in zip(self.tensors, _tensors(self.network)):
            kept.copy_(now.detach())

    @torch.no_grad()
    def approach(self, share: float) -> None:
        """Go a share of the way to what the network is now. BatchNorm's statistics are averages already, but of other
        weights, so that they go along; its counts are taken as they are."""
        for kept, now in zip(self.tensors, _tensors(self.network)):
            if kept.is_floating_point():
                kept.lerp_(now.detach(), share)
            else:
                kept.copy_(now)

    @torch.no_grad()
    def give(self) -> None:
        """Make the network what this is."""
        for kept, now in zip(self.tensors, _tensors(self.network)):
            now.detach().copy_(kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network is this within the block, and what it was afterwards."""
        before = Snapshot(self.network)
        self.give()
        try:
            yield
        finally:
            before.give()


def _tensors(network: nn.Module) -> list[Tensor]:
    if isinstance(network, FSDPModule):  # after a forward pass the outermost module has its parameters whole
        network.reshard()
    return [*network.parameters(), *network.buffers()]
