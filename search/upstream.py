"""What upstream states: its parameter-efficiency table, and the configurations of its README and published weights.

Facts from github.com/pranavphoenix/WaveMix (README and the scripts under Saved_weights) and WaveMixSR;
`search.audit.counts` checks them. The figures that they are published with are in `search.published`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from wavemix import LiteConfig, SemSegment, WaveMixLite, cityscapes, classification, sisr
from wavemix.wavemixsr import WaveMixSR

REPOSITORY = "github.com/pranavphoenix/WaveMix"


@dataclass(frozen=True)
class Published:
    """One row of upstream's parameter-efficiency table (its README).

    The row says embedding / depth and the count. mult 2, ff_channel = final_dim, level 1 and stride 1 are upstream's
    defaults for small images; the kind of up-sampling is what `search.audit.counts` finds.
    """

    label: str  # data set
    target: float
    model: str
    parameters: int
    size: int  # pixels, square images
    upsampling: str  # found by `published`, checked against it by a test
    hyperparameters: dict[str, Any] = field(hash=False)

    @property
    def config(self) -> LiteConfig:
        return LiteConfig(**self.hyperparameters, upsampling=self.upsampling)

    @property
    def task(self) -> str:
        return f"{100 * self.target:g} % in {self.label}"

    def is_of(self, config: LiteConfig) -> bool:
        """Whether `config` is this row's network: either interpolation, any strides and any dropout give its count."""
        same = {"upsampling": self.upsampling, "dropout": 0.0, "stride": self.config.stride}
        kinds = {self.config.upsampling} if self.upsampling == "deconv" else {"nearest", "bilinear"}
        return config.upsampling in kinds and config.model_copy(update=same) == self.config


