"""The operations of a stack of networks: every feature map is (K, groups, channels, height, width, LANES).

K members of one shape, each with its own weights (K, ...); the last axis is LANES images of one group. Each operation
runs as a kernel of operations.cpp where it can (CPU, single precision) and as plain PyTorch everywhere else; both
compute the same function, forward and gradients.
"""

import ctypes
import functools
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import kernels
from ..dwt import analysis_matrix
from ..kernels import LANES, pointer, pointers

EPS = 1e-5  # of nn.BatchNorm2d
ACTIVATIONS = {"gelu": (0, F.gelu), "relu": (1, F.relu), "silu": (2, F.silu)}
UPSAMPLINGS = {"none": 0, "nearest": 1, "bilinear": 2}


def fused(function, x: Tensor):
    """`function`, compiled where it trains on a GPU: what goes through memory between its operations is what costs."""
    return _compiled(function) if x.is_cuda and torch.is_grad_enabled() else function


@functools.cache
def _compiled(function):
    """Compiled by torch.compile, which needs Triton, a C compiler and Python's headers; as it is without them."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    able = importlib.util.find_spec("triton") and any(map(shutil.which, ("cc", "gcc", "clang"))) and headers.exists()
    if not able:
        return function
    # what is compiled is kept and executed later: not in the directory for temporary files, where others can put it
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kernels.kernel_dir() / "inductor"))
    return torch.compile(function, dynamic=False)


def wide(values: Tensor, groups: int, places: int = 3) -> Tensor:
    """values (K, C) for maps (K, groups, C, *places). The gradient is summed over places, then over groups: sums over
    both at once are too few for a GPU to be busy."""
    return values[:, None].expand(-1, groups, -1)[(..., *[None] * places)]


# --- Convolution -----------------------------------------------------------------------------------------------


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, depthwise=False, narrow=False
) -> Tensor:
    """x (K or 1, G, I, H, W, LANES), weight (K, O, I or 1, k, k), bias (K, O) -> (K, G, O, h, w, LANES).

    `narrow`: products of an ordinary convolution with even numbers of channels are bfloat16, sums float32.
    """
    if kernels.fit(x):
        return _Convolution.apply(x, weight, bias, stride, padding, depthwise, narrow)
    return fused(plain_convolution, x)(x, weight, bias, stride, padding, depthwise)


def plain_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, depthwise: bool = False
) -> Tensor:
    k = weight.shape[-1]
    x = F.pad(x, (0, 0, padding, padding, padding, padding))
    h, w = ((size - k) // stride + 1 for size in x.shape[3:5])
    taps = [
        x[:, :, :, i : i + stride * (h - 1) + 1 : stride, j : j + stride * (w - 1) + 1 : stride]
        for i in range(k)
        for j in range(k)
    ]
    if depthwise:
        y, *rest = [tap * wide(weight.flatten(2)[:, :, t], x.shape[1]) for t, tap in enumerate(taps)]
        for product in rest:
            y = y + product
    else:
        columns = torch.stack(taps, 3).flatten(4).flatten(2, 3)  # (K, G, I*k*k, h*w*LANES)
        y = (weight.flatten(2)[:, None] @ columns).unflatten(3, (h, w, x.shape[-1]))
    return y if bias is None else y + wide(bias, y.shape[1])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, depthwise, narrow):
        x, weight = x.contiguous(), weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        members, out, k = weight.shape[0], weight.shape[1], weight.shape[-1]
        one, groups, channels, height, width, _ = x.shape
        h, w = (height + 2 * padding - k) // stride + 1, (width + 2 * padding - k) // stride + 1
        shared = int(one == 1 and members > 1)
        ctx.shape = (members, groups, channels, height, width, out, k, stride, padding, int(depthwise), int(narrow))
        ctx.shared = shared
        y = x.new_empty(members, groups, out, h, w, LANES)
        kernels.loaded().conv_forward(pointer(x), shared, pointer(weight), pointer(bias), pointer(y), *ctx.shape)
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, bias = ctx.saved_tensors
        dy = dy.contiguous()
        need_x = ctx.needs_input_grad[0]
        if need_x and ctx.shared:
            raise RuntimeError("images shared between members have no gradient")
        dx = torch.empty_like(x) if need_x else None
        dweight = torch.empty_like(weight)
        dbias = None if bias is None else torch.empty_like(bias)
        kernels.loaded().conv_backward(
            pointer(x), ctx.shared, pointer(weight), pointer(dy), pointer(dx), pointer(dweight), pointer(dbias),
            *ctx.shape,
        )  # fmt: skip
        return dx, dweight, dbias, None, None, None, None


# --- Transposed convolution 4x4, stride 2, padding 1 -------------------------------------------------------------


def deconvolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (K, G, F, h, w, LANES), weight (K, F, O, 4, 4) -> (K, G, O, 2h, 2w, LANES)."""
    if kernels.fit(x):
        y = _Deconvolution.apply(x, weight)
    else:
        y = plain_deconvolution(x, weight)
    return y if bias is None else y + wide(bias, y.shape[1])


