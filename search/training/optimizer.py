"""The optimizers of all members of a stack at once, on their flat parameters.

By hand, although `torch.optim` has AdamW, Muon and SGD. Its Muon takes matrices one at a time: K members would mean K
times as many operations, each on a tiny matrix, where here all of one shape go together. Its AdamW and SGD would take
the flat tensor as one parameter, but then decay all of it, biases and norms too. And on a GPU the factors are tensors,
so that a step can be part of a recorded CUDA graph. Tests compare the steps with PyTorch's.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from search.training.recipe import Recipe
from wavemix import kernels
from wavemix.kernels import pointer

SMALL = 32  # rows or columns of a matrix that a compiled kernel orthogonalises faster than PyTorch
LARGEST = 20_000  # and its numbers


class Weights(Protocol):
    """The weights of K networks of one configuration: `flat` (K, P) holds all of each, `views` its parts by name."""

    @property
    def flat(self) -> Tensor: ...

    @property
    def shapes(self) -> Mapping[str, torch.Size]: ...

    @property
    def seeds(self) -> Sequence[int]: ...

    @property
    def device(self) -> torch.device: ...

    def views(self, flat: Tensor) -> dict[str, Tensor]: ...


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019) on the flat parameters; with 'muon', matrices get orthogonalised momentum; with
    'sgd', all get Nesterov's (Sutskever et al. 2013).

    Muon (Jordan 2024): five Newton-Schulz steps on the Nesterov momentum, scaled by 0.2 sqrt(max(rows, columns)) so
    that its steps have AdamW's usual size and share its learning rate (Liu et al., "Muon is scalable", 2025, 2.2).
    These are the steps of `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"` and its default coefficients, with
    three differences: the Newton-Schulz steps run in the weights' precision instead of bfloat16, whose rounding moves
    a weight by some per cent of a step; 1e-7 is added to the norm instead of being its least value; and a convolution's
    kernel is a matrix of output channels and all the rest, where PyTorch takes two-dimensional parameters alone.
    """

    def __init__(self, stack: Weights, recipe: Recipe):
        self.stack, self.recipe = stack, recipe
        self.first, self.second = torch.zeros_like(stack.flat), torch.zeros_like(stack.flat)
        matrix = [torch.full((shape.numel(),), float(len(shape) > 1)) for shape in stack.shapes.values()]
        self.decayed = torch.cat(matrix).to(stack.device)
        self.small = Matrices(stack) if kernels.fit(stack.flat) else None
        done = self.small.names if self.small else set()
        sizes = {name: matrix_size(shape) for name, shape in stack.shapes.items() if name not in done}
        self.others = {name: size for name, size in sizes.items() if size}
        self.count = 0

    def factors(self, lr: float) -> tuple[float, float, float]:
        """What changes from step to step, for the next one: `lr`, and what makes up for the averages' short past."""
        self.count += 1
        return lr, 1 - self.recipe.beta1**self.count, 1 - self.recipe.beta2**self.count

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: float | Tensor, scale1: float | Tensor, scale2: float | Tensor) -> None:
        """Change the weights along `gradient` (K, P); the rest are `factors`, on a GPU as tensors."""
        recipe = self.recipe
        self.first.lerp_(gradient, 1 - recipe.beta1)
        self.second.lerp_(gradient.square(), 1 - recipe.beta2)
        if recipe.optimizer == "sgd":  # in averages instead of sums of gradients: the same path at lr / (1 - beta1)
            update = gradient.lerp(self.first, recipe.beta1)
        else:
            update = (self.first / scale1) / ((self.second / scale2).sqrt() + 1e-8)
        if recipe.optimizer == "muon":
            update = self._orthogonalised(gradient.lerp(self.first, recipe.beta1), update)
        if recipe.weight_decay:
            self.stack.flat.mul_(1 - lr * recipe.weight_decay * self.decayed)
        if isinstance(lr, Tensor):
            self.stack.flat.addcmul_(update, lr, value=-1)
        else:
            self.stack.flat.add_(update, alpha=-lr)

    def _orthogonalised(self, momentum: Tensor, update: Tensor) -> Tensor:
        """`update` with the orthogonalised momentum of every matrix in its place; matrices of one shape go together."""
        if self.small:
            self.small.orthogonalise(momentum, update)
        if not self.others:
            return update
        groups: dict[tuple, dict[str, Tensor]] = {}
        sources, parts = self.stack.views(momentum), self.stack.views(update)
        for name, size in self.others.items():
            groups.setdefault(size, {})[name] = sources[name].flatten(2)
        for (rows, columns), members in groups.items():
            matrices = torch.cat(list(members.values()))
            result = orthogonal(matrices.mT).mT if rows > columns else orthogonal(matrices)
            parts |= zip(members, result.contiguous().split(len(self.stack.seeds)))
        return torch.cat([part.flatten(1) for part in parts.values()], 1)


def matrix_size(shape: torch.Size) -> tuple[int, int] | None:
    """Rows and columns of a weight as Muon sees it: output channels and all the rest; None where it is none."""
    rows, columns = (shape[0], shape[1:].numel()) if len(shape) > 1 else (1, 1)
    return (rows, columns) if min(rows, columns) > 1 else None


class Matrices:
    """The weights of a stack on a CPU that are small matrices: their starts in a row of `flat`, and their sizes."""

    def __init__(self, stack: Weights):
        self.names: set[str] = set()
        found: list[tuple[int, int, int]] = []
        start = 0
        for name, shape in stack.shapes.items():
            size = matrix_size(shape)
            if size and min(size) <= SMALL and shape.numel() <= LARGEST:
                self.names.add(name)
                found.append((start, *size))
            start += shape.numel()
        starts, rows, columns = zip(*found) if found else ((), (), ())
        count = len(found)
        self.sizes = (ctypes.c_long * count)(*starts), (ctypes.c_int * count)(*rows), (ctypes.c_int * count)(*columns)

    def orthogonalise(self, momentum: Tensor, update: Tensor) -> set[str]:
        """Write each matrix of `momentum` (K, P) orthogonalised into `update`; the names of those that it holds."""
        (members, numbers), momentum = momentum.shape, momentum.contiguous()
        places = pointer(momentum), pointer(update)
        kernels.loaded().orthogonalise(*places, members, ctypes.c_long(numbers), *self.sizes, len(self.names))
        return self.names


def orthogonal(x: Tensor) -> Tensor:
    """Newton-Schulz orthogonalisation of wide matrices (N, rows, columns), coefficients of Jordan 2024."""
    y = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = y @ y.transpose(1, 2)
        y = torch.baddbmm(y, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), y, beta=3.4445)
    return y * (0.2 * math.sqrt(x.shape[2]))
