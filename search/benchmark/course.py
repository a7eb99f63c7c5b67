"""What a network is trained on, how, and what judges it."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search import signals
from search.benchmark.examples import Examples
from search.benchmark.photographs import Enlarging
from search.benchmark.processes import Processes
from search.benchmark.recipe import Recipe
from search.benchmark.setup import Setup
from search.benchmark.tasks import Task
from search.benchmark.views import View, in_order, loader, whole
from search.errors import UserError


@dataclass(frozen=True)
class Course:
    """All that a training follows from, beside the network.

    Images are (C, H, W), C `channels`, and normalised by mean and deviation of each channel on a scale of 0 to 1.
    """

    recipe: Recipe
    task: Task
    train: Examples
    validation: Examples | None
    classes: int
    channels: int
    mean: list[float]
    deviation: list[float]
    seed: int

    def view(self, examples: Examples, training: str | None = None) -> View:
        """The examples as the network sees them: `training` "all" or "flips", None at test."""
        if self.task.scale:
            return Enlarging(examples, self.recipe, self.channels, self.task.scale, training)
        return View(examples, self.recipe, self.channels, self.task.masks, training)

    def normalised(self, images: Tensor, setup: Setup) -> Tensor:
        """(N, C, H, W) of 0 to 255 -> floats with mean 0 and deviation 1."""
        mean, deviation = (
            torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.deviation)
        )
        images = (images.float() / 255 - mean) / deviation
        return images.contiguous(memory_format=torch.channels_last) if setup.channels_last else images


@torch.no_grad()
def scores(
    network: nn.Module, course: Course, examples: Examples, processes: Processes, exact: bool = False
) -> dict[str, float]:
    """Of a network on a process's device, the metric first; `exact` in 32 bits whatever the setup says.

    Images of a dense task come one by one: they may differ in size. Raises UserError for one that can't be read.
    """
    share = processes.share
    batch = 1 if course.task.dense else max(1, course.recipe.batch // (share.world * share.accumulate))
    view, total = course.view(examples), torch.zeros((), dtype=torch.int64, device=processes.device)
    network.eval()
    for read in loader(view, in_order(len(examples), batch, share), processes.setup.workers):
        images, targets = (tensor.to(processes.device) for tensor in whole(read))
        with nullcontext() if exact else processes.casting():
            outputs = network(course.normalised(images, processes.setup))
        total = total + course.task.counts(outputs.float(), targets)
        if share.world == 1:
            signals.check()
    network.train()
    if not total.ndim:
        raise UserError("there are no images to judge by")
    return course.task.scores(processes.sum(total))
