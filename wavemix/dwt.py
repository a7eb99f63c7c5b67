"""The 2-D discrete wavelet transform: Haar by butterflies, every other wavelet through pytorch_wavelets.

On a CPU with a C++ compiler Haar runs as one compiled pass over the image (haar.cpp).

Band order is that of pytorch_wavelets (and of upstream): for each channel LH (differences between rows), HL
(differences between columns), HH (both).
"""

import ctypes
import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pywt
import torch
from torch import Tensor

from . import kernels
from .kernels import pointer
from .torch_internals import watched

KERNELS = {torch.float32: "", torch.float64: "_double", torch.bfloat16: ""}
_plain = ContextVar("plain", default=False)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, the transform runs as plain PyTorch: for results that owe nothing to the kernels."""
    before = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(before)


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform (Mallat, "A Wavelet Tour of Signal Processing", 7.7).

    x (N, C, H, W), even H and W, any floating dtype -> low (N, C, H/2, W/2) and details (N, 3C, H/2, W/2): LH, HL, HH
    of the first channel, then of the second, ... Raises ValueError for odd sizes.
    """
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"the Haar transform halves height and width: {height}x{width} is odd, pad the image first")
    if _compiled(x):
        if x.dtype == torch.bfloat16:  # processors have no sums of it: what is kept is rounded once, at the end
            low, details = _Haar.apply(x.float())
            return low.bfloat16(), details.bfloat16()
        return _Haar.apply(x)
    return plain_haar(x)


def plain_haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """`haar` in PyTorch."""
    top, bottom = x[..., 0::2, :], x[..., 1::2, :]
    rows, across = top + bottom, top - bottom
    low = (rows[..., 0::2] + rows[..., 1::2]) * 0.5
    lh = (across[..., 0::2] + across[..., 1::2]) * 0.5
    hl = (rows[..., 0::2] - rows[..., 1::2]) * 0.5
    hh = (across[..., 0::2] - across[..., 1::2]) * 0.5
    return low, torch.stack([lh, hl, hh], 2).flatten(1, 2)


def _compiled(x: Tensor) -> bool:
    """Whether the kernels transform x: on a CPU, in a type they know, not `uncompiled`, and watched by nothing that
    needs operators (tracing, compiling, functional transforms, tensors that only look like ones)."""
    plain = x.device.type == "cpu" and x.dtype in KERNELS and type(x) in (Tensor, torch.nn.Parameter)
    # `watched` first: torch.compile can't follow a context variable
    return plain and not watched() and not _plain.get() and kernels.library() is not None


