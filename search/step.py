"""One step of training: a batch, its loss, its gradient, the optimizer, the averaged weights. A CUDA graph on a GPU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wavemix.kernels import LANES
from wavemix.stack import Stack

from .images import Images
from .optimizer import Optimizer
from .recipe import Recipe

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
        self.warm, self.graph, self.held = 0, None, []

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


def mixed(x: Tensor, share: Tensor) -> Tensor:
    """x (K, G, I, H, W, LANES) with a `share` (K, N) of every image taken from the one as far from the batch's end as
    it is from its beginning (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, section 2)."""
    return torch.lerp(x, x.flip(1, 5), share.unflatten(1, (-1, LANES))[:, :, None, None, None])


def cut(x: Tensor, hole: Tensor, edge: float) -> Tensor:
    """x (K, G, I, H, W, LANES) with a square of `edge` pixels of every image at its mean colour, which is zero.

    hole (K, N, 2) are the squares' centres as fractions of height and width; what lies outside the image is lost
    (DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, section 3.1).
    """
    centre = hole.unflatten(1, (-1, LANES))[:, :, None]  # (K, G, 1, LANES, 2)
    inside = []
    for axis, size in enumerate(x.shape[3:5]):
        place = torch.arange(size, device=x.device)[:, None] + 0.5
        inside.append((place - centre[..., axis].unsqueeze(3) * size).abs() < edge / 2)  # (K, G, 1, size, LANES)
    return x.masked_fill(inside[0][:, :, :, :, None] & inside[1][:, :, :, None], 0.0)
