"""The memory that a classifier's activations take as C source for microcontrollers (`search.export.c_source`).

In closed form, from shapes alone: what `wavemix export --format c` says is this. Maps are kept channel by channel,
residuals are added in place, and of what is up-sampled no more than three rows are kept, so that the one large buffer
is the map itself. The image, which the caller has, is not among them.
"""

from dataclasses import dataclass

from wavemix.config import LiteConfig


@dataclass(frozen=True)
class First:
    """The stem's first convolution."""

    kernel: int
    stride: int
    pad: int
    out: int
    rows: int
    columns: int


def without_source(config: LiteConfig) -> str | None:
    """What a classifier has that C source has not, in words; None where there is source of it."""
    if config.cycle > 1:
        return "blocks that take turns"
    if config.wavelet != "haar":
        return f"the wavelet {config.wavelet}"
    return None if config.views == "one" else f"several views of an image ({config.views})"


class Buffers:
    """What a network's buffers hold, in numbers of four bytes, for images of `height` x `width` pixels.

    Attributes: `rows`, `columns` and `map`, the numbers, of the map after the stem; `first`, the stem's first
    convolution; `ring` and `lag`, the rows that are kept for up-sampling and how many it is behind; `stages`, the
    buffers of each stage by name.
    """

    def __init__(self, config: LiteConfig, height: int, width: int):
        c, out = config.final_dim, max(config.branch_channels(level)[1] for level in range(1, config.level + 1))
        self.rows, self.columns = config.feature_size(height, width)
        self.map = self.rows * self.columns * c
        self.ring = 1 if config.upsampling == "nearest" else 3
        self.lag = {"nearest": 0, "depthwise": 2}.get(config.upsampling, 1)
        self.first = first(config, height, width)
        stem = {} if config.initial_conv == "single" else {"rows": 3 * self.first.columns * self.first.out}
        if config.initial_conv in ("separable", "patchify"):
            stem["pixel"] = c // 2
        inside = max(config.branch_channels(level)[0] for level in range(1, config.level + 1))
        ring = max(self._ring(config, level) for level in range(1, config.level + 1))
        block = {"ring": ring, "reduced": c, "pixel": inside, "hidden": c * config.mult}
        block |= {"filtered": ring} if config.upsampling == "depthwise" else {}
        block |= {"sum": out} if config.upsampling == "deconv" else {}
        block |= {"middle": config.ff_outputs} if config.projected else {}
        for level in range(1, config.level):
            pixels = self.rows * self.columns // 4**level
            block |= {f"low_{level}": pixels * c // 4, f"coarse_{level}": pixels * c // 2}
        self.stages = {"stem": stem} if stem else {}
        self.stages |= {"blocks": block, "head": {"row": c, "total": c}}

    @property
    def bytes(self) -> int:
        """Of the map and the buffers of the stage that has most; one stage runs at a time."""
        return 4 * (self.map + max(sum(parts.values()) for parts in self.stages.values()))

    def _ring(self, config: LiteConfig, level: int) -> int:
        """The rows of a level that are kept for up-sampling."""
        width = config.ff_outputs if config.upsampling == "deconv" else config.branch_channels(level)[1]
        return self.ring * (self.columns // 2**level) * width


def first(config: LiteConfig, height: int, width: int) -> First:
    """The stem's first convolution of images of `height` x `width` pixels."""
    c, kernel, stride = config.final_dim, 3, config.stride[0]
    out = {"single": c, "patchify": c // 4}.get(config.initial_conv, c // 2)
    if config.initial_conv == "single":
        kernel, stride = config.kernel, config.stride[0] * config.stride[1]
    if config.initial_conv == "patchify":
        stride = 1
    pad = kernel // 2 + config.pad
    rows, columns = ((size + 2 * pad - kernel) // stride + 1 for size in (height, width))
    return First(kernel, stride, pad, out, rows, columns)
