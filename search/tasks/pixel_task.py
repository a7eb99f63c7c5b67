"""Training for tasks on pixels: patches of images, a plain PyTorch loop, the seeds of a step one after another.

As in `search.training.train` a member's weights, patches and their order follow from its own seed and the epoch alone,
and a training that was cut off goes on from its checkpoint as if nothing had happened.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search import signals
from search.data.pictures import Pictures
from search.data.split import Portion
from search.errors import UserError
from search.tasks.members import Members
from search.tasks.patches import DRAWN, Examples, batch
from search.tasks.task import Measured, OnEpoch, State, Task, mismatch
from search.training.checkpoint import State as Kept
from search.training.course import followed, settled
from search.training.images import spread
from search.training.optimizer import Optimizer
from search.training.outcome import Epoch, Trained
from search.training.recipe import Recipe
from search.training.train import schedule
from wavemix.config import LiteConfig
from wavemix.lite import WaveMixLite

RECALIBRATION, PORTION = 64, 16  # patches that BatchNorm's statistics are measured on, and how many at once
FEWEST_PIXELS = 8  # an edge of a patch


Loss = Callable[[Tensor, Tensor], Tensor]


class PixelTask(Task):
    """What tasks on pixels have in common."""

    losses: tuple[str, ...]

    @abstractmethod
    def examples(self, data: Pictures) -> Examples:
        """Inputs and targets of all images, with the normalisation that these data give."""

    @abstractmethod
    def loss(self, recipe: Recipe, data: Pictures) -> Loss:
        """A function of the output and the target of a batch."""

    @abstractmethod
    def judged(self, network: nn.Module, examples: Examples, data: Pictures, beside: bool) -> Measured:
        """What a network in evaluation mode comes to on all images; other measures only where asked for."""

    def network(self, config: LiteConfig) -> nn.Module:
        """One to be trained, with its first weights."""
        return WaveMixLite(config)

    def check(self, config: LiteConfig, recipe: Recipe, data: Portion) -> None:
        mismatch(config, {"task": self.name, **self.own(data)}, data.label)
        self.check_recipe(recipe, data)

    def check_recipe(self, recipe: Recipe, data: Portion) -> None:
        if recipe.loss is not None and recipe.loss not in self.losses:
            raise UserError(f"loss {recipe.loss!r} is none of {self.name}: {', '.join(self.losses)}")
        for name in ("cutout", "mixup", "progressive", "shift", "rotate", "shear"):
            if getattr(recipe, name):
                raise UserError(f"the recipe's {name} is for classification: leave it out for {self.name}")
        smallest = min(self.sizes(pictures(data)), key=min)
        least = "x".join(map(str, smallest))
        if recipe.patch:
            if not FEWEST_PIXELS <= recipe.patch <= min(smallest):
                raise UserError(
                    f"patches of {recipe.patch} pixels can't be cut from {data.label}: its smallest training image "
                    f"gives {least} (height x width), and {FEWEST_PIXELS} is the least; choose another --recipe patch"
                )
        elif len(set(self.sizes(pictures(data)))) > 1 or recipe.scale or recipe.turns:
            raise UserError(
                "whole images are trained on (patch 0) only where all have one size, without scale and turns"
            )

    def sizes(self, data: Pictures) -> list[tuple[int, int]]:
        """Height and width of what the network is given of each image."""
        return [(image.shape[-2], image.shape[-1]) for image in data.images]

    @settled
    def train(
        self,
        config: LiteConfig,
        recipe: Recipe,
        data: Portion,
        seeds: Sequence[int],
        *,
        validation: Portion | None = None,
        on_epoch: OnEpoch | None = None,
        checkpoint: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> list[Trained]:
        self.check(config, recipe, data)
        held_out = None if validation is None else pictures(validation)
        run = _Run(self, config, recipe, pictures(data), list(seeds), held_out, torch.device(device))
        return followed(run, recipe.epochs, on_epoch, checkpoint)

    def measure(self, config: LiteConfig, states: Sequence[State], train: Portion, test: Portion) -> Measured:
        networks = []
        for state in states:
            networks.append(self.network(config))
            networks[-1].load_state_dict(dict(state))
        return self.tested(networks, self.normalisation(train), test)

    def tested(self, networks: Sequence[nn.Module], normalisation: tuple[Tensor, Tensor], test: Portion) -> Measured:
        """Scores and all other measures of networks on `test`; `normalisation` is that of what they were trained on."""
        examples = _normalised_like(self.examples(pictures(test)), *normalisation)
        found = Measured()
        for network in networks:
            found.add(self.judged(network.eval(), examples, pictures(test), beside=True))
        return found


def pictures(data: Portion) -> Pictures:
    if not isinstance(data, Pictures):
        raise TypeError("a task on pixels takes pictures")
    return data


def _normalised_like(examples: Examples, mean: Tensor, deviation: Tensor) -> Examples:
    return Examples(examples.inputs, examples.targets, examples.factor, mean, deviation)


class _Run:
    """A training while it runs. The arguments are those of `Task.train`."""

    def __init__(
        self,
        task: PixelTask,
        config: LiteConfig,
        recipe: Recipe,
        data: Pictures,
        seeds: list[int],
        validation: Pictures | None,
        device: torch.device,
    ):
        self.task, self.config, self.recipe, self.data, self.seeds = task, config, recipe, data, seeds
        self.device, self.validation = device, validation
        self.examples = task.examples(data)
        self.loss = task.loss(recipe, data)
        self.held_out = None
        if validation is not None:
            self.held_out = _normalised_like(task.examples(validation), self.examples.mean, self.examples.deviation)
        total = len(data) * recipe.patches
        self.batch = min(recipe.batch_size, total)
        self.steps = total // self.batch
        self.members = Members(lambda: task.network(config), seeds, device)
        self.optimizer = Optimizer(self.members, recipe)
        self.average = self.members.flat.clone()
        self.state = Kept(self.members, self.optimizer, self.average, [[] for _ in seeds])

    def identity(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "seeds": self.seeds,
            "data": self.data.digest,
            "count": len(self.data),
        }

    def epoch(self, epoch: int) -> list[float]:
        recipe, total = self.recipe, self.steps * self.recipe.epochs
        horizon = max(1.0, recipe.average * total)
        drawn = [self._drawn(seed, epoch) for seed in self.seeds]
        losses = torch.zeros(len(self.seeds), dtype=torch.float64)
        for number in range(self.steps):
            signals.check()
            at, age = slice(number * self.batch, (number + 1) * self.batch), epoch * self.steps + number
            self.members.gradient.zero_()
            for member, (order, chance) in enumerate(drawn):
                x, y = batch(self.examples, order[at], chance[at], recipe)
                found = self.examples.restored(self.members.networks[member](x.to(self.device)))
                loss = self.loss(found, y.to(self.device))
                loss.backward()
                losses[member] += float(loss.detach())
            lr = recipe.lr * schedule(age / total, recipe.warmup, recipe.anneal)
            self.optimizer.step(self.members.gradient, *self.optimizer.factors(lr))
            self.average.lerp_(self.members.flat, max(1 / horizon, 1 / (1 + 0.1 * age)))
        return (losses / self.steps).tolist()

    def _drawn(self, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """The images of an epoch in their order, each `patches` times, and what chance decides of each patch."""
        generator = torch.Generator().manual_seed(seed * 100003 + epoch)
        if self.config.dropout:
            torch.manual_seed(seed * 100003 + epoch)
        order = torch.randperm(len(self.data) * self.recipe.patches, generator=generator) % len(self.data)
        return order, torch.rand(len(order), DRAWN, generator=generator)

    def _network(self, member: int) -> nn.Module:
        """A member's with averaged weights, and statistics of patches that are the same for every epoch and member."""
        plain = self.recipe.model_copy(update={"scale": 0.0, "colour": 0.0, "flip": False, "turns": False})
        total = len(self.data) * self.recipe.patches
        index = spread(total, min(RECALIBRATION, total)) % len(self.data)
        chance = torch.rand(len(index), DRAWN, generator=torch.Generator().manual_seed(0))
        parts = zip(index.split(PORTION), chance.split(PORTION))
        inputs = [batch(self.examples, numbers, rows, plain)[0].to(self.device) for numbers, rows in parts]
        return self.members.with_weights(member, self.average, inputs)

    def measured(self, losses: list[float], seconds: float) -> list[Epoch]:
        for member, (curve, loss) in enumerate(zip(self.state.curves, losses)):
            score = None
            if self.held_out is not None and self.validation is not None:
                network = self._network(member)
                (score,) = self.task.judged(network, self.held_out, self.validation, beside=False).scores
            curve.append(Epoch(epoch=len(curve) + 1, train_loss=loss, accuracy=score, seconds=round(seconds, 3)))
        return [curve[-1] for curve in self.state.curves]

    def results(self, stopped: str | None, seconds: float) -> list[Trained]:
        results = []
        for member, (seed, curve) in enumerate(zip(self.seeds, self.state.curves)):
            trained = Trained(
                seed=seed, curve=curve, accuracy=curve[-1].accuracy, stopped=stopped, seconds=round(seconds, 3)
            )
            state = self._network(member).state_dict()
            trained.state.update({name: value.detach().cpu().clone() for name, value in state.items()})
            results.append(trained)
        return results
