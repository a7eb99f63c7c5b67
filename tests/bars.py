"""Images of bars, a task that a tiny network learns in seconds."""

from pathlib import Path

import jobs
import torch

from search.data import datasets
from search.data.split import Split
from search.study.search import Search
from search.training.recipe import Recipe
from wavemix.config import LiteConfig


def bars(count: int, seed: int = 0, channels: int = 1) -> Split:
    """Images of 8x8 noise with one bright bar; the class says which of four places it is at."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 60, (count, channels, 8, 8), generator=generator)
    for image, label in zip(images, labels.tolist()):
        image[:, [1, 6][label % 2], :] += 150 if label < 2 else 0
        image[:, :, [1, 6][label % 2]] += 150 if label >= 2 else 0
    return Split("bars", "Bars", "train", images.byte(), labels, ("a", "b", "c", "d"), "folder")


CONFIG = LiteConfig(in_channels=1, num_classes=4, final_dim=8, depth=2, upsampling="bilinear")
RECIPE = Recipe(epochs=3, batch_size=32, lr=0.03, optimizer="muon")


def engine(folder: Path, results: Path, **options) -> Search:
    options = {"target": 0.9, "recipe": RECIPE, "name": "bars", "ceiling": 1500, "validation_count": 64} | options
    data = datasets.load(str(folder), "train")
    return jobs.search(data, options.pop("target"), options.pop("recipe"), results, **options)


SMALL = ["--epochs", 3, "--max-parameters", 1500, "--results"]