def plain_deconvolution(x, weight):
    members, groups, _, h, w, lanes = x.shape
    out = weight.shape[2]
    taps = weight.flatten(2).transpose(1, 2)[:, None] @ x.flatten(3)
    taps = taps.view(members, groups, out, 4, 4, h, w, lanes)
    padded = x.new_zeros(members, groups, out, 2 * h + 2, 2 * w + 2, lanes)
    for i in range(4):
        for j in range(4):
            padded[:, :, :, i : i + 2 * h : 2, j : j + 2 * w : 2] += taps[:, :, :, i, j]
    return padded[:, :, :, 1:-1, 1:-1]


class _Deconvolution(torch.autograd.Function):
    """The transpose of `_Convolution`: its forward is the other's input gradient, and the other way round."""

    @staticmethod
    def forward(ctx, x, weight):
        x, weight = x.contiguous(), weight.contiguous()
        members, groups, channels, h, w, _ = x.shape
        out = weight.shape[2]
        ctx.shape = (members, groups, out, 2 * h, 2 * w, channels, 4, 2, 1, 0, 0)
        y = x.new_empty(members, groups, out, 2 * h, 2 * w, LANES)
        none = pointer(None)
        kernels.loaded().conv_backward(none, 0, pointer(weight), pointer(x), pointer(y), none, none, *ctx.shape)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        dx, dweight, none = torch.empty_like(x), torch.empty_like(weight), pointer(None)
        kernels.loaded().conv_forward(pointer(dy), 0, pointer(weight), none, pointer(dx), *ctx.shape)
        kernels.loaded().conv_backward(
            pointer(dy), 0, pointer(weight), pointer(x), none, pointer(dweight), none, *ctx.shape
        )
        return dx, dweight


# --- Reduction and Haar pyramid ----------------------------------------------------------------------------------


def down(x: Tensor, weight: Tensor, bias: Tensor | None, levels: int) -> tuple[Tensor, ...]:
    """1x1 reduction (K, R, C) of x (K, G, C, H, W, LANES), then `levels` Haar transforms, finest first.

    Bands: (K, G, 4R, H/2^l, W/2^l, LANES); LL of every channel, then LH, HL, HH channel by channel (upstream's order).
    """
    if kernels.fit(x):
        return _Down.apply(x, weight, bias, levels)
    return plain_down(x, weight, bias, levels, plain_haar)


