"""How a network is trained: a validated recipe, part of every record."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_EPOCHS = 1_000_000
MULTIPLE = 16  # of images a batch has: what the widest vectors hold


class Recipe(BaseModel):
    """A training recipe. Every knob takes part in the search and is written into every record.

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
    flip: bool = Field(default=False, description="mirror left to right, alternating between epochs")


def filled(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a recipe that was stored before there were all of them; those it lacks are at their defaults."""
    return Recipe().model_dump(mode="json") | dict(knobs)


LARGE = 100_000  # parameters from which photographs want another recipe


def default_recipe(data: str, pixels: int, epochs: int | None = None, parameters: int = 0) -> Recipe:
    """The recipe a search starts from for a data set of images `pixels` high and networks of up to `parameters`.

    Found by trainings on training images alone (results/records/recipes and explorations): orthogonalised momentum
    (Muon) with decoupled weight decay beats AdamW at every length tried. Networks of a few thousand parameters want
    little augmentation, on digits (a pixel, six degrees, five per cent), or none, on clothes. Half of the epochs at a
    reduced size cost digits no accuracy and save a quarter of the work, with a learning rate that falls linearly
    (98.81 %, not 98.61 % with a cosine); photographs lose by it, and by the cosine. Photographs want more decay
    (CIFAR-10, JPEG copy, 12 epochs: 72.7, 74.3 and 74.7 % with 0.01, 0.03 and 0.1) and border pixels outside (75.3 %).
    Networks of a hundred thousand parameters want a lower rate (24 epochs: 84.2 % with 0.01, 83.2 % with 0.03), and in
    long trainings cutout and larger shifts (48 epochs: 86.9 %, without 86.5 %). Against overfitting (few images, 200
    epochs) mixup wins with shares up to 0.5 (4,000 images, three seeds: 71.1 %, without 68.8 %), less with 0.3 (69.5
    %), and harms with 0.1 (68.0 %), as label smoothing does (6,250 images: 75.0 %, without 76.3 %). With many images it
    costs in fitting what it wins (25,000, 100 epochs: 83.9 %, without 84.0 %) or more, so it is no default.
    """
    grey = data in ("mnist", "fashion-mnist") or data.startswith("emnist")
    digits = grey and data != "fashion-mnist"
    large = not grey and parameters >= LARGE
    return Recipe(
        epochs=24 if epochs is None else epochs,
        optimizer="muon",
        lr=0.01 if large else 0.03,
        weight_decay=0.03 if grey else 0.1,
        anneal="cosine" if grey and not digits else "linear",
        progressive=0.5 if digits else 0.0,
        shift=1.0 if digits else 0.0 if grey else pixels * (3 if large else 2) / 32,
        outside="black" if grey else "border",
        rotate=6.0 if digits else 0.0,
        scale=0.05 if digits else 0.0,
        cutout=pixels // 4 if large else 0,
        flip=not grey,
    )
