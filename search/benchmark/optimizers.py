"""The optimizers of recipes, on any module: PyTorch's AdamW and SGD, and two that it lacks in this form."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from search.benchmark.recipe import Phase
from search.training.optimizer import orthogonal


class Lion(torch.optim.Optimizer):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2: steps of one size, the sign of
    a mean of momentum and gradient; decoupled weight decay."""

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                update = momentum.lerp(weight.grad, 1 - beta1).sign()
                weight.mul_(1 - lr * group["weight_decay"]).sub_(lr * update)
                momentum.lerp_(weight.grad, 1 - beta2)
        return None if closure is None else closure()


class Muon(torch.optim.Optimizer):
    """Muon for convolutions and matrices, whose kernels are matrices of outputs and all the rest; AdamW for vectors.

    As in `search.training.optimizer` (Jordan 2024; the scale of Liu et al. 2025, section 2.2), for modules in place of
    stacks. `torch.optim.Muon` takes matrices alone. Of weights that are divided among processes (FSDP) each process
    keeps its part of the means, but what is made orthogonal is the whole matrix, gathered for it, in every process
    alike: parts of it made orthogonal each would be another step.
    """

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float]):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            lr = group["lr"]
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - lr * group["weight_decay"]).sub_(lr * self._update(weight, group["betas"]))
        return None if closure is None else closure()

    def _update(self, weight: Tensor, betas: tuple[float, float]) -> Tensor:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        first = state.setdefault("first", torch.zeros_like(weight)).lerp_(gradient, 1 - betas[0])
        if weight.ndim > 1 and min(weight.shape[0], weight.shape[1:].numel()) > 1:
            mean = gradient.lerp(first, betas[0])
            return _in_parts(_orthogonal(_whole(mean)), mean)
        count = state.setdefault("count", torch.zeros(())).add_(1)
        second = state.setdefault("second", torch.zeros_like(weight)).lerp_(gradient.square(), 1 - betas[1])
        one, two = (1 - beta ** float(count) for beta in betas)
        return (first / one) / ((second / two).sqrt() + 1e-8)


def _orthogonal(kernel: Tensor) -> Tensor:
    matrix = kernel.flatten(1)[None]
    tall = matrix.shape[1] > matrix.shape[2]
    return (orthogonal(matrix.mT).mT if tall else orthogonal(matrix))[0].view_as(kernel)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _in_parts(whole: Tensor, like: Tensor) -> Tensor:
    """A tensor that every process has whole, divided as another one is."""
    if not isinstance(like, DTensor):
        return whole
    everywhere = [Replicate()] * like.device_mesh.ndim
    return DTensor.from_local(whole, like.device_mesh, everywhere).redistribute(like.device_mesh, like.placements)


def optimizer_of(network: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """The phase's, on all parameters of the network; matrices and kernels alone decay."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": phase.decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    betas = (phase.beta1, phase.beta2)
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, phase.lr, momentum=phase.beta1)
    if phase.optimizer == "adamw":
        return torch.optim.AdamW(groups, phase.lr, betas)
    return (Lion if phase.optimizer == "lion" else Muon)(groups, phase.lr, betas)
