"""How a row of the benchmark table is trained, as data: recipes are TOML files in `recipes`, which rows change.

Networks of a search are trained by `search.training`, many tiny ones at once; this is for one network of any size.
"""

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FOLDER = Path(__file__).parent / "recipes"
Edge = Annotated[int, Field(ge=1, le=8192)]
Size = tuple[Edge, Edge]  # height and width, pixels
Loss = Literal["cross-entropy", "focal", "lovasz", "charbonnier", "l1", "huber", "squares"]
LOSSES: dict[str, tuple[Loss, ...]] = {
    "classification": ("cross-entropy",),
    "segmentation": ("cross-entropy", "focal", "lovasz"),
    "super-resolution": ("charbonnier", "l1", "huber", "squares"),
}


class Plain(BaseModel):
    """Unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Phase(Plain):
    """One optimizer until its last epoch, or until `patience` epochs in a row have not improved on validation images.

    A phase with patience hands on the weights of the best epoch, one without those of the last. Each begins with what
    the one before it has handed on, and with an optimizer that has no past.
    """

    optimizer: Literal["adamw", "lion", "sgd", "muon"]
    lr: float = Field(gt=0)
    decay: float = Field(default=0.0, ge=0, description="weight decay, of matrices and kernels; decoupled but for sgd")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="of sgd and muon the momentum")
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epochs: int = Field(ge=1, le=100_000, description="at most")
    patience: int | None = Field(default=None, ge=1)
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="one cycle: up over `warmup`, down to zero, along lines or half cosines"
    )
    warmup: float = Field(default=0.0, ge=0, lt=1, description="fraction of the phase's steps")
    augment: Literal["all", "flips"] = Field(default="all", description="flips: nothing of the recipe's but these")


class Recipe(Plain):
    """A training. `fit` is how an image gets the size that the network sees, and what is random about it in training:

    as-is: images have one size. stretch: to `size`, at test as well. pad-crop: `size` out of the image mirrored by
    `padding` pixels beyond its border; at test as it is. resized-crop: a share of the image's area between `area` and
    1, to `size`; at test the shorter side to 8/7 of it, and the middle (He et al. 2016, section 3.4, with 256 and 224).
    crop: `size` out of the image, enlarged or reduced by up to `scale`; at test the whole image (segmentation). Of
    super-resolution `size` is that of what the network sees, and images are not scaled.
    """

    batch: int = Field(ge=1, le=1_000_000, description="images a step, of all processes together")
    phases: tuple[Phase, ...] = Field(min_length=1)
    fit: Literal["as-is", "stretch", "pad-crop", "resized-crop", "crop"] = "as-is"
    size: Size | None = None
    padding: int = Field(default=0, ge=0)
    area: float = Field(default=0.35, gt=0, le=1)
    scale: float = Field(default=0.0, ge=0, lt=1, description="relative, uniform to both sides")
    flip: bool = Field(default=False, description="left to right, half of the images")
    turns: bool = Field(default=False, description="by 0 to 3 quarters, of super-resolution")
    auto: Literal["trivial", "rand"] | None = Field(
        default=None, description="TrivialAugmentWide (Müller & Hutter 2021) or RandAugment (Cubuk et al. 2020)"
    )
    colour: float = Field(default=0.0, ge=0, lt=1, description="brightness, contrast, saturation, relative")
    mixup: float = Field(default=0.0, ge=0, description="alpha (Zhang et al. 2018)")
    cutmix: float = Field(default=0.0, ge=0, description="alpha (Yun et al. 2019); with mixup one of both by chance")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: Loss | None = Field(
        default=None,
        description="one of LOSSES of the row's task, None the first: focal (Lin et al. 2017), with label smoothing of "
        "none; lovasz, the mean of each image's Lovász-Softmax (Berman et al. 2018) and of cross-entropy; of values "
        "between 0 and 1 charbonnier, l1, huber beyond 0.01, and squares, half of them",
    )
    class_weights: bool = Field(default=False, description="by median frequency, of segmentation")
    average: float = Field(default=0.0, ge=0, lt=1, description="decay of the weights' moving average; 0: none")
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    start: Literal["random", "weights"] = Field(
        default="random", description="weights: of a file that is named (--start), all but the head"
    )
    normalise: Literal["measured", "imagenet"] = Field(
        default="measured",
        description="mean and deviation of each channel: of training images, or those that torchvision documents for "
        "networks trained on ImageNet; of super-resolution neither",
    )
    validation: float = Field(default=0.1, gt=0, lt=1, description="share of the training images, where no part is")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.size is None) != (self.fit == "as-is"):
            raise ValueError(f"fit {self.fit} goes {'without' if self.fit == 'as-is' else 'with'} a size")
        if self.loss == "focal" and self.label_smoothing:
            raise ValueError("the focal loss goes without label smoothing")
        return self

    @property
    def mixing(self) -> bool:
        return bool(self.mixup or self.cutmix)

    @property
    def most_epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    @property
    def judged(self) -> bool:
        """Whether validation images decide on anything: without that, all training images are trained on."""
        return any(phase.patience is not None for phase in self.phases)

    def limited(self, epochs: int | None) -> "Recipe":
        """The same with at most so many epochs in each phase."""
        if epochs is None:
            return self
        phases = [phase.model_copy(update={"epochs": min(epochs, phase.epochs)}) for phase in self.phases]
        return self.model_copy(update={"phases": tuple(phases)})


@functools.cache
def _files() -> dict[str, dict[str, Any]]:
    return {path.stem: tomllib.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.toml"))}


def recipe_of(like: str, changes: dict[str, Any]) -> Recipe:
    """The recipe of a file in `recipes` with other values for some of its fields. Raises ValueError."""
    if like not in _files():
        raise ValueError(f"there is no recipe {like!r}, only {', '.join(_files())}")
    return Recipe.model_validate({name: value for name, value in _files()[like].items() if name != "why"} | changes)
