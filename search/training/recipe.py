"""How a network is trained: a validated recipe, part of every record; and what makes a training the one it is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer

from wavemix.config import LiteConfig

MOST_EPOCHS = 1_000_000
MULTIPLE = 16  # of images a batch has: what the widest vectors hold


class Recipe(BaseModel):
    """A training recipe. Every hyperparameter takes part in the search and is written into every record.

    The learning rate rises over `warmup` of all steps, then falls to zero, both along a straight line or both along
    half a cosine (one cycle: Smith & Topin, "Super-Convergence", 2018, section 3). What is evaluated is the exponential
    moving average of the weights over `average` of all steps (0 switches it off), with BatchNorm's statistics measured
    anew on training images under the averaged weights (Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section
    3): at these learning rates running statistics lag behind the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=20, ge=1, le=MOST_EPOCHS, description="passes over the training images")
    batch_size: int = Field(default=128, ge=MULTIPLE, multiple_of=MULTIPLE, description="images a step and member")
    optimizer: Literal["adamw", "muon", "sgd"] = Field(
        default="adamw", description="sgd: with Nesterov's momentum, beta1"
    )
    lr: float = Field(default=0.02, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled; matrices and kernels only")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    warmup: float = Field(default=0.1, ge=0, lt=1, description="fraction of all steps")
    anneal: Literal["linear", "cosine"] = "linear"
    branch: float = Field(
        default=1.0, ge=0, description="initial scale of every block's last BatchNorm: what a block adds"
    )
    progressive: float = Field(
        default=0.0, ge=0, le=1, description="fraction of the epochs, the first ones, at a reduced size"
    )
    average: float = Field(default=0.02, ge=0, lt=1, description="horizon of the weight average, fraction of all steps")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(
        default=0.0, ge=0, description="pixels (of reduced images while `progressive`), uniform both ways"
    )
    outside: Literal["black", "border"] = Field(default="black", description="what lies outside a moved image")
    rotate: float = Field(default=0.0, ge=0, description="degrees, uniform to both sides")
    scale: float = Field(default=0.0, ge=0, lt=1, description="relative size, uniform to both sides")
    shear: float = Field(default=0.0, ge=0, lt=1, description="tangent of the angle, uniform to both sides")
    cutout: int = Field(
        default=0, ge=0, description="edge of a square of mean colour, centred anywhere in the image, unreduced pixels"
    )
    mixup: float = Field(
        default=0.0, ge=0, le=0.5, description="largest share of another image and its label, uniform up to it"
    )
    flip: bool = Field(
        default=False, description="mirror left to right, alternating between epochs; of patches by chance"
    )
    patch: int = Field(
        default=0, ge=0, description="edge of the squares cut from images, input pixels; 0: whole images"
    )
    patches: int = Field(default=1, ge=1, description="patches of each image in an epoch")
    turns: bool = Field(default=False, description="patches turned by 0, 90, 180 or 270 degrees")
    colour: float = Field(
        default=0.0, ge=0, lt=1, description="relative brightness, contrast, saturation, uniform to both sides"
    )
    loss: Literal["cross-entropy", "focal", "lovasz", "l1", "huber", "charbonnier"] | None = Field(
        default=None,
        description="None: cross-entropy, of super-resolution charbonnier; lovasz: its mean with cross-entropy",
    )
    class_weights: bool = Field(default=False, description="classes weighted by median frequency, of segmentation")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="factors of a processor's products; sums, statistics and weights are float32. --precision decides",
    )

    @model_serializer(mode="wrap")
    def _classification_as_ever(self, write):
        """What came later is left out at its default: classifiers' recipes stay as they were."""
        return {name: value for name, value in write(self).items() if name not in LATER or value != LATER[name]}


# what is for tasks on pixels alone, and the precision
LATER = {
    name: Recipe.model_fields[name].default
    for name in ("patch", "patches", "turns", "colour", "loss", "class_weights", "precision")
}


def filled(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a recipe that was stored before there were all of them; those it lacks are at their
    defaults."""
    stored = {name: value for name, value in hyperparameters.items() if name not in LATER or value != LATER[name]}
    return Recipe().model_dump(mode="json") | stored


@dataclass(frozen=True)
class Training:
    """A network, its recipe and its images, from which with the seeds everything else follows.

    `digest` is of the images and labels trained on.
    """

    config: LiteConfig
    recipe: Recipe
    digest: str

    @property
    def identity(self) -> tuple:
        """Equal for equal trainings, those that a record holds included (`identity`)."""
        return identity(self.config, self.recipe.model_dump(mode="json"), self.digest)

    def checkpoint_name(self, seeds: Sequence[int]) -> str:
        """The file name of the checkpoint of this training with `seeds`.

        Hyperparameters at their defaults are left out, so that a later version with more of them finds it.
        """
        given = [part.model_dump(mode="json", exclude_defaults=True) for part in (self.config, self.recipe)]
        key = hashlib.sha256(json.dumps([*given, list(seeds), self.digest], sort_keys=True).encode()).hexdigest()
        return f"{self.config.name}-{key[:16]}.checkpoint"


def identity(config: LiteConfig, recipe: Mapping[str, Any], digest: str) -> tuple:
    """`Training.identity` of a recipe as a record keeps it, which may be older than some hyperparameters."""
    return config, json.dumps(filled(recipe), sort_keys=True), digest
