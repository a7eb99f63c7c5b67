"""All residual blocks of level-1 networks that interpolate, on maps of half size: plain PyTorch, for GPUs above all.

A block adds BatchNorm(up(z)), z = W2 act(W1 haar(R x)) or a depthwise convolution of it, to its input x. As in
`chain`, x = x0 + up(s), where s is the sum of the blocks' BatchNorm(z). The reduction R acts on channels alone,
up-sampling and transform on places alone, so they commute: haar(R x) = R haar(x0) + haar(up(R s)). haar(up(.)) is a
stencil from a small map to its four bands, and R haar(x0) of all blocks is one matrix product. So no block touches a
map of full size, forward or backward. The variance of up(z) is a quadratic form in z; its mean is that of z. Feature
maps are those of `stack`.
"""

from typing import Any

import torch
from torch import Tensor

from ..config import LiteConfig
from .operations import ACTIVATIONS, EPS, fused, neighbours, plain_convolution, plain_haar, wide

Pair = tuple[Tensor, Tensor]  # mean and biased variance, each (K, C)


def halved(
    x: Tensor, parts: list[list[Any]], config: LiteConfig, given: list[Pair | None]
) -> tuple[Tensor, list[Pair]]:
    """x (K, G, C, H, W, LANES) after all blocks, its mean over places (K, G, C, LANES), and the BatchNorms' statistics.

    `parts` are each block's parameters, (K, *shape), as `chain.block_parts` names them; `given` statistics are used
    instead of the batch's.
    """
    unlike = parts[: config.distinct]
    seen, pooled = fused(_seen, x)(x, torch.cat([reduction.flatten(2) for reduction, *_ in unlike], 1))
    # in few dimensions: the gradients of the parts are put together again, which is slow in many
    shape, measured = (-1, *seen.shape[3:]), []
    seen = [part.unflatten(2, shape) for part in seen.flatten(2).chunk(len(unlike), 2)]
    # of autocast's type, as products are; its gradient is of no use, but all blocks are to compile as one
    s = x.new_zeros(*x.shape[:3], *seen[0].shape[4:], dtype=seen[0].dtype).requires_grad_(seen[0].requires_grad)
    for depth, (own, known) in enumerate(zip(parts, given)):
        here = seen[config.block(depth)]
        s, mean, variance = fused(_block, x)(here, s, own, known, config.activation, config.interpolation)
        measured.append((mean.detach(), variance.detach()))
    return pooled + s.to(x.dtype).mean((3, 4)), measured


def _seen(x: Tensor, reductions: Tensor) -> tuple[Tensor, Tensor]:
    """What the reductions (K, D * R, C) make of x, transformed, (K, G, D * R, 4, h, w, LANES), and x's mean."""
    low, details = plain_haar(x)
    bands = torch.cat([low[:, :, :, None], details.unflatten(2, (-1, 3))], 3)
    return (reductions[:, None] @ bands.flatten(3)).unflatten(3, bands.shape[3:]), x.mean((3, 4))


def _block(seen, s, parts, given, activation, up):
    """One block: s with BatchNorm(z) added, and mean and variance of up(z); `seen` is R haar(x0)."""
    reduce, reduce_bias, w1, b1, w2, b2, taps, bias, gamma, beta = parts
    reduce, w1, w2 = reduce.flatten(2), w1.flatten(2), w2.flatten(2)
    reduced, groups = reduce.shape[1], s.shape[1]
    if reduce_bias is not None:  # a constant's low band is twice that constant, its details are zero
        b1 = b1 + 2 * (w1[:, :, :reduced] @ reduce_bias[:, :, None])[:, :, 0]
    w1 = by_channel(w1, reduced)
    u = seen + _bands((reduce[:, None] @ s.flatten(3)).unflatten(3, s.shape[3:]), up)
    hidden = ACTIVATIONS[activation][1](w1[:, None] @ u.flatten(2, 3).flatten(3) + wide(b1, groups, 1))
    z = w2[:, None] @ hidden
    z = (z if b2 is None else z + wide(b2, groups, 1)).unflatten(3, s.shape[3:])
    if taps is not None:
        z = plain_convolution(z, taps, bias, 1, 1, depthwise=True).to(z.dtype)
    z = z.to(w1.dtype)
    mean, variance = given or (_mean(z), None)
    centred = z - wide(mean, groups)
    if variance is None:
        gram = _gram(centred.detach(), up)  # it is symmetric: the gradient of z's form is twice the gram of z
        variance = _mean(2 * centred * gram - (centred * gram).detach()) / 4
    scale = gamma * torch.rsqrt(variance + EPS)
    return (s + centred * wide(scale, groups) + wide(beta, groups)).to(s.dtype), mean, variance


def by_channel(w1: Tensor, reduced: int) -> Tensor:
    """First weights (K, M, 4 * reduced) for the bands of a channel side by side; upstream has all low ones first."""
    return torch.cat([w1[:, :, :reduced, None], w1[:, :, reduced:].unflatten(2, (-1, 3))], 3).flatten(2)


def _mean(x: Tensor) -> Tensor:
    """By member and channel; in two steps, so that a GPU has enough to do at once."""
    return x.mean((3, 4, 5)).mean(1)


def _bands(t: Tensor, up: str) -> Tensor:
    """Haar bands of up-sampled t (K, G, R, h, w, LANES): (K, G, R, 4, h, w, LANES), as `plain_haar` orders them."""
    if up == "nearest":
        return torch.stack([2 * t, *[torch.zeros_like(t)] * 3], 3)

    def pair(t: Tensor, axis: int) -> tuple[Tensor, Tensor]:  # half the sum and difference of two up-sampled places
        before, after = neighbours(t, axis)
        return 0.75 * t + 0.125 * (before + after), 0.125 * (before - after)

    low, high = pair(t, 3)
    return 2 * torch.stack([pair(low, 4)[0], pair(high, 4)[0], pair(low, 4)[1], pair(high, 4)[1]], 3)


def _gram(t: Tensor, up: str) -> Tensor:
    """The transpose of up-sampling applied to up-sampled t: the sum over places of t times it is that of up(t)**2.

    Without a gradient: what reads beyond the border is an index here, which compiles to half of the loads.
    """
    if up == "nearest":
        return 4 * t
    for axis in (3, 4):
        last = t.shape[axis] - 1
        place = torch.arange(last + 1, device=t.device)
        before, after = (t.index_select(axis, (place + by).clamp(0, last)) for by in (-1, 1))
        t = 1.25 * t + 0.375 * (before + after)
    return t
