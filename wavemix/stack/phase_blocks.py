"""All residual blocks of level-1 networks with transposed convolutions: plain PyTorch, for GPUs above all.

A map of full size is kept as four of half size, its phases, one for each parity of row and column. Haar's transform is
sums and differences of the four, and the transposed convolution of stride 2 is a convolution with four times as many
output channels: a matrix product with what the nine neighbours of a place are, in which each phase has weights for
four. So nothing is interleaved, and torch.compile fuses all there is between the products. Feature maps are those of
`stack`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import LiteConfig
from .half_size_blocks import Pair, by_channel
from .operations import ACTIVATIONS, EPS, fused, wide


def phases(
    x: Tensor, parts: list[list[Tensor | None]], config: LiteConfig, given: list[Pair | None]
) -> tuple[Tensor, list[Pair]]:
    """What `halved` is for networks that interpolate.

    Under autocast the map between the blocks is of autocast's type, as products are.
    """
    kind, dtype, measured = x.device.type, x.dtype, []
    x = x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
    x = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(3, 4).contiguous()
    for own, known in zip(parts, given):
        x, mean, variance = fused(_block, x)(x, own, known, config.activation)
        measured.append((mean.detach(), variance.detach()))
    return x.to(dtype).mean((3, 4, 5)), measured


def _block(x, parts, given, activation):
    """One block: x (K, G, C, 4, h, w, LANES) with its branch added, and the branch's mean and variance."""
    reduce, reduce_bias, w1, b1, w2, b2, taps, bias, gamma, beta = parts
    reduce, w1, w2 = reduce.flatten(2), by_channel(w1.flatten(2), reduce.shape[1]), w2.flatten(2)
    groups = x.shape[1]
    r = (reduce[:, None] @ x.flatten(3)).unflatten(3, x.shape[3:])
    r = r if reduce_bias is None else r + wide(reduce_bias, groups, 4)
    a, b, c, d = r.unbind(3)
    bands = torch.stack([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 3) / 2
    hidden = ACTIVATIONS[activation][1](w1[:, None] @ bands.flatten(2, 3).flatten(3) + wide(b1, groups, 1))
    z = (w2[:, None] @ hidden + wide(b2, groups, 1)).unflatten(3, x.shape[4:])
    v = _transposed(z.to(r.dtype), taps).to(w1.dtype)
    v = v if bias is None else v + wide(bias, groups, 4)
    if given:
        mean, variance = given
    else:  # of each group, then of all, so that a GPU has enough to do at once
        variances, means = torch.var_mean(v, (3, 4, 5, 6), correction=0)
        mean, variance = means.mean(1), variances.mean(1) + means.var(1, correction=0)
    y = (v - wide(mean, groups, 4)) * wide(gamma * torch.rsqrt(variance + EPS), groups, 4) + wide(beta, groups, 4)
    return (x + y).to(x.dtype), mean, variance


def _transposed(z: Tensor, taps: Tensor) -> Tensor:
    """z (K, G, F, h, w, LANES) by taps (K, F, C, 4, 4), stride 2, padding 1: its phases (K, G, C, 4, h, w, LANES)."""
    h, w = z.shape[3:5]
    padded = F.pad(z, (0, 0, 1, 1, 1, 1))
    near = torch.stack([padded[:, :, :, i : i + h, j : j + w] for i in range(3) for j in range(3)], 3)
    # even places see the one before through tap 3 and their own through 1; odd ones their own through 2, the next by 0
    turned = taps.flip(3, 4)
    kernels = [F.pad(turned[..., a::2, b::2], (b, 1 - b, a, 1 - a)) for a in (0, 1) for b in (0, 1)]
    matrix = torch.stack(kernels, 1).permute(0, 3, 1, 2, 4, 5).flatten(3).flatten(1, 2)  # (K, 4C, 9F)
    return (matrix[:, None] @ near.flatten(2, 3).flatten(3)).unflatten(3, z.shape[3:]).unflatten(2, (-1, 4))
