"""Parameter counts of upstream's networks in closed form, from the arguments of their constructors.

Each function takes all arguments of its network by name, also those that change nothing in the count.
`registry.count` fills in defaults.
"""

from .blocks import pair
from .config import LiteConfig


def convolution(inside: int, out: int, kernel: int = 1) -> int:
    """A kernel x kernel convolution with biases; one of a transposed convolution is the same."""
    return kernel**2 * inside * out + out


def classifier(*, num_classes: int, final_dim: int, **rest) -> int:
    """`classification.WaveMix`."""
    return _stem(final_dim, **rest) + _waveblocks(final_dim, **rest) + convolution(final_dim, num_classes)


def cityscapes(*, num_classes: int, final_dim: int, widths: tuple[int, int], **rest) -> int:
    """`cityscapes.WaveMix`."""
    head = _dense((final_dim, *widths), num_classes)
    return _stem(final_dim, **rest) + _waveblocks(final_dim, **rest) + head


def segmentation(*, num_classes: int, final_dim: int, **rest) -> int:
    """`SemSegment.WaveMix`."""
    head = _dense((final_dim, final_dim // 2, final_dim // 4), num_classes)
    return _strided(3, final_dim) + _waveblocks(final_dim, **rest) + head


def doubling(*, final_dim: int, **rest) -> int:
    """`sisr.WaveMix`."""
    return _strided(3, final_dim) + _waveblocks(final_dim, **rest) + _dense((final_dim, final_dim // 2), 3)


def v3(*, num_classes: int, depth: int, mult: int, final_dim: int, **rest) -> int:
    """`v3.WaveMix`."""
    c = final_dim
    block = convolution(c, c // 4) + convolution(c, mult * c) + convolution(mult * c // 4, c, 3) + 2 * c
    return _stem(c, **rest) + depth * block + convolution(c, num_classes)


def wavemixsr(*, final_dim: int, **rest) -> int:
    """`wavemixsr.WaveMixSR`: the convolutions before and after its blocks, and its blocks."""
    return _luma_path(final_dim) + _waveblocks(final_dim, level=1, **rest)


def wavemixsr_v2(*, sr: int, blocks: int, mult: int, final_dim: int, **_) -> int:
    """`wavemixsr.WaveMixSRV2`."""
    c = final_dim
    expanded = convolution(c, mult * c) + convolution(mult * c, 4 * c)
    block = convolution(c, c // 4) + expanded + convolution(c, c, 3) + 2 * c
    return (sr.bit_length() - 1) * (_luma_path(c) + blocks * block)


def _waveblocks(final_dim: int, *, depth: int, level: int, mult: int, ff_channel: int, **_) -> int:
    config = LiteConfig(
        final_dim=final_dim, depth=depth, level=level, mult=mult, ff_channel=ff_channel, upsampling="deconv"
    )
    return config.parameter_breakdown()["blocks"]


def _strided(channels: int, c: int) -> int:
    return convolution(channels, c // 2, 3) + convolution(c // 2, c, 3)


def _stem(c: int, *, initial_conv: str, patch_size: int | tuple[int, int], **_) -> int:
    if initial_conv == "strided":
        return _strided(3, c)
    height, width = pair(patch_size)
    patches = height * width * (c // 2) * c + c
    return convolution(3, c // 4, 3) + convolution(c // 4, c // 2, 3) + patches + 2 * c


def _dense(widths: tuple[int, ...], outputs: int) -> int:
    """4x4 transposed convolutions along `widths`, then a 1x1 convolution."""
    return sum(convolution(a, b, 4) for a, b in zip(widths, widths[1:])) + convolution(widths[-1], outputs)


def _luma_path(c: int) -> int:
    """The convolutions of `LumaDoubling` before and after its blocks."""
    return _strided(1, c) + convolution(c, c // 2, 3) + convolution(c // 2, 1)
