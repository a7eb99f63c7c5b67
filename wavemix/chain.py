"""All residual blocks of level-1 networks in one compiled pass, forward and backward (chain.cpp).

A block adds y = BatchNorm(up(z)) to its input x, and z (with transposed convolutions v = up(z)) is far smaller than
what autograd would keep. So backward keeps z and rebuilds x from the block's output, x = (x + y) - y, as reversible
networks do (Gomez et al., "The Reversible Residual Network", 2017, section 3; here nothing has to be split, because y
is known from z). Rounding errors of this are those of one addition a block.
"""

import ctypes

import torch
from torch import Tensor

from . import kernels
from .config import LiteConfig
from .kernels import pointer, pointers
from .operations import ACTIVATIONS, EPS, UPSAMPLINGS

UP = UPSAMPLINGS | {"deconv": 3}
BRANCH = [f"feedforward.{index}.{kind}" for index in (0, 3, 4) for kind in ("weight", "bias")]


def fits_chain(config: LiteConfig, x: Tensor, training: bool) -> bool:
    """Whether `chain` can run the blocks of `config` on x; `training`: with dropout and measured statistics."""
    known = config.level == 1 and config.wavelet == "haar" and not config.projected
    return known and not (training and config.dropout) and kernels.fit(x)


def offsets(config: LiteConfig, shapes: dict[str, torch.Size], norms: list[str]) -> ctypes.Array:
    """Where each block's parameters begin in a member's row of `flat`, -1 where it has none; in chain.cpp's order."""
    starts, start = {}, 0
    for name, shape in shapes.items():
        starts[name] = start
        start += shape.numel()
    result = []
    for depth, norm in enumerate(norms):
        block = "block" if config.shared else f"layers.{depth}"
        names = [f"{block}.{name}" for name in ("reduction.weight", "reduction.bias", *BRANCH)]
        result += [starts.get(name, -1) for name in (*names, f"{norm}.weight", f"{norm}.bias")]
    return (ctypes.c_long * len(result))(*result)


def chain(
    x: Tensor, flat: Tensor, config: LiteConfig, where: ctypes.Array, given: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """x (K, G, C, H, W, LANES) after all blocks, and the BatchNorms' mean and biased variance, each (D, K, C).

    `flat` (K, P) holds the parameters, `where` their `offsets`. `given` statistics are used instead of the batch's;
    then there is no backward pass.
    """
    if given is not None:
        with torch.no_grad():
            return _Chain.apply(x, flat, config, where, *given)
    return _Chain.apply(x, flat, config, where, None, None)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, flat, config, where, mean, variance):
        x, flat = x.contiguous(), flat.contiguous()
        members, groups, c, height, width, lanes = x.shape
        given, deconv = mean is not None, config.upsampling == "deconv"
        kept = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        depth, f = config.depth, config.ff_channel if deconv else c
        if given:
            mean, variance = mean.contiguous(), variance.contiguous()
        else:
            mean, variance = (x.new_empty(depth, members, c) for _ in range(2))

        def maps(channels: int, h: int, w: int) -> list[Tensor]:
            """One map a block, or the same one for all where there will be no backward pass."""
            made = [x.new_empty(members, groups, channels, h, w, lanes) for _ in range(depth if kept else 1)]
            return made * (1 if kept else depth)

        half = height // 2, width // 2
        z, v = maps(f, *half), maps(c, height, width) if deconv else []
        # beside transposed convolutions the reduction is cheap to compute again
        u = [] if deconv or not kept else maps(c, *half)
        ctx.sizes = (members, groups, c, config.mult * c, f, height, width, depth, UP[config.upsampling])
        ctx.sizes += (ACTIVATIONS[config.activation][0], ctypes.c_float(EPS))
        out = torch.empty_like(x)
        kernels.library().chain_forward(
            pointer(x), pointer(out), pointer(flat), ctypes.c_long(flat.shape[1]), where, *_each(depth, u, z, v),
            pointer(mean), pointer(variance), *ctx.sizes, int(given),
        )  # fmt: skip
        ctx.where, ctx.depth = where, depth
        if kept:
            ctx.save_for_backward(out, flat, mean, variance, *u, *z, *v)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    def backward(ctx, dout, _mean, _variance):
        out, flat, mean, variance, *maps = ctx.saved_tensors
        dout, depth = dout.contiguous(), ctx.depth
        v = maps[depth:] if ctx.sizes[8] == UP["deconv"] else []
        u, z = ([], maps[:depth]) if v else (maps[:depth], maps[depth:])
        work, dx, dz, dflat = map(torch.empty_like, (out, out, z[0], flat))
        kernels.library().chain_backward(
            *map(pointer, (out, dout, work, dx, dz, flat)), ctypes.c_long(flat.shape[1]), ctx.where,
            *_each(depth, u, z, v), pointer(mean), pointer(variance), pointer(dflat.zero_()), *ctx.sizes,
        )  # fmt: skip
        return dx, dflat, None, None, None, None


def _each(depth: int, *kinds: list[Tensor]):
    """The maps of each kind as an array of pointers; null where there are none."""
    return [pointers(maps) if maps else (ctypes.c_void_p * depth)() for maps in kinds]
