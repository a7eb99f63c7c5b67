"""Training: all members of a stack at once, the whole data set on the device, deterministic under the seeds.

One member per seed. A member's initial weights, data order and augmentation follow from its own seed and the epoch
alone, so that its result does not depend on its neighbours (up to the order of floating-point sums; dropout's masks do)
and a training that was cut off goes on from its last checkpoint as if nothing had happened.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, PrivateAttr
from torch import Tensor

from wavemix.config import LiteConfig
from wavemix.kernels import LANES
from wavemix.stack import Stack, Statistics

from . import signals
from .datasets import Split
from .errors import UserError
from .images import Images, spread
from .optimizer import Optimizer
from .recipe import MULTIPLE, Recipe, filled
from .step import Step
from .tensors import Damaged, read, write
from .whole import set_aside

RECALIBRATION = 2048  # training images that BatchNorm's statistics are measured on before an evaluation
EVALUATION = 1024  # images a forward pass of an evaluation
CHECKPOINT_SECONDS = 10.0  # at least so long between two checkpoints


class Epoch(BaseModel):
    """One epoch of one member. `accuracy` is on the validation images (None without), `seconds` since the start."""

    epoch: int
    train_loss: float
    accuracy: float | None
    seconds: float


class Trained(BaseModel):
    """One member after training. `stopped` is None, 'pruned' or 'nan: ...'; `accuracy` is the last epoch's."""

    seed: int
    curve: list[Epoch]
    accuracy: float | None
    stopped: str | None
    seconds: float
    _state: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    @property
    def state(self) -> dict[str, Tensor]:
        """Averaged weights and BatchNorm statistics: the state dict of `WaveMixLite(config)`."""
        return self._state


def moves(recipe: Recipe, order: Tensor, epoch: int, seed: int, generator: torch.Generator) -> Tensor | None:
    """Random affine maps (N, 6) of the images `order` (N,) in one epoch; None where the recipe moves nothing."""
    if not (recipe.shift or recipe.rotate or recipe.scale or recipe.shear or recipe.flip):
        return None
    count = len(order)
    u = torch.rand(6, count, generator=generator) * 2 - 1
    angle, size = u[0] * math.radians(recipe.rotate), 1 + u[1] * recipe.scale
    cos, sin = angle.cos() / size, angle.sin() / size
    shear = u[2] * recipe.shear
    mirror = torch.ones(count)
    if recipe.flip:  # alternating flip: an image seen mirrored in one epoch is not in the next (airbench, 2024)
        first = torch.rand(int(order.max()) + 1, generator=torch.Generator().manual_seed(seed)) < 0.5
        mirror = torch.where(first[order] ^ bool(epoch % 2), -1.0, 1.0)
    dy, dx = u[3] * recipe.shift, u[4] * recipe.shift
    return torch.stack([cos, sin, dy, (-sin + shear * cos) * mirror, (cos + shear * sin) * mirror, dx], 1)


def _settled(function):
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


