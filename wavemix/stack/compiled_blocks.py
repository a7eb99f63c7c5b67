"""All residual blocks of one-branch networks in one compiled pass, forward and backward (chain.cpp, transposed.cpp).

A block adds y = BatchNorm(up(z)) to its input x. Where up-sampling is interpolation, BatchNorm can come before it
(with the statistics of what it makes of z), and since it is linear and the same in every block, the map before block d
is x + up(s), s being the sum of the small BatchNorm(z) of the blocks before. So no block reads or writes a full-size
map (chain.cpp), and the last map, of which the classifier wants the means alone, is never made. What is kept for
backward is x, s and two small maps a block (three with a depthwise convolution before the interpolation), and s is
taken apart again by subtraction. A block whose turn it is on a coarser level (`LiteConfig.cycle`) up-samples to the
size of s in addition.

Transposed convolutions differ from block to block. There z and v = up(z) are kept, and from the map before the last
block on backward rebuilds x from the block's output, x = (x + y) - y (transposed.cpp), as reversible networks do (Gomez
et al., "The Reversible Residual Network", 2017, section 3; here nothing has to be split, because y is known). Rounding
errors of both are those of one addition a block.
"""

import ctypes

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import kernels
from ..config import LiteConfig
from ..kernels import pointer, pointers
from .operations import ACTIVATIONS, EPS, UPSAMPLINGS


def fits_chain(config: LiteConfig, x: Tensor, training: bool) -> bool:
    """Whether `chain` can run the blocks of `config` on x; `training`: with dropout and measured statistics."""
    return one_branch(config, training) and kernels.fit(x)


def one_branch(config: LiteConfig, training: bool) -> bool:
    """Whether a block is one feed-forward between Haar's transform and up-sampling; `training`: with dropout."""
    known = config.level == 1 and config.wavelet == "haar" and not config.projected
    return known and not (training and config.dropout)


def single_level(config: LiteConfig, training: bool) -> bool:
    """Whether a block is also one Haar transform and one up-sampling."""
    return config.deepest == 1 and one_branch(config, training)


