"""A toy study: random images, and a stand-in for training whose accuracies follow from the parameters."""

import math
import re
from pathlib import Path

import jobs
import torch

from search.data.split import Split
from search.records.jsonl import read
from search.records.models import Trial
from search.study.search import Search
from search.training.outcome import Epoch, Trained
from search.training.recipe import Recipe

RECIPE = Recipe(epochs=8)


TARGET = 0.9


def toy(count: int = 300) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Split("toy", "Toy", "train", images, labels, tuple("0123456789"), "folder")


DATA = toy()


class Training:
    """Stands in for `train`: the error falls with the parameters and, by a known factor, over the epochs."""

    def __init__(self, monkeypatch, before=lambda config, epoch: None):
        self.before, self.configs, self.seeds, self.counts, self.devices = before, [], [], [], []
        monkeypatch.setattr("search.tasks.classification.train", self)

    @staticmethod
    def accuracy(config, fraction: float = 1.0) -> float:
        error = 0.1 * (1200 / config.parameters()) ** 0.8 * (1.2 if config.upsampling == "deconv" else 1)
        return 1 - min(0.9, error * math.exp(0.9 * (1 - fraction)))

    def __call__(self, config, recipe, data, seeds, *, validation, on_epoch=None, checkpoint=None, device="cpu"):
        if seeds[0] % 1000 == 0:  # else it is a trial's second training
            self.configs.append(config)
        self.seeds.append(list(seeds))
        self.devices.append(device)
        self.counts.append((len(data), len(validation)))
        curve, stopped = [], None
        for epoch in range(1, recipe.epochs + 1):
            stopped = self.before(config, epoch)
            accuracy = self.accuracy(config, epoch / recipe.epochs)
            curve.append(Epoch(epoch=epoch, train_loss=1.0, accuracy=accuracy, seconds=float(epoch)))
            if stopped:
                break
            if on_epoch and on_epoch(epoch, [curve[-1]] * len(seeds)):
                stopped = "pruned"
                break
        members = [
            Trained(seed=seed, curve=curve, accuracy=curve[-1].accuracy, stopped=stopped, seconds=len(curve))
            for seed in seeds
        ]
        for member in members:
            member._state = {"weights": torch.zeros(config.parameters())}
        return members


def engine(folder, **options) -> Search:
    options = {"target": TARGET, "recipe": RECIPE, "name": "toy", "ceiling": 3000, "validation_count": 50} | options
    return jobs.search(DATA, options.pop("target"), options.pop("recipe"), folder, **options)


def trials(folder) -> list[Trial]:
    return read(folder / "toy.jsonl")


def named(tmp_path: Path) -> str:
    return re.sub(r"\W", "-", str(tmp_path.relative_to(tmp_path.parents[1])))


def start(tmp_path: Path, url: str, **options) -> Search:
    """A worker with a results directory of its own for every `place`."""
    place = tmp_path / options.pop("place", "a")
    return engine(place, name=named(tmp_path), storage=url, **options)


def recorded(tmp_path: Path) -> list:
    return [r for path in sorted(tmp_path.glob("*/*.jsonl")) for r in read(path)]