class _Haar(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        n, c, height, width = x.shape
        half = height // 2, width // 2
        low, details = x.new_empty(n, c, *half), x.new_empty(n, 3 * c, *half)
        ctx.sizes = tuple(map(ctypes.c_long, (n * c, height, width)))
        transform = getattr(kernels.threaded(), f"haar_forward{KERNELS[x.dtype]}")
        transform(pointer(x), pointer(low), pointer(details), *ctx.sizes)
        return low, details

    @staticmethod
    def backward(ctx, low: Tensor, details: Tensor) -> Tensor:
        return inverse_haar(low, details)  # the transform is orthonormal


def inverse_haar(low: Tensor, details: Tensor) -> Tensor:
    """The inverse of `haar`: low (N, C, h, w) and details (N, 3C, h, w) -> (N, C, 2h, 2w).

    Raises ValueError where the shapes do not go together.
    """
    n, c, height, width = low.shape
    if details.shape != (n, 3 * c, height, width):
        raise ValueError(
            f"details of low {tuple(low.shape)} are {(n, 3 * c, height, width)}, not {tuple(details.shape)}"
        )
    if _compiled(low) and _compiled(details) and details.dtype == low.dtype:
        if low.dtype == torch.bfloat16:
            return _InverseHaar.apply(low.float(), details.float()).bfloat16()
        return _InverseHaar.apply(low, details)
    return plain_inverse_haar(low, details)


def plain_inverse_haar(low: Tensor, details: Tensor) -> Tensor:
    """`inverse_haar` in PyTorch."""
    c = low.shape[1]
    lh, hl, hh = details.unflatten(1, (c, 3)).unbind(2)
    top = torch.stack([low + lh + hl + hh, low + lh - hl - hh], -1).flatten(-2)
    bottom = torch.stack([low - lh + hl - hh, low - lh - hl + hh], -1).flatten(-2)
    return torch.stack([top, bottom], -2).flatten(-3, -2) * 0.5


class _HaarLast(torch.autograd.Function):
    """Of x (N, C, H, W) whose channels lie innermost, all bands (N, 4C, H/2, W/2) laid out alike."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        bands = x.new_empty(n, height // 2, width // 2, 4 * c).permute(0, 3, 1, 2)
        transform = getattr(kernels.threaded(), f"haar_last_forward{KERNELS[x.dtype]}")
        transform(pointer(x), pointer(bands), *map(ctypes.c_long, (n, height, width, c, x.stride(3))))
        return bands

    @staticmethod
    def backward(ctx, bands: Tensor) -> Tensor:
        return _InverseHaarLast.apply(bands)


class _InverseHaarLast(torch.autograd.Function):
    @staticmethod
    def forward(ctx, bands: Tensor) -> Tensor:
        bands = bands.contiguous(memory_format=torch.channels_last)
        n, c, height, width = bands.shape
        x = bands.new_empty(n, 2 * height, 2 * width, c // 4).permute(0, 3, 1, 2)
        adjoint = getattr(kernels.threaded(), f"haar_last_adjoint{KERNELS[bands.dtype]}")
        adjoint(pointer(bands), pointer(x), *map(ctypes.c_long, (n, 2 * height, 2 * width, c // 4)))
        return x

    @staticmethod
    def backward(ctx, x: Tensor) -> Tensor:
        return _HaarLast.apply(x.contiguous(memory_format=torch.channels_last))


def _innermost(x: Tensor) -> bool:
    """Whether channels lie innermost, rows and images one after the other: pixels may lie apart, as after a slice."""
    apart, (_, c, height, width) = x.stride(3), x.shape
    kept = x.dtype != torch.bfloat16 or apart == c  # else `float` would lay them out anew
    return c > 1 and apart >= c and kept and x.stride() == (height * width * apart, 1, width * apart, apart)


class _InverseHaar(torch.autograd.Function):
    @staticmethod
    def forward(ctx, low: Tensor, details: Tensor) -> Tensor:
        low, details = low.contiguous(), details.contiguous()
        n, c, height, width = low.shape
        x = low.new_empty(n, c, 2 * height, 2 * width)
        adjoint = getattr(kernels.threaded(), f"haar_adjoint{KERNELS[low.dtype]}")
        adjoint(pointer(low), pointer(details), pointer(x), *map(ctypes.c_long, (n * c, 2 * height, 2 * width)))
        return x

    @staticmethod
    def backward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:
        return haar(x)


def transform2d(x: Tensor, wavelet: str = "haar", mode: str = "periodization") -> tuple[Tensor, Tensor]:
    """One level of any discrete wavelet: x (N, C, H, W) -> low (N, C, h, w), details (N, 3C, h, w).

    With `periodization` (the default, used by the networks) h = H/2 for every wavelet; `zero` is pytorch_wavelets'
    default, where filters longer than 2 give (H + length - 1) // 2. Haar needs neither.
    """
    if wavelet in ("haar", "db1") and not (x.shape[-2] % 2 or x.shape[-1] % 2):
        return haar(x)
    low, (details,) = _forward(wavelet, mode, x.dtype, x.device)(x)
    return low, details.flatten(1, 2)


def pyramid(x: Tensor, levels: int, wavelet: str = "haar", mode: str = "periodization") -> list[Tensor]:
    """All bands of `levels` levels, finest first: x (N, C, H, W) -> at level l (N, 4C, H / 2**l, W / 2**l), low first.

    Each level transforms the low band of the one before it (Mallat's pyramid algorithm). Low bands are at every level
    because the networks use them; `inverse_haar` needs the coarsest alone. On a CPU Haar's bands are laid out as x is.
    """
    bands = []
    even = not (x.shape[-2] % 2**levels or x.shape[-1] % 2**levels)
    if wavelet in ("haar", "db1") and even and _compiled(x) and _innermost(x):
        dtype, x = x.dtype, x.float() if x.dtype == torch.bfloat16 else x  # rounded once, as `haar`'s are
        for _ in range(levels):
            bands.append(_HaarLast.apply(x))
            x = bands[-1][:, : x.shape[1]]
        return [band.to(dtype) for band in bands]
    for _ in range(levels):
        x, details = transform2d(x, wavelet, mode)
        bands.append(torch.cat([x, details], 1))
    return bands


@functools.cache
def _forward(wavelet: str, mode: str, dtype: torch.dtype, device: torch.device):
    # imported here: it takes a second, and networks with Haar never need it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources, which warns of its own retirement
        from pytorch_wavelets import DWTForward

    taps = pywt.Wavelet(wavelet)  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without a stub
    # an inference tensor in this cache would break the next training step that finds it
    with torch.inference_mode(False):
        module = DWTForward(J=1, wave=taps, mode=mode).to(device, dtype)
        # it rounds its filters to the default dtype: give float64 the exact ones
        for name, values in (("h0", taps.dec_lo), ("h1", taps.dec_hi)):
            for filters in (getattr(module, f"{name}_row"), getattr(module, f"{name}_col")):
                filters.copy_(torch.tensor(values[::-1], dtype=torch.float64).view_as(filters))
    return module


@functools.cache
def analysis_matrix(wavelet: str, size: int) -> Tensor:
    """(size, size) matrix of one level of a 1-D periodized transform: low coefficients first, then high."""
    # constant along a width that no filter wraps around: there the low pass is a factor sqrt(2)
    with torch.inference_mode(False):  # as above
        basis = torch.eye(size, dtype=torch.float64)[:, None, :, None].expand(-1, -1, -1, 256)
        low, details = transform2d(basis.contiguous(), wavelet)
        return torch.cat([low[:, 0, :, 64], details[:, 0, :, 64]], 1).T / 2**0.5