PUBLISHED = (
    Published(
        "MNIST", 0.99, "WaveMix Lite-8/10", 3566, 28, "nearest",
        {"in_channels": 1, "final_dim": 8, "depth": 10},
    ),
    Published(
        "Fashion-MNIST", 0.90, "WaveMix Lite-8/5", 7156, 28, "deconv",
        {"in_channels": 1, "final_dim": 8, "depth": 5},
    ),
    Published(
        "CIFAR-10", 0.80, "WaveMix Lite-32/7", 37058, 32, "nearest",
        {"in_channels": 3, "final_dim": 32, "depth": 7},
    ),
    Published(
        "CIFAR-10", 0.90, "WaveMix Lite-64/6", 520106, 32, "deconv",
        {"in_channels": 3, "final_dim": 64, "depth": 6},
    ),
)  # fmt: skip
# rows that the README had from commit 804c223 until 97bbda7, which put the first and the third row above in their place
WITHDRAWN = (
    Published(
        "MNIST", 0.99, "WaveMix Lite-8/3 (withdrawn)", 4056, 28, "deconv",
        {"in_channels": 1, "final_dim": 8, "depth": 3, "mult": 1},
    ),
    Published(
        "CIFAR-10", 0.80, "WaveMix Lite-32/4 (withdrawn)", 45962, 32, "deconv",
        {"in_channels": 3, "final_dim": 32, "depth": 4, "mult": 1, "ff_channel": 16, "dropout": 0.25},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """A configuration upstream states: in its README's usage section, or beside weights it has published."""

    row: str
    source: str
    # 'classification', 'segmentation', 'super-resolution', 'luma super-resolution' (WaveMixSR), or 'backbone' (a
    # classifier with a dense head)
    task: str
    hyperparameters: dict[str, Any] = field(hash=False)
    size: int = 256
    millions: int | None = None  # parameters as published, in millions; None: not published

    @property
    def place(self) -> str:
        """Repository and file; `source` alone where it is another one."""
        return self.source if ":" in self.source else f"{REPOSITORY}: {self.source}"

    @property
    def channels(self) -> int:
        return self.hyperparameters.get("in_channels", 3)

    @property
    def name(self) -> str:
        hyperparameters = self.hyperparameters
        stem = (
            f"patch {hyperparameters['patch_size']}"
            if "patch_size" in hyperparameters
            else f"stride {hyperparameters.get('stride', 1)}"
        )
        task = "classifier with a dense head" if self.task == "backbone" else self.task
        return "{} {final_dim}/{depth}, level {level}, {}".format(task, stem, **hyperparameters)


def _c(final_dim: int, depth: int, level: int, num_classes: int, **stem: Any) -> dict[str, Any]:
    """Hyperparameters of upstream's classifier, whose feed-forward is as wide as its embedding in every published
    case."""
    stem = stem or {"initial_conv": "patchify", "patch_size": 4}
    hyperparameters = {"final_dim": final_dim, "ff_channel": final_dim, "depth": depth, "level": level}
    return {**hyperparameters, "num_classes": num_classes, "mult": 2, "dropout": 0.5, **stem}


STRIDE1 = {"initial_conv": "strided", "stride": 1}
SAVED = (
    Saved("ImageNet-1k 75.32", "README, image classification", "classification", _c(192, 16, 3, 1000)),
    Saved("ImageNet-1k 75.06", "Saved_weights/ImageNet", "classification", _c(192, 16, 3, 1000), millions=28),
    Saved("ImageNet-1k 73", "Saved_weights/ImageNet", "classification", _c(256, 16, 3, 1000)),
    Saved("ImageNet-1k 71.18", "Saved_weights/ImageNet", "classification", _c(192, 16, 1, 1000), millions=12),
    Saved(
        "ImageNet-1k 70.42", "Saved_weights/ImageNet", "classification",
        _c(256, 16, 4, 1000, initial_conv="strided", stride=2),
    ),
    Saved(
        "Places365 54.94", "Saved_weights/Places365", "classification",
        _c(256, 12, 2, 365, initial_conv="patchify", patch_size=8),
    ),
    Saved("Galaxy10 DECaLS 95.42", "Saved_weights/Galaxy10", "classification", _c(192, 16, 3, 10)),
    Saved("Galaxy10 DECaLS 90.23", "Saved_weights/Galaxy10", "classification", _c(192, 16, 1, 10)),
    Saved("CIFAR-10 95.37", "Saved_weights/cifar10", "classification", _c(320, 8, 1, 10, **STRIDE1), 32),
    Saved("CIFAR-10 94.58", "Saved_weights/cifar10", "classification", _c(144, 7, 1, 10, **STRIDE1), 32),
    Saved("CIFAR-100 78.81", "Saved_weights/cifar100", "classification", _c(256, 10, 1, 100, **STRIDE1), 32),
    Saved("CIFAR-100 77.82", "Saved_weights/cifar100", "classification", _c(256, 8, 1, 100, **STRIDE1), 32),
    Saved("Tiny ImageNet 79", "Saved_weights/tinyimagenet", "classification", _c(192, 16, 3, 200), 128, 28),
    Saved("Tiny ImageNet 71.69", "Saved_weights/tinyimagenet", "classification", _c(192, 16, 3, 200), 64, 28),
    Saved("Tiny ImageNet 62.51", "Saved_weights/tinyimagenet", "classification", _c(256, 12, 1, 200, **STRIDE1), 64),
    Saved(
        "EMNIST Letters 95.96", "a leaderboard: WaveMixLite-112/16, one channel", "classification",
        _c(112, 16, 1, 26, **STRIDE1, in_channels=1), 28, 4,
    ),
    Saved("Cityscapes 83.04", "Saved_weights/cityscapes", "backbone", _c(192, 16, 3, 20), millions=28),
    Saved(
        "Segmentation example", "README, semantic segmentation", "segmentation",
        {"num_classes": 20, "depth": 16, "mult": 2, "ff_channel": 256, "final_dim": 256, "dropout": 0.5, "level": 4,
         "stride": 2},
    ),
    Saved(
        "Super-resolution example", "README, super-resolution", "super-resolution",
        {"depth": 4, "mult": 2, "ff_channel": 144, "final_dim": 144, "dropout": 0.5, "level": 1},
    ),
    Saved(
        "Super-resolution 128/4", "Image_Super_Resolution/Div2k_2x.py", "super-resolution",
        {"depth": 4, "mult": 2, "ff_channel": 128, "final_dim": 128, "dropout": 0.5, "level": 1},
    ),
    Saved(
        "WaveMixSR 2x", "github.com/pranavphoenix/WaveMixSR: wavemixsr/model.py", "luma super-resolution",
        {"depth": 4, "mult": 1, "ff_channel": 144, "final_dim": 144, "dropout": 0.3, "level": 1},
    ),
)  # fmt: skip
CITYSCAPES_HEAD = (192, 128, 64)  # channels of the two transposed convolutions and the last 1x1 one


def build(saved: Saved) -> nn.Module:
    """The network of a stated configuration, through the constructors upstream has."""
    if saved.task == "segmentation":
        return SemSegment.WaveMix(**saved.hyperparameters)
    if saved.task == "super-resolution":
        return sisr.WaveMix(**saved.hyperparameters)
    if saved.task == "luma super-resolution":
        return WaveMixSR(**{name: value for name, value in saved.hyperparameters.items() if name != "level"})
    if saved.channels != 3:  # upstream's constructor has three; its scripts for grey images change the stem
        return WaveMixLite(classifier_config(saved))
    if saved.task == "backbone":
        return cityscapes.WaveMix(**saved.hyperparameters, widths=CITYSCAPES_HEAD[1:])
    return classification.WaveMix(**saved.hyperparameters)


def classifier_config(saved: Saved) -> LiteConfig:
    """The classifier with a stated configuration's stem and blocks (and, for a classifier, its head)."""
    hyperparameters = {"stride": 1, "in_channels": 3, **saved.hyperparameters}
    if saved.task == "luma super-resolution":
        hyperparameters["in_channels"] = 1
    if saved.task in ("segmentation", "super-resolution", "luma super-resolution"):
        hyperparameters["initial_conv"] = "strided"
    return LiteConfig(**hyperparameters, upsampling="deconv")


def closed_form(saved: Saved) -> int:
    """Parameters of a stated configuration without building it: `LiteConfig`'s stem and blocks, and the task's head."""
    c, classes = saved.hyperparameters["final_dim"], saved.hyperparameters.get("num_classes", 0)
    parts = classifier_config(saved).parameter_breakdown()
    if saved.task == "segmentation":
        parts["head"] = _dense_head((c, c // 2, c // 4), classes)
    elif saved.task == "super-resolution":
        parts["head"] = _dense_head((c, c // 2), 3)
    elif saved.task == "luma super-resolution":
        parts["head"] = 9 * c * (c // 2) + c // 2 + c // 2 + 1
    elif saved.task == "backbone":
        parts["head"] = _dense_head(CITYSCAPES_HEAD, classes)
    return sum(parts.values())


def _dense_head(widths: Sequence[int], outputs: int) -> int:
    """4x4 transposed convolutions along `widths`, then a 1x1 convolution, all with biases."""
    transposed = sum(16 * a * b + b for a, b in zip(widths, widths[1:]))
    return transposed + widths[-1] * outputs + outputs


# what a data set is called on the command line; the JPEG copy of CIFAR-10 has the original's counts beside it
NAMES = {"MNIST": ("mnist",), "Fashion-MNIST": ("fashion-mnist",), "CIFAR-10": ("cifar10", "cifar10-jpeg")}
CEILINGS = {(name, row.target): row.parameters for row in PUBLISHED for name in NAMES[row.label]}


def start_of(data: str, target: float) -> tuple[int, str] | None:
    """The width of the published network of a data set's target, and an up-sampling: a search starts near it.

    Of a target that nothing is published for, where all published networks of the data set have one width, that width.
    """
    rows = [row for row in PUBLISHED if data in NAMES[row.label]]
    widths = {row.config.final_dim for row in rows if row.target == target or len(rows) == 1}
    return (widths.pop(), "bilinear") if len(widths) == 1 else None
