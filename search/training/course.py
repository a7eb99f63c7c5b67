"""The course of a training, whatever is trained: epochs, curves, checkpoints, and what ends it."""

import functools
import math
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from search.training.checkpoint import State
from search.training.outcome import Epoch, Trained

CHECKPOINT_SECONDS = 10.0  # at least so long between two checkpoints


def settled(function):
    """Global settings are put back afterwards, and a GPU that is named is the current one meanwhile."""

    @functools.wraps(function)
    def wrapper(*args, device: str | torch.device = "cpu", **options):
        precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
        device = torch.device(device)
        try:
            with (
                torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
                torch.random.fork_rng([device] if device.type == "cuda" else []),
            ):
                return function(*args, device=device, **options)
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.set_num_threads(threads)

    return wrapper


class Course(Protocol):
    """Networks of one configuration that are trained side by side, a member a seed."""

    seeds: list[int]
    state: State

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of."""
        ...

    def epoch(self, epoch: int) -> list[float]:
        """Train for one epoch, numbered from 0; the mean loss of each member."""
        ...

    def measured(self, losses: list[float], seconds: float) -> list[Epoch]:
        """Add the epoch that has been trained to the curves, with its validation scores."""
        ...

    def results(self, stopped: str | None, seconds: float) -> list[Trained]:
        """The members."""
        ...


def followed(
    run: Course,
    epochs: int,
    on_epoch: Callable[[int, list[Epoch]], bool | None] | None,
    checkpoint: Path | None,
) -> list[Trained]:
    """Train to the last epoch, from the checkpoint where there is one; the arguments are those of `train`."""
    if checkpoint and checkpoint.exists():
        run.state.resume(checkpoint, run.identity())
    start, before = time.perf_counter(), run.state.seconds
    done = saved = len(run.state.curves[0])
    stopped, written = None, start

    def save(checkpoint: Path) -> None:
        nonlocal saved, written
        run.state.seconds = before + time.perf_counter() - start
        run.state.save(checkpoint, run.identity())
        saved, written = len(run.state.curves[0]), time.perf_counter()

    for epoch in range(done, epochs):
        losses = run.epoch(epoch)
        latest = run.measured(losses, before + time.perf_counter() - start)
        bad = [seed for seed, loss in zip(run.seeds, losses) if not math.isfinite(loss)]
        if bad:
            stopped = f"nan: the loss of seed {bad[0]} was not finite in epoch {epoch + 1}"
            break
        if checkpoint and (time.perf_counter() - written > CHECKPOINT_SECONDS or epoch + 1 == epochs):
            save(checkpoint)
        try:
            ended = on_epoch and on_epoch(epoch + 1, latest)
        except BaseException:  # it is cut off here, for whatever reason: nothing of it is trained twice
            if checkpoint and saved < epoch + 1:
                with suppress(OSError):
                    save(checkpoint)
            raise
        if ended:
            stopped = "pruned" if epoch + 1 < epochs else None
            break
    return run.results(stopped, before + time.perf_counter() - start)
