"""Networks of one configuration as plain PyTorch modules, a member a seed, whose weights lie in one tensor.

So the optimizer and the checkpoints are those of a stack (`wavemix.stack.Stack`), which holds classifiers alone.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Members:
    """K networks, which `build` makes under each member's seed.

    `flat` (K, P) holds all weights and `gradient` (K, P) what backward passes add up: the networks' parameters are
    views of them.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        seeds: Sequence[int],
        device: torch.device,
    ):
        self.seeds, self.device = list(seeds), device
        self.networks: list[nn.Module] = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.networks.append(build().to(device).train())
        first = self.networks[0]
        self.shapes = {name: parameter.shape for name, parameter in first.named_parameters()}
        self.flat = torch.stack([nn.utils.parameters_to_vector(n.parameters()).detach() for n in self.networks])
        self.gradient = torch.zeros_like(self.flat)
        weights, gradients = self.views(self.flat), self.views(self.gradient)
        for member, network in enumerate(self.networks):
            for name, parameter in network.named_parameters():
                parameter.data, parameter.grad = weights[name][member], gradients[name][member]
        self.other = copy.deepcopy(first)  # what `with_weights` fills

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Parameters by name, (K, *shape), as views of `flat`."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], 1)
        return {name: part.view(-1, *shape) for part, (name, shape) in zip(parts, self.shapes.items())}

    @torch.no_grad()
    def with_weights(self, member: int, flat: Tensor, batches: Sequence[Tensor]) -> nn.Module:
        """A network with a member's weights in `flat`, in evaluation mode, BatchNorm's statistics measured on `batches`
        of training inputs. The next call changes it."""
        for name, parameter in self.other.named_parameters():
            parameter.copy_(self.views(flat)[name][member])
        norms = [module for module in self.other.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
        self.other.train()
        for batch in batches if norms else ():
            self.other(batch)
        return self.other.eval()
