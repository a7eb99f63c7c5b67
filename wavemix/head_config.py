"""What a network computes from the body's features, for each task: validated, and its parameter count in closed form.

A head is cheapest where it works on the small map: scores and residuals are made by a 1x1 or 3x3 convolution at the
features' size, and what enlarges them (interpolation, PixelShuffle) has no parameters.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer


class Head(BaseModel, frozen=True):
    """What all heads have in common; `task` tells them apart in JSON."""

    model_config = ConfigDict(extra="forbid")
    task: str

    @model_serializer(mode="wrap")
    def _with_the_task(self, write):
        return {"task": self.task, **write(self)}  # also where defaults are left out


class ClassificationHead(Head, frozen=True):
    """The mean over the feature map, then one linear layer: logits (N, K)."""

    task: Literal["classification"] = "classification"

    @property
    def name(self) -> str:
        return ""

    def parameters(self, features: int, classes: int) -> int:
        return features * classes + classes

    def multiply_accumulates(self, features: int, classes: int) -> int:
        """Of one image, whatever the size of its features."""
        return features * classes


class DenseHead(Head, frozen=True):
    """Scores of each pixel, (N, K, H, W), for segmentation.

    `interpolated`: a 1x1 convolution at the features' size, enlarged bilinearly; C K + K parameters. `transposed`: 4x4
    transposed convolutions that double the size, then a 1x1 convolution, as in upstream's segmentation network.

    With `skip` the C/2 channels inside the stem, which are finer than the features, join them: the features are
    brought to `width` channels and that size, the skip (through a 1x1 convolution without bias where it has another
    number of channels) is added, an activation follows. A sum takes fewer parameters than the concatenation of U-Net
    (Ronneberger et al., arXiv 1505.04597); that scores from finer maps sharpen edges: Long et al., arXiv 1411.4038.
    """

    task: Literal["segmentation"] = "segmentation"
    kind: Literal["interpolated", "transposed"] = "interpolated"
    width: int | None = Field(
        default=None,
        ge=1,
        description="channels of the maps inside the head; None halves C at each doubling (of `interpolated`: once)",
    )
    skip: bool = Field(default=False, description="whether the map inside the stem joins the features")

    @property
    def name(self) -> str:
        inside = self.kind == "transposed" or self.skip
        parts = ["seg", self.kind] + [f"w{self.width}"] * bool(inside and self.width) + ["skip"] * self.skip
        return "-".join(parts)

    def narrowed(self, features: int, doublings: int) -> int:
        """Channels after so many doublings, at least 1."""
        return self.width or max(1, features >> doublings)

    def joint(self, features: int, factor: int) -> int:
        """Channels of the map that the skip joins, which is `factor` times as large as the features."""
        doublings = factor.bit_length() - 1 if self.kind == "transposed" else 1
        return self.narrowed(features, doublings) if self.kind == "interpolated" or doublings else features

    def parameters(self, features: int, classes: int, factors: tuple[int, int]) -> int:
        """`factors`: how much larger the skip is than the features, and the image than the skip."""
        total, last = 0, features
        if self.kind == "transposed":
            for doubling in range(1, (factors[0] * factors[1]).bit_length()):
                out = self.narrowed(features, doubling)
                total += 16 * last * out + out
                last = out
        elif self.skip:
            last = self.joint(features, factors[0])
            total += features * last + last
        if self.skip and self.joint(features, factors[0]) != features // 2:
            total += features // 2 * self.joint(features, factors[0])
        return total + last * classes + classes

    def multiply_accumulates(self, features: int, classes: int, factors: tuple[int, int], area: int) -> int:
        """Of features of `area` pixels; `factors` as for `parameters`."""
        total, last, size = 0, features, area  # the size of the map that the next layer works on
        if self.kind == "transposed":
            for doubling in range(1, (factors[0] * factors[1]).bit_length()):
                out = self.narrowed(features, doubling)
                total += 16 * last * out * size
                last, size = out, 4 * size
        elif self.skip:
            last, size = self.joint(features, factors[0]), area * factors[0] ** 2
            total += features * last * area
        if self.skip and self.joint(features, factors[0]) != features // 2:
            total += features // 2 * self.joint(features, factors[0]) * area * factors[0] ** 2
        return total + last * classes * size


class SuperResolutionHead(Head, frozen=True):
    """The image `scale` times as large, (N, I, scale H, scale W): of one channel (Y) or of several (RGB), as it comes.

    `shuffle`: a convolution to I f² channels and PixelShuffle (Shi et al., arXiv 1609.05158), f the scale times the
    stem's strides. `transposed`: one transposed convolution of stride f, whose edge is 2 f - f mod 2 (4 for f = 2), so
    that neighbours share features. With `bicubic` either adds to the bicubically enlarged image, which itself has no
    parameters, and so the network learns what is missing from it (VDSR: Kim et al., arXiv 1511.04587). With
    `activation` the body's goes before either: without one all that blocks have mixed is enlarged linearly.
    """

    task: Literal["super-resolution"] = "super-resolution"
    scale: Literal[2, 3, 4] = 2
    kind: Literal["shuffle", "transposed"] = "shuffle"
    kernel: Literal[1, 3] = Field(default=3, description="kernel size of the convolution before PixelShuffle")
    bicubic: bool = Field(default=True, description="whether the output is added to the bicubically enlarged image")
    activation: bool = Field(default=False, description="whether the features go through the activation first")

    @property
    def name(self) -> str:
        kind = f"shuffle{self.kernel}" if self.kind == "shuffle" else self.kind
        return f"x{self.scale}" + "-active" * self.activation + f"-{kind}" + "-bicubic" * self.bicubic

    @model_serializer(mode="wrap")
    def _with_the_task(self, write):
        written = {"task": self.task, **write(self)}
        if not self.activation:  # as it was written before there was one
            written.pop("activation", None)
        return written

    @staticmethod
    def edge(factor: int) -> int:
        """Kernel size of the transposed convolution: that of bilinear interpolation."""
        return 2 * factor - factor % 2

    def parameters(self, features: int, channels: int, factor: int) -> int:
        if self.kind == "shuffle":
            return (self.kernel**2 * features + 1) * channels * factor**2
        return self.edge(factor) ** 2 * features * channels + channels

    def multiply_accumulates(self, features: int, channels: int, factor: int, area: int) -> int:
        """Of features of `area` pixels."""
        edge = self.kernel * factor if self.kind == "shuffle" else self.edge(factor)
        return edge**2 * features * channels * area


AnyHead = Annotated[ClassificationHead | DenseHead | SuperResolutionHead, Field(discriminator="task")]