def block_parts(config: LiteConfig, affines: list[str]) -> list[list[str]]:
    """The names of every block's parameters in chain.h's order, also of those that it has not; `affines` are those of
    the layers that have its BatchNorm's scale and shift."""
    up = "4.0" if config.upsampling == "depthwise" else "4"
    result = []
    for depth, affine in enumerate(affines):
        block = f"layers.{config.block(depth)}"
        layers = [f"{block}.reduction", *[f"{block}.feedforward.{layer}" for layer in ("0", "3", up)], affine]
        result.append([f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")])
    return result


def offsets(parts: list[list[str]], shapes: dict[str, torch.Size]) -> ctypes.Array:
    """Where each block's parameters begin in a member's row of `flat`, -1 where it has none, as `parts` names them."""
    starts, start = {}, 0
    for name, shape in shapes.items():
        starts[name] = start
        start += shape.numel()
    result = [starts.get(name, -1) for names in parts for name in names]
    return (ctypes.c_long * len(result))(*result)


def chain(
    x: Tensor,
    flat: Tensor,
    config: LiteConfig,
    where: ctypes.Array,
    given: tuple[Tensor, Tensor] | None,
    narrow: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (K, G, C, H, W, LANES) after all blocks, averaged over its pixels to (K, G, C, LANES), and the BatchNorms' mean
    and biased variance, each (D, K, C).

    `flat` (K, P) holds the parameters, `where` their `offsets`. `given` statistics are used instead of the batch's;
    then there is no backward pass. `narrow`: products and maps kept for backward are bfloat16, sums float32.
    """
    blocks = _Interpolated if config.interpolation else _Transposed
    if given is not None or not torch.is_grad_enabled():
        x, flat = x.detach(), flat.detach()  # nothing is kept
    return blocks.apply(x, flat, config, where, narrow, *(given or (None, None)))


class _Interpolated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, flat, config, where, narrow, mean, variance):
        x, flat, given, mean, variance, maps = _begin(ctx, x, flat, config, narrow, mean, variance)
        members, groups, c, height, width, _ = x.shape
        small = c, height // 2, width // 2
        kept = any(ctx.needs_input_grad[:2])
        u, z = maps(*small) if kept else [], maps(*small)
        y = maps(*small) if config.upsampling == "depthwise" else []
        ctx.sizes = (members, groups, c, config.mult * c, height, width, config.depth)
        ctx.sizes += (UPSAMPLINGS[config.interpolation],)
        ctx.sizes += (ACTIVATIONS[config.activation][0], ctypes.c_float(EPS))
        pooled, s = x.new_empty(members, groups, c, x.shape[5]), torch.empty_like(z[0], dtype=x.dtype)
        levels = (ctypes.c_int * config.depth)(*map(config.halvings, range(config.depth)))
        kernels.loaded().chain_forward(
            *map(pointer, (x, pooled, s, flat)), ctypes.c_long(flat.shape[1]), where, levels,
            *_each(config.depth, u, z, y),
            pointer(mean), pointer(variance), *ctx.sizes, int(given), int(narrow),
        )  # fmt: skip
        ctx.where, ctx.levels, ctx.depth, ctx.narrow, ctx.spent = where, levels, config.depth, narrow, False
        if kept:
            ctx.save_for_backward(x, s, flat, mean, variance, *u, *z, *y)
        ctx.mark_non_differentiable(mean, variance)
        return pooled, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, dpooled, _mean, _variance):
        x, s, flat, mean, variance, *maps = ctx.saved_tensors
        if ctx.spent:
            raise RuntimeError("the blocks' backward pass uses up what was kept for it: run the forward pass again")
        ctx.spent = True
        dpooled, depth = dpooled.contiguous(), ctx.depth
        dx, ds, dflat = torch.empty_like(x), torch.empty_like(s), torch.zeros_like(flat)
        kernels.loaded().chain_backward(
            *map(pointer, (x, dpooled, s, dx, ds, flat)), ctypes.c_long(flat.shape[1]), ctx.where, ctx.levels,
            *_each(depth, maps[:depth], maps[depth : 2 * depth], maps[2 * depth :]),
            *map(pointer, (mean, variance, dflat)), *ctx.sizes,
            int(ctx.narrow),
        )  # fmt: skip
        return dx, dflat, None, None, None, None, None


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, flat, config, where, narrow, mean, variance):
        x, flat, given, mean, variance, maps = _begin(ctx, x, flat, config, narrow, mean, variance)
        members, groups, c, height, width, _ = x.shape
        f = config.ff_channel
        z, v = maps(f, height // 2, width // 2), maps(c, height, width)
        ctx.sizes = (members, groups, c, config.mult * c, f, height, width, config.depth)
        ctx.sizes += (ACTIVATIONS[config.activation][0], ctypes.c_float(EPS))
        pooled = x.new_empty(members, groups, c, x.shape[5])
        before = torch.empty_like(x) if config.depth > 1 else x  # the last block
        kernels.loaded().transposed_forward(
            *map(pointer, (x, pooled, before, flat)), ctypes.c_long(flat.shape[1]), where, *_each(config.depth, z, v),
            pointer(mean), pointer(variance), *ctx.sizes, int(given), int(narrow),
        )  # fmt: skip
        ctx.where, ctx.depth, ctx.narrow = where, config.depth, narrow
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(before, flat, mean, variance, *z, *v)
        ctx.mark_non_differentiable(mean, variance)
        return pooled, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, dpooled, _mean, _variance):
        before, flat, mean, variance, *maps = ctx.saved_tensors
        dpooled, z = dpooled.contiguous(), maps[: ctx.depth]
        work, dx, dz, dflat = *map(torch.empty_like, (before, before, z[0])), torch.zeros_like(flat)
        kernels.loaded().transposed_backward(
            *map(pointer, (before, dpooled, work, dx, dz, flat)), ctypes.c_long(flat.shape[1]), ctx.where,
            *_each(ctx.depth, z, maps[ctx.depth :]), *map(pointer, (mean, variance, dflat)), *ctx.sizes,
            int(ctx.narrow),
        )  # fmt: skip
        return dx, dflat, None, None, None, None, None


def _begin(
    ctx, x: Tensor, flat: Tensor, config: LiteConfig, narrow: bool, mean: Tensor | None, variance: Tensor | None
):
    """Contiguous x and flat, whether statistics are given, those or room for them, and what makes maps."""
    x, flat, given = x.contiguous(), flat.contiguous(), mean is not None
    if mean is not None and variance is not None:
        mean, variance = mean.contiguous(), variance.contiguous()
    else:
        mean, variance = (x.new_empty(config.depth, x.shape[0], x.shape[2]) for _ in range(2))
    kept = any(ctx.needs_input_grad[:2])

    def maps(channels: int, h: int, w: int) -> list[Tensor]:
        """One map a block, or the same one for all where there will be no backward pass."""
        shape, dtype = (*x.shape[:2], channels, h, w, x.shape[5]), torch.bfloat16 if narrow else x.dtype
        made = [x.new_empty(shape, dtype=dtype) for _ in range(config.depth if kept else 1)]
        return made * (1 if kept else config.depth)

    return x, flat, given, mean, variance, maps


def _each(depth: int, *kinds: list[Tensor]):
    """The maps of each kind as an array of pointers; null where there are none."""
    return [pointers(maps) if maps else (ctypes.c_void_p * depth)() for maps in kinds]
