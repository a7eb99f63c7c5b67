"""The configuration of a WaveMix-Lite network: validated, and its parameter count in closed form."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator
from pywt import Wavelet, wavelist  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without a stub

from .head_config import AnyHead, ClassificationHead, DenseHead, SuperResolutionHead

Views = Literal["one", "mirror", "shifts", "eight"]
COUNTS: dict[Views, int] = {"one": 1, "mirror": 2, "shifts": 4, "eight": 8}  # how many views these are


class LiteConfig(BaseModel, frozen=True):
    """A WaveMix-Lite network (Jeevan et al., "WaveMix: A Resource-efficient Neural Network for Image Analysis",
    arXiv 2205.14375, section 3). Hyperparameter names are those of the PyPI package `wavemix`.

    The published family uses upstream's hyperparameters, plus the parameter-free up-sampling its README mentions
    (`nearest`, `bilinear`), plus unequal strides and zero padding of the image. The extended family adds the
    `single` and `separable` stems, blocks shared across depth, BatchNorms that share a scale and a shift (each keeps
    its own statistics, which are no trainable parameters), biases dropped where another one absorbs them,
    other activations and wavelets, an activation in the stem, `depthwise` up-sampling, a projection where F != C meets
    an interpolating one, outputs averaged over several views of an image (`wavemix.views`), and for tasks on pixels a
    scale and a shift in place of BatchNorm.
    `depthwise` is a depthwise 3x3 convolution and bilinear interpolation, in this order because it is a quarter of the
    work (the other one: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016).

    `head` is the task's part of it, by default a classifier's. It is one hyperparameter of one class, since stem and
    blocks are the same for all tasks and whatever searches or trains networks then needs no cases; JSON is without it
    where it is the default, and so classifiers are written as they were before there were other heads.

    Raises pydantic's ValidationError (a ValueError) for a hyperparameter out of range.
    """

    model_config = ConfigDict(extra="forbid")

    in_channels: int = Field(default=3, ge=1, description="channels of the image, I")
    num_classes: int = Field(default=10, ge=2, description="classes, K; super-resolution has none")
    final_dim: int = Field(default=64, ge=4, multiple_of=4, description="embedding channels, C")
    depth: int = Field(default=6, ge=1, description="blocks, D")
    mult: int = Field(default=2, ge=1, description="expansion of the feed-forward, m")
    ff_channel: int | None = Field(default=None, ge=1, description="feed-forward outputs, F; None means C")
    level: int = Field(default=1, ge=1, le=4, description="levels of the wavelet transform")
    cycle: int = Field(
        default=1,
        ge=1,
        le=4,
        description="levels that blocks of one level take turns in: depth d halves its map 1 + d mod cycle times",
    )
    upsampling: Literal["nearest", "bilinear", "deconv", "depthwise"] = "nearest"
    initial_conv: Literal["strided", "patchify", "single", "separable"] = "strided"
    stride: tuple[int, int] = Field(
        default=(1, 1), description="strides of the stem's convolutions; one number means both"
    )
    kernel: Literal[3, 5, 7] = Field(default=3, description="kernel size of the `single` stem")
    patch_size: int = Field(default=4, ge=1, description="patch edge of the `patchify` stem, pixels")
    pad: int = Field(
        default=0, ge=0, le=8, description="zeros added on each side of the image by the first convolution"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    shared: int = Field(
        default=0,
        ge=0,
        description="so many blocks' convolutions used in turn, D times in all; each depth its own BatchNorms",
    )
    affine: Literal["depth", "block", "one"] = Field(
        default="depth",
        description="whose scale and shift a BatchNorm has: its depth's, its block's, or one for all depths",
    )
    bias: Literal["all", "needed"] = Field(
        default="all",
        description="'needed' drops biases that another one absorbs, and that of a shared block's reduction where the "
        "block is on several levels, each of which would want another",
    )
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    stem_activation: bool = Field(default=False, description="whether one follows the stem's first convolution")
    norm: Literal["batch", "scale"] = Field(
        default="batch",
        description="what ends a block's branch: BatchNorm, or (not of classifiers) its scale and shift alone",
    )
    wavelet: str = Field(default="haar", description="a discrete wavelet's PyWavelets name")
    views: Views = Field(
        default="one",
        description="what a trained network averages its outputs over: the image alone, it and its mirror image, four "
        "places a pixel apart (of classifiers), or all eight flips and quarter turns",
    )
    head: AnyHead = ClassificationHead()

    @field_validator("initial_conv", mode="before")
    @classmethod
    def _spelling(cls, value):
        return "patchify" if value == "pachify" else value  # upstream's spelling

    @field_validator("stride", mode="before")
    @classmethod
    def _both(cls, value):
        return (value, value) if isinstance(value, int) else value

    @field_validator("stride")
    @classmethod
    def _positive(cls, value):
        if min(value) < 1 or max(value) > 8:
            raise ValueError(f"strides are between 1 and 8, not {value}")
        return value

    @field_validator("wavelet")
    @classmethod
    def _known(cls, value):
        value = "haar" if value == "db1" else value
        if value not in wavelist(kind="discrete"):
            raise ValueError(f"{value!r} is not a discrete wavelet of PyWavelets (haar, db2, sym4, bior2.2, ...)")
        return value

    @model_validator(mode="before")
    @classmethod
    def _square_feedforward(cls, data):
        if isinstance(data, dict) and data.get("ff_channel") is None:
            data = {**data, "ff_channel": data.get("final_dim", cls.model_fields["final_dim"].default)}
        return data

    @model_validator(mode="after")
    def _no_more_blocks_than_depths(self):
        if self.shared > self.depth:
            raise ValueError(f"shared={self.shared} blocks need a depth of as many, not {self.depth}")
        return self

    @model_validator(mode="after")
    def _turns_that_blocks_can_take(self):
        if self.cycle > 1 and (self.level > 1 or self.interpolation is None or self.cycle > self.depth):
            raise ValueError(
                f"cycle={self.cycle} is for blocks of one level whose up-sampling interpolates, and for as many depths "
                f"at least; these are level={self.level}, {self.upsampling}, depth={self.depth}"
            )
        return self

    @model_validator(mode="after")
    def _head_that_the_stem_serves(self):
        if self.task == "classification":
            if self.norm == "scale":
                raise ValueError("norm='scale' is for segmentation and super-resolution: classifiers have BatchNorm")
            return self
        if self.pad:
            raise ValueError(f"pad={self.pad} is for classification: other tasks pad each image as it needs it")
        if self.views == "shifts":
            raise ValueError("views='shifts' is for classification: other tasks have 'mirror' and 'eight'")
        if isinstance(self.head, DenseHead):
            if self.skips and self.initial_conv == "single":
                raise ValueError("a skip needs a stem of several convolutions, not `single`")
            if self.head.kind == "transposed" and (self.downscale == 1 or self.downscale & (self.downscale - 1)):
                raise ValueError(
                    f"a transposed head doubles sizes: the stem must divide them by 2, 4, 8, ..., not {self.downscale}"
                )
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_were_others(self, write):
        written = write(self)
        if self.task == "classification":
            written.pop("head", None)
        for name in ("stem_activation", "norm", "cycle", "views"):
            if getattr(self, name) == type(self).model_fields[name].default:
                written.pop(name, None)
        return written

    @property
    def task(self) -> Literal["classification", "segmentation", "super-resolution"]:
        """`classification`, `segmentation` or `super-resolution`."""
        return self.head.task

    @property
    def family(self) -> str:
        """`published`, or `extended` where upstream has no such option."""
        extended = (
            self.head not in (ClassificationHead(), DenseHead(kind="transposed"))
            or self.initial_conv in ("single", "separable")
            or self.shared > 0
            or self.affine != "depth"
            or self.bias != "all"
            or self.activation != "gelu"
            or self.stem_activation
            or self.cycle > 1
            or self.norm != "batch"
            or self.wavelet != "haar"
            or self.upsampling == "depthwise"
            or self.projected
            or self.views != "one"
        )
        return "extended" if extended else "published"

    @property
    def distinct(self) -> int:
        """How many blocks have convolutions of their own."""
        return self.shared or self.depth

    def block(self, depth: int) -> int:
        """The block whose convolutions are used at a depth: in turn."""
        return depth % self.distinct

    def halvings(self, depth: int) -> int:
        """How many times the block at a depth halves its map, level by level."""
        return 1 + depth % self.cycle if self.cycle > 1 else self.level

    @property
    def deepest(self) -> int:
        """The most of these at any depth."""
        return max(self.level, self.cycle)

    @property
    def norms_apart(self) -> bool:
        """Whether norms stand beside the blocks: where blocks are shared, or scales and shifts."""
        return self.shared > 0 or self.affine != "depth"

    @property
    def affines(self) -> int:
        """How many scales and shifts there are at a level."""
        return {"depth": self.depth, "block": self.distinct, "one": 1}[self.affine]

    def affine_at(self, depth: int) -> int:
        """Which of those a depth has."""
        return {"depth": depth, "block": self.block(depth), "one": 0}[self.affine]

    @property
    def projected(self) -> bool:
        """Whether a 1x1 projection F -> out stands before the (interpolating) up-sampling."""
        return self.interpolation is not None and self.ff_channel != self.final_dim

    @property
    def ff_outputs(self) -> int:
        """Feed-forward outputs, F: `ff_channel`, which validation has filled in where it was None."""
        return self.final_dim if self.ff_channel is None else self.ff_channel

    @property
    def interpolation(self) -> str | None:
        """How the up-sampling interpolates, `nearest` or `bilinear`; None for a transposed convolution."""
        return {"deconv": None, "depthwise": "bilinear"}.get(self.upsampling, self.upsampling)

    @property
    def name(self) -> str:
        parts = [
            f"C{self.final_dim}-D{self.depth}-m{self.mult}-F{self.ff_channel}-L{self.level}-{self.upsampling}",
            {"patchify": f"patch{self.patch_size}", "single": f"single{self.kernel}"}.get(
                self.initial_conv, self.initial_conv
            ),
        ]
        if self.initial_conv != "patchify":
            parts.append(f"s{self.stride[0]}{self.stride[1]}")
        parts += [f"pad{self.pad}"] * bool(self.pad) + [f"cycle{self.cycle}"] * (self.cycle > 1)
        parts += [f"shared{self.shared}" if self.shared > 1 else "shared"] * bool(self.shared)
        parts += [f"affine-{self.affine}"] * (self.affine != "depth")
        parts += ["lean"] * (self.bias == "needed") + ["scaled"] * (self.norm == "scale")
        parts += ["active"] * self.stem_activation
        parts += [self.activation] * (self.activation != "gelu") + [self.wavelet] * (self.wavelet != "haar")
        parts += [f"drop{self.dropout:g}"] * bool(self.dropout) + [self.head.name] * bool(self.head.name)
        parts += [self.views] * (self.views != "one")
        return "-".join(parts)

    @property
    def forwards(self) -> int:
        """How many times a trained network looks at an image."""
        return COUNTS[self.views]

    @property
    def seen_once(self) -> "LiteConfig":
        """What is trained: the same with one view."""
        return self if self.views == "one" else self.model_copy(update={"views": "one"})

    @property
    def downscale(self) -> int:
        """By what the stem divides height and width (of images that fit)."""
        return self.patch_size if self.initial_conv == "patchify" else self.stride[0] * self.stride[1]

    @property
    def skips(self) -> bool:
        """Whether the map inside the stem goes to the head, too."""
        return isinstance(self.head, DenseHead) and self.head.skip

    @property
    def head_factors(self) -> tuple[int, int]:
        """How much larger the C/2 channels inside the stem are than the features, and the image than those."""
        if self.initial_conv == "patchify":
            return self.patch_size, 1
        return self.stride[1], self.stride[0]

    def branch_channels(self, level: int) -> tuple[int, int]:
        """(in, out) channels of the feed-forward at a level: coarser levels hand C/2 channels to the next finer one."""
        c = self.final_dim
        return c if level == self.level else c + c // 2, c if level == 1 else c // 2

    def parameter_breakdown(self) -> dict[str, int]:
        """Trainable parameters of stem, blocks and head in closed form (no network is built)."""
        i, c, m, f = self.in_channels, self.final_dim, self.mult, self.ff_outputs
        every = int(self.bias == "all")
        if self.initial_conv == "strided":
            stem = 9 * i * (c // 2) + every * (c // 2) + 9 * (c // 2) * c + c
        elif self.initial_conv == "single":
            stem = self.kernel**2 * i * c + c
        elif self.initial_conv == "separable":
            stem = 9 * i * (c // 2) + every * (c // 2) + 9 * (c // 2) + (c // 2) * c + c
        else:
            stem = 9 * i * (c // 4) + c // 4 + 9 * (c // 4) * (c // 2) + c // 2
            stem += self.patch_size**2 * (c // 2) * c + c + 2 * c
        weights = c * (c // 4) + every * (c // 4)
        norms = 0
        for level in range(1, self.level + 1):
            inside, out = self.branch_channels(level)
            weights += inside * m * c + m * c
            if self.upsampling == "deconv":
                weights += m * c * f + f + 16 * f * out + every * out
            elif self.projected:
                weights += m * c * f + every * f + f * out + every * out
            else:
                weights += m * c * out + every * out
            if self.upsampling == "depthwise":
                weights += 9 * out + every * out
            norms += 2 * out
        blocks = self.distinct * weights + self.affines * norms
        return {"stem": stem, "blocks": blocks, "head": self._head_parameters()}

    def _head_parameters(self) -> int:
        c, head = self.final_dim, self.head
        if isinstance(head, DenseHead):
            return head.parameters(c, self.num_classes, self.head_factors)
        if isinstance(head, SuperResolutionHead):
            return head.parameters(c, self.in_channels, head.scale * self.downscale)
        return head.parameters(c, self.num_classes)

    def parameters(self) -> int:
        """Trainable parameters in closed form."""
        return sum(self.parameter_breakdown().values())

    @property
    def size_step(self) -> int:
        """What heights and widths are multiples of that need no padding, where the network pads its images."""
        return self.downscale * 2**self.deepest

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """What the network pads an image to: a classifier nothing, the others to the least that can be halved
        `deepest` times after the stem and has no filter wrap around the map more than once."""
        if self.task == "classification":
            return height, width
        step = self.size_step
        taps = 2 if self.wavelet == "haar" else Wavelet(self.wavelet).dec_len
        least = taps * step // 2
        height, width = (-(-max(size, least) // step) * step for size in (height, width))
        return height, width

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the feature map after the stem (0 where the image is smaller than a patch)."""
        height, width = self.input_size(height, width)
        return self._after_stem(height, self.stride), self._after_stem(width, self.stride)

    def _after_stem(self, size: int, stride: tuple[int, int]) -> int:
        size += 2 * self.pad
        if self.initial_conv == "patchify":
            return size // self.patch_size
        if self.initial_conv == "single":
            return (size - 1) // (stride[0] * stride[1]) + 1
        return (size - 1) // stride[0] // stride[1] + 1

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError where the feature map can't be halved `deepest` times, saying what would fit.

        Networks that pad their images (all but classifiers) take any.
        """
        h, w = self.feature_size(height, width)
        times, what = self.deepest, "cycle" if self.cycle > 1 else "level"
        if not _halves(h, w, times):
            raise ValueError(
                f"{what} {times} needs a feature map divisible by {2**times}; a {height}x{width} image gives {h}x{w} "
                f"after the stem ({self._what_fits(height, width, what)})"
            )
        if self.wavelet == "haar":
            return
        coarsest, length = min(h, w) // 2 ** (times - 1), Wavelet(self.wavelet).dec_len
        if coarsest < length:  # a filter would wrap around the map more than once
            raise ValueError(
                f"{self.wavelet} has {length} taps, {what} {times} transforms a map of {coarsest} pixels: "
                "use fewer levels, smaller strides or a shorter wavelet"
            )

    def _what_fits(self, height: int, width: int, what: str) -> str:
        h, w = self.feature_size(height, width)
        fits = [f"{what} {times}" for times in range(self.deepest - 1, 0, -1) if _halves(h, w, times)][:1]
        if self.initial_conv != "patchify":
            for stride in ((2, 2), (2, 1), (1, 1)):
                if _halves(self._after_stem(height, stride), self._after_stem(width, stride), self.deepest):
                    fits.append("stride {},{}".format(*stride))
        return f"{' or '.join(fits)} would fit" if fits else "pad or crop the image, or use another stem"


def _halves(height: int, width: int, times: int) -> bool:
    return min(height, width) > 0 and height % 2**times == 0 and width % 2**times == 0