@_settled
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
    stack, images = Stack(config, list(seeds), device), Images(data, device)
    held_out = Images(validation, device, like=images) if validation else None
    small = Images(reduced(data, config), device, like=images) if recipe.progressive else images
    if recipe.branch != 1:
        with torch.no_grad():
            for name in stack.norms:
                stack.views(stack.flat)[f"{name}.weight"].mul_(recipe.branch)
    optimizer = Optimizer(stack, recipe)
    if device.type == "cuda":
        torch.compiler.reset()  # what was compiled for other networks counts against its limit
        torch.set_float32_matmul_precision("high")  # products of 11-bit factors, as cuDNN's are by default, sums of 24
    average = stack.flat.detach().clone()
    # a batch larger than the data set is cut to it
    batch = min(recipe.batch_size, len(data.labels) // MULTIPLE * MULTIPLE)
    if batch == 0:
        raise UserError(f"{data.label} has {len(data.labels)} training images: at least {MULTIPLE} are needed")
    steps = len(data.labels) // batch
    total, members = steps * recipe.epochs, len(seeds)
    horizon = max(1.0, recipe.average * total)
    if stack.in_kernels(batch // LANES, *data.images.shape[2:]):
        torch.set_num_threads(1)  # the rest of a step is too small for more, which would wait on the kernels' cores
    step = Step(stack, optimizer, recipe, average)
    curves: list[list[Epoch]] = [[] for _ in seeds]
    identity = {
        "config": config.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "seeds": list(seeds),
        "data": data.digest,
        "count": len(data.labels),
    }
    start, saved, spent, stopped = time.perf_counter(), time.perf_counter(), 0.0, None
    if checkpoint and checkpoint.exists():
        spent = _resume(checkpoint, identity, stack, optimizer, average, curves)
    done = kept = len(curves[0])
    for epoch in range(done, recipe.epochs):
        if config.dropout:
            torch.manual_seed(seeds[0] * 100003 + epoch)  # masks are drawn for all members at once
        order, move, hole, share = [], [], [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed * 100003 + epoch)
            order.append(torch.randperm(len(data.labels), generator=generator)[: steps * batch])
            move.append(moves(recipe, order[-1], epoch, seed, generator))
            hole.append(torch.rand(len(order[-1]), 2, generator=generator) if recipe.cutout else None)
            share.append(torch.rand(len(order[-1]), generator=generator) * recipe.mixup if recipe.mixup else None)
        drawn = order, move, hole, share
        order, *drawn = (None if part[0] is None else torch.stack(part).to(device) for part in drawn)
        source = small if epoch < round(recipe.progressive * recipe.epochs) else images
        step.losses.zero_()
        for number in range(steps):
            signals.check()
            at = slice(number * batch, (number + 1) * batch)
            # the average starts with the horizon of the steps so far, so that it never remembers the initial weights
            age = epoch * steps + number
            step(
                source,
                order[:, at],
                [None if part is None else part[:, at] for part in drawn],
                recipe.lr * schedule(age / total, recipe.warmup, recipe.anneal),
                max(1 / horizon, 1 / (1 + 0.1 * age)),
            )
        seconds = spent + time.perf_counter() - start
        losses = (step.losses / steps).tolist()
        accuracies: list[float | None] = [None] * members
        if held_out:
            accuracies = accuracy(stack, average, recalibrate(stack, average, images), held_out)
        for curve, loss, reached in zip(curves, losses, accuracies):
            curve.append(Epoch(epoch=epoch + 1, train_loss=loss, accuracy=reached, seconds=round(seconds, 3)))
        bad = [seed for seed, loss in zip(seeds, losses) if not math.isfinite(loss)]
        if bad:
            stopped = f"nan: the loss of seed {bad[0]} was not finite in epoch {epoch + 1}"
            break
        if checkpoint and (time.perf_counter() - saved > CHECKPOINT_SECONDS or epoch + 1 == recipe.epochs):
            _save(checkpoint, identity, stack, optimizer, average, curves, spent + time.perf_counter() - start)
            saved, kept = time.perf_counter(), epoch + 1
        try:
            ended = on_epoch and on_epoch(epoch + 1, [curve[-1] for curve in curves])
        except BaseException:  # it is cut off here, for whatever reason: nothing of it is trained twice
            if checkpoint and kept < epoch + 1:
                with suppress(OSError):
                    _save(checkpoint, identity, stack, optimizer, average, curves, spent + time.perf_counter() - start)
            raise
        if ended:
            stopped = "pruned" if epoch + 1 < recipe.epochs else None
            break
    seconds = spent + time.perf_counter() - start
    statistics = recalibrate(stack, average, images)
    results = []
    for member, (seed, curve) in enumerate(zip(seeds, curves)):
        trained = Trained(
            seed=seed, curve=curve, accuracy=curve[-1].accuracy, stopped=stopped, seconds=round(seconds, 3)
        )
        trained._state = stack.state(member, average, statistics)
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


def reduced(data: Split, config: LiteConfig) -> Split:
    """`data` at the largest size below 0.72 of its own that fits the network: about half the work an image."""
    height, width = data.images.shape[2:]
    for size in range(int(0.72 * height), 7, -1):
        try:
            config.check_image_size(size, round(size * width / height))
        except ValueError:
            continue
        shape = size, round(size * width / height)
        images = [
            F.interpolate(part.float(), shape, mode="bilinear", antialias=True, align_corners=False).round().byte()
            for part in data.images.split(4096)
        ]
        return dataclasses.replace(data, images=torch.cat(images))
    return data


def schedule(progress: float, warmup: float, anneal: str = "linear") -> float:
    """Learning rate as a fraction of its peak: up over `warmup`, then down to zero."""
    height = progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)
    return height if anneal == "linear" else 0.5 - 0.5 * math.cos(math.pi * height)


@torch.no_grad()
def recalibrate(stack: Stack, flat: Tensor, images: Images) -> Statistics:
    """BatchNorm statistics under the weights `flat`, of one large batch of unmoved training images."""
    total = len(images.labels)
    index = spread(total, min(RECALIBRATION, total // MULTIPLE * MULTIPLE)).to(images.labels.device)
    parts = [stack(images.batch(index[None].expand(len(flat[at]), -1)), flat[at])[1] for at in _portions(flat)]
    return {name: tuple(torch.cat(values) for values in zip(*(part[name] for part in parts))) for name in parts[0]}


def _portions(flat: Tensor) -> list[slice]:
    """Members that are evaluated together: on a GPU one at a time, since evaluation is not what its memory is for."""
    size = 1 if flat.is_cuda else len(flat)
    return [slice(first, first + size) for first in range(0, len(flat), size)]


@torch.no_grad()
def accuracy(stack: Stack, flat: Tensor, statistics: Statistics, held_out: Images) -> list[float]:
    """Fraction of `held_out` images classified right, by member."""
    right, count = torch.zeros(len(flat), dtype=torch.float64), len(held_out.labels)
    for start in range(0, count, EVALUATION):
        signals.check()
        size = min(EVALUATION, count - start)
        padded = -(-size // LANES) * LANES  # the last group is filled up with repetitions, which are not counted
        index = (start + torch.arange(padded)).clamp_max(count - 1).to(held_out.labels.device)
        for at in _portions(flat):
            given = {name: tuple(value[at] for value in values) for name, values in statistics.items()}
            logits, _ = stack(held_out.batch(index[None].expand(len(flat[at]), -1)), flat[at], given)
            right[at] += (logits[:, :size].argmax(2) == held_out.labels[index[:size]]).sum(1).cpu()
    return (right / count).tolist()


def evaluate(config: LiteConfig, states: list[dict[str, Tensor]], train_split: Split, split: Split) -> list[float]:
    """Accuracy of each state dict (of `Trained.state`) on `split`; normalisation comes from `train_split`."""
    stack = Stack(config, [0] * len(states))
    flat = torch.stack([torch.cat([state[name].flatten() for name in stack.shapes]) for state in states])
    names = [key.removesuffix(".running_mean") for key in stack.keys if key.endswith(".running_mean")]
    statistics = {
        name: tuple(
            torch.stack([state[f"{name}.{what}"] for state in states]) for what in ("running_mean", "running_var")
        )
        for name in names
    }
    device = torch.device("cpu")
    return accuracy(stack, flat, statistics, Images(split, device, like=Images(train_split, device)))


def _save(path: Path, identity: dict, stack: Stack, optimizer: Optimizer, average, curves, seconds: float) -> None:
    tensors = {
        "flat": stack.flat,
        "first": optimizer.first,
        "second": optimizer.second,
        "average": average,
    }
    progress = {
        "count": optimizer.count,
        "seconds": seconds,
        "curves": [[epoch.model_dump() for epoch in curve] for curve in curves],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, tensors, {"identity": json.dumps(identity, sort_keys=True), "progress": json.dumps(progress)})


def steps(path: Path) -> int | None:
    """How many steps of training a checkpoint holds: 0 where there is none, None where it is damaged."""
    try:
        return _progress(read(path)[0]).count
    except FileNotFoundError:
        return 0
    except Damaged:
        return None


class _Progress(BaseModel):
    count: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    curves: list[list[Epoch]]


def _progress(header: dict[str, str]) -> "_Progress":
    try:
        progress = _Progress.model_validate_json(header["progress"])
    except (KeyError, ValueError) as error:
        raise Damaged("it does not say how far it has come") from error
    if len({len(curve) for curve in progress.curves}) > 1:
        raise Damaged("its seeds are at different epochs")
    return progress


def _resume(path: Path, identity: dict, stack: Stack, optimizer: Optimizer, average, curves) -> float:
    """Go on from a checkpoint: the seconds it has taken. A damaged one is set aside, and nothing is changed."""
    targets = {"flat": stack.flat, "first": optimizer.first, "second": optimizer.second, "average": average}
    try:
        header, tensors = read(path)
        progress = _progress(header)
        written = _identity(header)
    except Damaged as error:
        set_aside(path, f"is a damaged checkpoint ({error}), so its training starts over")
        return 0.0
    fits = all(key in tensors and tensors[key].shape == target.shape for key, target in targets.items())
    if written != identity or not fits or len(progress.curves) != len(curves):
        raise UserError(f"{path} is the checkpoint of another training: delete it or name another one")
    with torch.no_grad():
        for key, target in targets.items():
            target.copy_(tensors[key])
    optimizer.count = progress.count
    for curve, epochs in zip(curves, progress.curves):
        curve.extend(epochs)
    return progress.seconds


def _identity(header: dict[str, str]) -> dict:
    """What training a checkpoint is of, with what was not known yet when it was written."""
    try:
        written = json.loads(header["identity"])
        if {"config", "recipe"} <= written.keys():
            written["recipe"] = filled(written["recipe"])
            written["config"] = LiteConfig.model_validate(written["config"]).model_dump(mode="json")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Damaged("it does not say what it is of") from error
    return written