def plain_haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (K, G, R, H, W, LANES) -> LL (K, G, R, H/2, W/2, LANES) and details (K, G, 3R, H/2, W/2, LANES)."""
    top, bottom = x[:, :, :, 0::2], x[:, :, :, 1::2]
    rows = torch.stack([top + bottom, top - bottom], 3) * 0.5
    left, right = rows[..., 0::2, :], rows[..., 1::2, :]
    low, high = left + right, left - right  # (K, G, R, 2, h, w, LANES): sum of rows, difference of rows
    details = torch.stack([low[:, :, :, 1], high[:, :, :, 0], high[:, :, :, 1]], 3)
    return low[:, :, :, 0], details.flatten(2, 3)


def matrix_wavelet(name: str, height: int, width: int, like: Tensor):
    """The transform of any other wavelet as two small matrices, one along the height and one along the width."""
    rows, columns = (analysis_matrix(name, size).to(like) for size in (height, width))

    def transform(x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.einsum("ph,kgchwn,qw->kgcpqn", rows, x, columns)
        h, w = height // 2, width // 2
        details = torch.stack([y[:, :, :, h:, :w], y[:, :, :, :h, w:], y[:, :, :, h:, w:]], 3)
        return y[:, :, :, :h, :w], details.flatten(2, 3)

    return transform


def plain_down(x, weight, bias, levels, transform):
    low = plain_convolution(x, weight, bias, 1, 0)
    bands = []
    for _ in range(levels):
        low, details = transform(low)
        bands.append(torch.cat([low, details], 2))
    return tuple(bands)


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, levels):
        x, weight = x.contiguous(), weight.contiguous()
        members, groups, channels, height, width, _ = x.shape
        reduced = weight.shape[1]
        ctx.shape = (members, groups, channels, reduced, height, width, levels)
        bands = [
            x.new_empty(members, groups, 4 * reduced, height >> level, width >> level, LANES)
            for level in range(1, levels + 1)
        ]
        bias = None if bias is None else bias.contiguous()
        kernels.loaded().down_forward(pointer(x), pointer(weight), pointer(bias), pointers(bands), *ctx.shape)
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return tuple(bands)

    @staticmethod
    @once_differentiable
    def backward(ctx, *dbands):
        x, weight = ctx.saved_tensors
        dbands = [band.contiguous() for band in dbands]
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        dbias = weight.new_empty(weight.shape[:2]) if ctx.biased else None
        kernels.loaded().down_backward(
            pointer(x),
            pointer(weight),
            pointers(dbands),
            pointer(dx),
            pointer(dweight),
            pointer(dbias),
            *ctx.shape,
        )
        return dx, dweight, dbias, None


# --- Feed-forward ------------------------------------------------------------------------------------------------


def feedforward(u: Tensor, w1, b1, w2, b2, activation: str, dropout: float = 0.0) -> Tensor:
    """1x1 (C -> M), activation, dropout, 1x1 (M -> F) of u (K, G, C, h, w, LANES)."""
    if kernels.fit(u) and not dropout:
        return _FeedForward.apply(u, w1, b1, w2, b2, ACTIVATIONS[activation][0])
    hidden = ACTIVATIONS[activation][1](plain_convolution(u, w1, b1, 1, 0))
    return plain_convolution(F.dropout(hidden, dropout) if dropout else hidden, w2, b2, 1, 0)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, w1, b1, w2, b2, activation):
        u, w1, b1, w2 = u.contiguous(), w1.contiguous(), b1.contiguous(), w2.contiguous()
        b2 = None if b2 is None else b2.contiguous()
        members, groups, channels, h, w, _ = u.shape
        ctx.shape = (members, groups, channels, w1.shape[1], w2.shape[1])
        ctx.rest = (ctypes.c_long(h * w), activation)
        z = u.new_empty(members, groups, w2.shape[1], h, w, LANES)
        kernels.loaded().mlp_forward(*map(pointer, (u, w1, b1, w2, b2, z)), *ctx.shape, *ctx.rest)
        ctx.save_for_backward(u, w1, b1, w2)
        ctx.biased = b2 is not None
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, dz):
        u, w1, b1, w2 = ctx.saved_tensors
        dz = dz.contiguous()
        du, dw1, db1, dw2 = map(torch.empty_like, (u, w1, b1, w2))
        db2 = w2.new_empty(w2.shape[:2]) if ctx.biased else None
        kernels.loaded().mlp_backward(*map(pointer, (u, w1, b1, w2, dz, du, dw1, db1, dw2, db2)), *ctx.shape, *ctx.rest)
        return du, dw1, db1, dw2, db2, None


# --- Up-sampling, BatchNorm, residual ------------------------------------------------------------------------------


def norm_up(z: Tensor, base: Tensor | None, gamma, beta, up: str, given: tuple[Tensor, Tensor] | None):
    """base + BatchNorm(up-sampled z), and the batch's (mean, biased variance), each (K, F).

    z (K, G, F, h, w, LANES). `given` statistics are used instead of the batch's (evaluation).
    """
    if kernels.fit(z) and not (given and torch.is_grad_enabled()):
        mean, variance = given or (None, None)
        out, mean, variance = _NormUp.apply(z, base, gamma, beta, mean, variance, UPSAMPLINGS[up])
        return out, (mean, variance)
    return plain_norm_up(z, base, gamma, beta, up, given)


def plain_norm_up(z, base, gamma, beta, up, given):
    # Nearest up-sampling commutes with BatchNorm: the statistics of four copies are those of one.
    if up == "bilinear":
        z = doubled(z, up)
    mean, variance = given or (z.mean((1, 3, 4, 5)), z.var((1, 3, 4, 5), correction=0))
    scale = gamma * torch.rsqrt(variance + EPS)
    shift = beta - mean * scale
    y = z * wide(scale, z.shape[1]) + wide(shift, z.shape[1])
    if up == "nearest":
        y = doubled(y, up)
    return y if base is None else base + y, (mean.detach(), variance.detach())


def doubled(z: Tensor, up: str) -> Tensor:
    """z (K, G, F, h, w, LANES) with twice the height and width, `nearest` or `bilinear`."""
    return plain_bilinear(z) if up == "bilinear" else z.repeat_interleave(2, 3).repeat_interleave(2, 4)


def neighbours(z: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The map moved by one place to either side along an axis, its border repeated."""
    size = z.shape[axis]
    before = torch.cat([z.narrow(axis, 0, 1), z.narrow(axis, 0, size - 1)], axis)
    return before, torch.cat([z.narrow(axis, 1, size - 1), z.narrow(axis, size - 1, 1)], axis)


