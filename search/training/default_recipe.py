"""The recipe that a data set is trained with where none is given."""

from search.data.catalogue import kind_of
from search.training.recipe import Recipe

LARGE = 100_000  # parameters from which photographs want another recipe


def lengths(epochs: int) -> tuple[int, ...]:
    """Numbers of epochs that a search chooses from where it is told none: the smaller a network, the more it wants.

    The 1,186 parameters that reach 99 % of MNIST took 128 epochs; in 24 it takes 2,600
    (results/pages/thresholds.md). Half as many tell early what is hopeless.
    """
    return epochs, max(1, epochs // 2), 2 * epochs, 4 * epochs


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
    kind = kind_of(data)
    grey, digits = kind != "photographs", kind == "digits"
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
