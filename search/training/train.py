"""Training: all members of a stack at once, the whole data set on the device, deterministic under the seeds.

One member per seed. A member's initial weights, data order and augmentation follow from its own seed and the epoch
alone, so that its result does not depend on its neighbours (up to the order of floating-point sums; dropout's masks do)
and a training that was cut off goes on from its last checkpoint as if nothing had happened.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from search import signals
from search.data.split import Split
from search.errors import UserError
from search.training.augment import moves
from search.training.checkpoint import State
from search.training.course import followed, settled
from search.training.evaluate import accuracy, recalibrate
from search.training.images import Images, reduced
from search.training.optimizer import Optimizer
from search.training.outcome import Epoch, Trained
from search.training.recipe import MULTIPLE, Recipe
from search.training.step import Step
from wavemix.config import LiteConfig
from wavemix.kernels import LANES
from wavemix.stack import Stack


@settled
def train(
    config: LiteConfig,
    recipe: Recipe,
    data: Split,
    seeds: Sequence[int],
    *,
    validation: Split | None = None,
    on_epoch: Callable[[int, list[Epoch]], bool | None] | None = None,
    checkpoint: Path | None = None,
    device: str | torch.device = "cpu",
) -> list[Trained]:
    """Train one member per seed on `data`, all at once.

    After each epoch `on_epoch(epoch, [one Epoch a member])` is called; when it returns True, training stops
    ('pruned'). A loss that is not finite stops it with the reason. With `checkpoint`, the state is written there
    after each epoch (at most every 10 seconds), and an existing checkpoint of the same training is gone on from, also
    one from another device; a damaged one is set aside, one of another training raises UserError. Accuracies are those
    of the averaged weights.
    """
    check_fit(config, data)
    check_batch(recipe)
    run = _Run(config, recipe, data, list(seeds), validation, torch.device(device))
    return followed(run, recipe.epochs, on_epoch, checkpoint)


class _Run:
    """A training while it runs. The arguments are those of `train`."""

    def __init__(
        self,
        config: LiteConfig,
        recipe: Recipe,
        data: Split,
        seeds: list[int],
        validation: Split | None,
        device: torch.device,
    ):
        self.config, self.recipe, self.data, self.seeds, self.device = config, recipe, data, seeds, device
        # a batch larger than the data set is cut to it
        self.batch = min(recipe.batch_size, len(data.labels) // MULTIPLE * MULTIPLE)
        if self.batch == 0:
            raise UserError(f"{data.label} has {len(data.labels)} training images: at least {MULTIPLE} are needed")
        self.steps = len(data.labels) // self.batch
        self.stack, self.images = Stack(config, seeds, device, recipe.precision), Images(data, device)
        stack = self.stack
        self.held_out = Images(validation, device, like=self.images) if validation else None
        self.small = Images(reduced(data, config), device, like=self.images) if recipe.progressive else self.images
        if recipe.branch != 1:
            with torch.no_grad():
                for name in set(stack.affines):
                    stack.views(stack.flat)[f"{name}.weight"].mul_(recipe.branch)
        self.state = State(stack, Optimizer(stack, recipe), stack.flat.detach().clone(), [[] for _ in seeds])
        self.step = Step(stack, self.state.optimizer, recipe, self.state.average)
        if device.type == "cuda":
            torch.compiler.reset()  # what was compiled for other networks counts against its limit
            torch.set_float32_matmul_precision("high")  # products of 11-bit factors, as cuDNN's by default, sums of 24
        elif stack.in_kernels(self.batch // LANES, *data.images.shape[2:]):
            torch.set_num_threads(1)  # the rest of a step is too small for more, which would wait on the kernels' cores

    def identity(self) -> dict:
        """What a checkpoint must be of."""
        return {
            "config": self.config.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "seeds": self.seeds,
            "data": self.data.digest,
            "count": len(self.data.labels),
        }

    def epoch(self, epoch: int) -> list[float]:
        """Train for one epoch, numbered from 0; the mean loss of each member."""
        recipe, steps, batch = self.recipe, self.steps, self.batch
        total = steps * recipe.epochs
        horizon = max(1.0, recipe.average * total)
        order, drawn = self._drawn(epoch)
        source = self.small if epoch < round(recipe.progressive * recipe.epochs) else self.images
        self.step.losses.zero_()
        for number in range(steps):
            signals.check()
            at = slice(number * batch, (number + 1) * batch)
            # the average starts with the horizon of the steps so far, so that it never remembers the initial weights
            age = epoch * steps + number
            self.step(
                source,
                order[:, at],
                [None if part is None else part[:, at] for part in drawn],
                recipe.lr * schedule(age / total, recipe.warmup, recipe.anneal),
                max(1 / horizon, 1 / (1 + 0.1 * age)),
            )
        return (self.step.losses / steps).tolist()

    def _drawn(self, epoch: int) -> tuple[Tensor, list[Tensor | None]]:
        """What chance decides in an epoch, by member and image: order, moves, centres of holes, shares of another."""
        if self.config.dropout:
            torch.manual_seed(self.seeds[0] * 100003 + epoch)  # masks are drawn for all members at once
        recipe, order, move, hole, share = self.recipe, [], [], [], []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(seed * 100003 + epoch)
            order.append(torch.randperm(len(self.data.labels), generator=generator)[: self.steps * self.batch])
            move.append(moves(recipe, order[-1], epoch, seed, generator))
            hole.append(torch.rand(len(order[-1]), 2, generator=generator) if recipe.cutout else None)
            share.append(torch.rand(len(order[-1]), generator=generator) * recipe.mixup if recipe.mixup else None)
        drawn = [None if part[0] is None else torch.stack(part).to(self.device) for part in (move, hole, share)]
        return torch.stack(order).to(self.device), drawn

    def measured(self, losses: list[float], seconds: float) -> list[Epoch]:
        """Add the epoch that has been trained to the curves, with its validation accuracies."""
        state = self.state
        accuracies: Sequence[float | None] = [None] * len(losses)
        if self.held_out:
            statistics = recalibrate(self.stack, state.average, self.images)
            accuracies = accuracy(self.stack, state.average, statistics, self.held_out)
        for curve, loss, reached in zip(state.curves, losses, accuracies):
            number = len(curve) + 1
            curve.append(Epoch(epoch=number, train_loss=loss, accuracy=reached, seconds=round(seconds, 3)))
        return [curve[-1] for curve in state.curves]

    def results(self, stopped: str | None, seconds: float) -> list[Trained]:
        """The members, with averaged weights and the statistics that go with them."""
        state, results = self.state, []
        statistics = recalibrate(self.stack, state.average, self.images)
        for member, (seed, curve) in enumerate(zip(self.seeds, state.curves)):
            trained = Trained(
                seed=seed, curve=curve, accuracy=curve[-1].accuracy, stopped=stopped, seconds=round(seconds, 3)
            )
            trained.state.update(self.stack.state(member, state.average, statistics))
            results.append(trained)
        return results


def check_fit(config: LiteConfig, data: Split) -> None:
    """Raise UserError where a network does not take these images, saying what differs."""
    if (config.in_channels, config.num_classes) != (data.images.shape[1], len(data.classes)):
        raise UserError(
            f"the network takes {config.in_channels} channels and {config.num_classes} classes, {data.label} has "
            f"{data.images.shape[1]} and {len(data.classes)}: change the configuration"
        )
    try:
        config.check_image_size(*data.images.shape[-2:])
    except ValueError as error:
        raise UserError(f"the configuration does not fit {data.label}: {error}") from error


def check_batch(recipe: Recipe) -> None:
    """Raise UserError where the kernels can't take a recipe's batches."""
    if recipe.batch_size % MULTIPLE:
        raise UserError(f"batch_size is {recipe.batch_size}: classification takes multiples of {MULTIPLE}")


def schedule(progress: float, warmup: float, anneal: str = "linear") -> float:
    """Learning rate as a fraction of its peak: up over `warmup`, then down to zero."""
    height = progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)
    return height if anneal == "linear" else 0.5 - 0.5 * math.cos(math.pi * height)