def plain_bilinear(z: Tensor) -> Tensor:
    """Doubles height and width as torch's bilinear up-sampling does with align_corners=False."""
    for axis in (3, 4):
        before, after = neighbours(z, axis)
        pair = torch.stack([0.75 * z + 0.25 * before, 0.75 * z + 0.25 * after], axis + 1)
        z = pair.flatten(axis, axis + 1)
    return z


class _NormUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, base, gamma, beta, mean, variance, up):
        z, gamma, beta = z.contiguous(), gamma.contiguous(), beta.contiguous()
        members, groups, channels, h, w, _ = z.shape
        given = int(mean is not None)
        mean = mean.contiguous() if given else torch.empty_like(gamma)
        variance = variance.contiguous() if given else torch.empty_like(gamma)
        factor = 1 if up == 0 else 2
        out = z.new_empty(members, groups, channels, factor * h, factor * w, LANES)
        base = None if base is None else base.contiguous()
        ctx.shape = (members, groups, channels, h, w, up, ctypes.c_float(EPS))
        kernels.loaded().norm_up_forward(*map(pointer, (z, base, gamma, beta, out, mean, variance)), *ctx.shape, given)
        ctx.save_for_backward(z, gamma, mean, variance)
        ctx.residual = base is not None
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, _mean, _variance):
        z, gamma, mean, variance = ctx.saved_tensors
        dz, dgamma, dbeta = torch.empty_like(z), torch.empty_like(gamma), torch.empty_like(gamma)
        dout = dout.contiguous()
        kernels.loaded().norm_up_backward(
            *map(pointer, (z, dout, gamma, mean, variance, dz, dgamma, dbeta)), *ctx.shape
        )
        return dz, dout if ctx.residual else None, dgamma, dbeta, None, None, None
