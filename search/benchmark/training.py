"""The loop that trains a network by a recipe, alone or with other processes, on whatever device.

One process and several come to the same, by construction and up to rounding: a step's images, and what is random about
each, follow from seed and place (`views`); BatchNorm's statistics are those of all processes' images (`norms`), so that
running ones are equal everywhere; a loss is a sum over all processes by a weight over all; averages and the choice of
an epoch are made of these alone, on counts that are whole numbers summed over all. But for dropout, whose masks are
each process's own.
"""

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from search import signals
from search.benchmark.checkpoint import Checkpoint, load_optimizer, load_state
from search.benchmark.course import Course, scores
from search.benchmark.moments import Epoch, Moment, Watch
from search.benchmark.optimizers import optimizer_of
from search.benchmark.processes import Processes
from search.benchmark.recipe import Phase
from search.benchmark.snapshots import Snapshot
from search.benchmark.views import Draws, loader, mixed, seed_of, whole
from search.errors import UserError
from search.training.train import schedule

AGREE = 16  # steps after which several processes look whether one of them has been told to end, or it is time to save


class Progress(BaseModel):
    """How far a training has come: the next step to take, and what has been decided. `waited`: epochs since the best
    one in this phase; `loss`: the sum over the steps of the epoch; `updates`: all steps so far."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    updates: int = 0
    loss: float = 0.0
    best: float | None = None
    best_at: tuple[int, int] | None = None
    waited: int = 0
    seconds: float = 0.0  # of this epoch
    curve: list[Epoch] = []
    scaler: dict[str, float] | None = None


class Training:
    """A training while it runs; `run` ends with the network's weights being those that the recipe hands on."""

    def __init__(
        self, network: nn.Module, course: Course, processes: Processes, path: Path, identity: dict, watch: Watch
    ):
        """`path` is the checkpoint's, `identity` what tells it from those of other trainings. Raises UserError."""
        _check(course, processes)
        self.course, self.processes, self.watch = course, processes, watch
        self.network, self.model = processes.prepared(network)
        self.checkpoint = Checkpoint(path, identity, processes)
        self.progress = Progress()
        self.average = Snapshot(self.network) if course.recipe.average else None
        self.best = Snapshot(self.network)
        self.steps = len(course.train) // course.recipe.batch
        self.loss = torch.zeros((), device=processes.device)  # this process's part, since the last checkpoint
        self.optimizer: Any = None
        self.saved = time.monotonic()

    def run(self) -> Progress:
        """Go on from the checkpoint, where there is one, to the end.

        Raises UserError where the loss is no number, an image can't be read or another process has gone;
        KeyboardInterrupt after a signal, with the state saved.
        """
        try:
            with signals.deferred():
                self._resume()
                for number in range(self.progress.phase, len(self.course.recipe.phases)):
                    self._phase(number)
        except (RuntimeError, torch.distributed.DistError) as error:
            if self.processes.share.world > 1 and _is_lost(error):
                raise UserError(
                    "another process of this training has gone: start all again, to go on from the last checkpoint"
                ) from error
            raise
        return self.progress

    # ---------------------------------------------------------------------------------------------- phases and epochs

    def _phase(self, number: int) -> None:
        phase, progress = self.course.recipe.phases[number], self.progress
        if self.optimizer is None:
            self._begin(phase)
        while progress.epoch < phase.epochs and not (phase.patience and progress.waited >= phase.patience):
            self._epoch(number, phase)
        if phase.patience:
            self.best.give()
            if self.average:
                self.average.take()
        else:
            if self.average:
                self.average.give()
            self.best.take()
            progress.best = progress.best_at = None
        progress.phase, progress.epoch, progress.waited, self.optimizer = number + 1, 0, 0, None
        self._save()

    def _begin(self, phase: Phase) -> None:
        accelerator = self.processes.accelerator
        accelerator._optimizers.clear()  # those of earlier phases are gone, and gradients are unscaled for all it knows
        self.optimizer = accelerator.prepare_optimizer(optimizer_of(self.network, phase))

    def _epoch(self, number: int, phase: Phase) -> None:
        progress, course = self.progress, self.course
        began = time.monotonic() - progress.seconds
        seeds = (course.seed, number, progress.epoch)
        draws = Draws(len(course.train), course.recipe.batch, seeds, self.processes.share, progress.step)
        view = course.view(course.train, phase.augment)
        batches = iter(loader(view, draws, self.processes.setup.workers, self.processes.device.type == "cuda"))
        self.model.train()
        lr = phase.lr
        while progress.step < self.steps:
            lr = self._rate(phase)
            self._step(batches, seeds, phase)
            progress.step += 1
            progress.updates += 1
            progress.seconds = time.monotonic() - began
            moment = (number, len(course.recipe.phases), progress.epoch, phase.epochs, progress.step, self.steps)
            self.watch(Moment(*moment))
            if progress.step < self.steps:
                self._look()
        loss = (progress.loss + float(self.processes.sum(self.loss))) / self.steps
        if not math.isfinite(loss):
            raise UserError(f"the loss is {loss} in phase {number + 1}, epoch {progress.epoch + 1}: try a smaller lr")
        score = self._judge(phase)
        progress.epoch += 1
        ended = Epoch(phase=number + 1, epoch=progress.epoch, loss=loss, score=score, lr=lr, seconds=progress.seconds)
        progress.curve.append(ended)
        progress.step, progress.loss, progress.seconds = 0, 0.0, 0.0
        self.loss.zero_()
        self.watch(Moment(number, len(course.recipe.phases), progress.epoch, phase.epochs, 0, self.steps, ended))
        logged = {"loss": loss, "lr": lr} | ({} if score is None else {"score": score})
        self.processes.log(self.checkpoint.path.parent.name, logged, progress.updates)
        self._look(always=True)

    def _judge(self, phase: Phase) -> float | None:
        """The score of the validation images, where there are any; the best weights so far are kept."""
        progress = self.progress
        if self.course.validation is None:
            return None
        with self.average.in_place() if self.average else nullcontext():
            score = next(iter(scores(self.network, self.course, self.course.validation, self.processes).values()))
            if phase.patience:
                progress.waited += 1
                if progress.best is None or score > progress.best:
                    progress.best, progress.best_at, progress.waited = score, (progress.phase, progress.epoch), 0
                    self.best.take()
        return score

    # ------------------------------------------------------------------------------------------------------- one step

    def _rate(self, phase: Phase) -> float:
        """Set the learning rate of the next step, and return it."""
        lr = phase.lr
        if phase.schedule != "constant":
            done, total = self.progress.epoch * self.steps + self.progress.step, phase.epochs * self.steps
            lr *= schedule((done + (1 if phase.warmup else 0)) / (total + 1), phase.warmup, phase.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _step(self, batches: Any, seeds: tuple[int, ...], phase: Phase) -> None:
        course, processes, progress = self.course, self.processes, self.progress
        share, recipe = processes.share, course.recipe
        torch.manual_seed(seed_of(*seeds, progress.step, share.rank, 1))  # dropout's
        width = recipe.batch // (share.world * share.accumulate)
        for part in range(share.accumulate):
            images, targets = (tensor.to(processes.device, non_blocking=True) for tensor in whole(next(batches)))
            images = course.normalised(images, processes.setup)
            if recipe.mixing and phase.augment == "all":
                first = progress.step * recipe.batch + (part * share.world + share.rank) * width
                images, targets = mixed(images, targets, recipe, course.classes, seed_of(*seeds, 2) + first // 2)
            alone = part == share.accumulate - 1  # gradients are summed over processes after the last part
            with nullcontext() if alone else processes.adding(self.model):
                with processes.casting():
                    outputs = self.model(images)
                summed, weight = course.task.loss(outputs, targets)
                total = processes.sum(weight.detach()).clamp_min(1e-12) * share.accumulate
                processes.accelerator.backward((summed * share.world / total).sum())
            self.loss += (summed.detach() / total).sum()
        if recipe.clip:
            processes.accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            age = progress.updates
            self.average.approach(1 - min(recipe.average, (1 + age) / (10 + age)))

    # ---------------------------------------------------------------------------------------------------- checkpoints

    def _look(self, always: bool = False) -> None:
        """Save where it is time to; end where a signal has come, to this process or another one."""
        if not always and self.processes.share.world > 1 and self.progress.step % AGREE:
            return
        due = time.monotonic() - self.saved >= self.processes.setup.save_every
        ending, due = self.processes.agreed(signals.received is not None, due)
        if ending or due:
            self._save()
        if ending:
            raise KeyboardInterrupt

    def _save(self) -> None:
        progress, scaler = self.progress, self.processes.accelerator.scaler
        progress.loss += float(self.processes.sum(self.loss))
        self.loss.zero_()
        progress.scaler = scaler.state_dict() if scaler is not None else None
        kept = {"best": self.best} | ({"average": self.average} if self.average else {})
        self.checkpoint.write(
            self.network, kept, self.optimizer and self.optimizer.optimizer, progress.model_dump_json()
        )
        self.saved = time.monotonic()

    def _resume(self) -> None:
        found = self.checkpoint.read()
        if found is None:
            return
        text, kinds = found
        self.progress = progress = Progress.model_validate_json(text)
        for kind, snapshot in (("best", self.best), ("average", self.average)):
            if snapshot is not None:
                load_state(self.network, kinds[kind])
                snapshot.take()
        load_state(self.network, kinds["network"])
        if "optimizer" in kinds:
            self._begin(self.course.recipe.phases[progress.phase])
            load_optimizer(self.network, self.optimizer.optimizer, kinds["optimizer"])
        if progress.scaler is not None and self.processes.accelerator.scaler is not None:
            self.processes.accelerator.scaler.load_state_dict(progress.scaler)


def _check(course: Course, processes: Processes) -> None:
    """Raises UserError where a batch can't be divided among the processes, or the images are fewer than one."""
    recipe, count = course.recipe, len(course.train)
    parts = processes.share.world * processes.share.accumulate * (2 if recipe.mixing else 1)
    if recipe.batch % parts:
        raise UserError(f"a batch of {recipe.batch} images can't be divided into {parts} equal parts")
    if count < recipe.batch:
        raise UserError(f"{count} training images are fewer than a batch of {recipe.batch}: set the recipe's batch")


def _is_lost(error: Exception) -> bool:
    """Whether it is what NCCL or Gloo say of a process that has gone."""
    said = str(error).lower()
    words = ("connection", "peer", "gloo", "nccl", "timed out", "socket", "store")
    return isinstance(error, torch.distributed.DistError) or any(word in said for word in words)
