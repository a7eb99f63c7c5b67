"""One step of training: a batch, its loss, its gradient, the optimizer, the averaged weights. A CUDA graph on a GPU."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from search.training.augment import cut, mixed
from search.training.images import Images
from search.training.optimizer import Optimizer
from search.training.recipe import Recipe
from wavemix.stack import Stack

# of every image, or None: its move (K, N, 6), the centre of its hole (K, N, 2), the share (K, N) of another in it
Drawn = Sequence[Tensor | None]
WARM = 3  # steps on a GPU before one is captured: libraries set themselves up, kernels are compiled


class Step:
    """Trains `stack` by `optimizer` under `recipe`; `average` (K, P) follows the weights, `losses` (K,) adds up.

    A step of a small network is some hundreds of short kernels, which a processor can't start as fast as a GPU runs
    them; captured once, all of them are started by one call.
    """

    def __init__(self, stack: Stack, optimizer: Optimizer, recipe: Recipe, average: Tensor):
        self.stack, self.optimizer, self.recipe, self.average = stack, optimizer, recipe, average
        self.losses = torch.zeros(len(stack.seeds), device=stack.device)
        self.source: Images | None = None  # what the graph reads; another one takes its place
        self.warm, self.graph = 0, None
        self.held: list[Any] = []  # the inputs that the graph reads: tensors, or None

    def __call__(self, source: Images, index: Tensor, drawn: Drawn, lr: float, weight: float) -> None:
        """On the images `index` (K, N) of `source`, augmented by what was `drawn` for them."""
        scalars = [*self.optimizer.factors(lr), weight]
        if self.stack.device.type != "cuda":
            return self._run(source, index, drawn, scalars)
        scalars = torch.tensor(scalars, pin_memory=True).to(index.device, non_blocking=True)
        if source is not self.source:
            self.source, self.warm, self.graph = source, 0, None
        if self.warm < WARM:
            self.warm += 1
            return self._run(source, index, drawn, scalars.unbind())
        inputs = [index, *drawn, scalars]
        if self.graph is None:
            self.held = [None if tensor is None else tensor.clone() for tensor in inputs]
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._run(source, self.held[0], self.held[1:-1], self.held[-1].unbind())
        for place, tensor in zip(self.held, inputs):
            if place is not None:
                place.copy_(tensor)
        self.graph.replay()

    def _run(self, source: Images, index: Tensor, drawn: Drawn, scalars: Sequence) -> None:
        move, hole, share = drawn
        x = source.batch(index, None if move is None else move.contiguous(), self.recipe.outside)
        if hole is not None:
            x = cut(x, hole, self.recipe.cutout * source.scale)
        labels = source.labels[index]
        if share is None:
            loss = self._losses(self.stack(x)[0], labels)
        else:
            logits, _ = self.stack(mixed(x, share))
            loss = torch.lerp(self._losses(logits, labels), self._losses(logits, labels.flip(1)), share)
        loss = loss.mean(1)
        *factors, weight = scalars
        self.optimizer.step(torch.autograd.grad(loss.sum(), self.stack.flat)[0], *factors)
        self.average.lerp_(self.stack.flat.detach(), weight)
        self.losses += loss.detach()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of every image (K, N)."""
        smoothing = self.recipe.label_smoothing
        flat = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing, reduction="none")
        return flat.view(labels.shape)
