"""Latency and peak memory of a network, measured: by device, precision and memory layout, with their spread.

A pass is run some times that do not count, then as often as asked for; the figures are the median and the quartiles of
these. On a GPU a pass ends when its device has. Memory is measured in a pass of its own.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search.audit.cost import DTYPES, copy_on, one_line
from search.records.environment import device_name
from wavemix.torch_internals import allocations, tree_leaves

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass(frozen=True)
class Way:
    """How a network is run."""

    device: str = "cpu"  # or 'cuda', 'cuda:N'
    dtype: str = "float32"  # of `DTYPES`: of weights and images
    layout: str = "contiguous"  # of `LAYOUTS`
    batch: int = 1
    training: bool = False  # a training step (forward, backward, AdamW) in place of a forward pass


@dataclass(frozen=True)
class Speed:
    """What was measured. Memory: weights, images and all that the pass takes, at its peak."""

    way: Way
    device: str  # its model
    repetitions: int
    median_seconds: float | None = None
    low_seconds: float | None = None  # lower and upper quartile
    high_seconds: float | None = None
    peak_gpu_bytes: int | None = None  # None without a GPU
    peak_cpu_bytes: int | None = None  # of PyTorch's allocator; None on a GPU
    reason: str = ""  # why there is nothing

    @property
    def images_per_second(self) -> float | None:
        return self.way.batch / self.median_seconds if self.median_seconds else None


def speed(module: nn.Module, input_shape: tuple[int, ...], way: Way, repetitions: int = 30, warm_up: int = 5) -> Speed:
    """`module` run on images of `input_shape` (channels, height, width); a copy of it, which is all that changes.

    What can't be run in this way, as a device may not have the precision, has the `reason` and no figures.
    """
    name = device_name(way.device)
    try:
        run, kept = _prepared(module, input_shape, way)
        times = _timed(run, way.device, repetitions, warm_up)
        low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        peak, on_gpu = _peak(run, kept(), way.device), way.device.startswith("cuda")
        return Speed(way, name, repetitions, median, low, high, *((peak, None) if on_gpu else (None, peak)))
    except Exception as error:  # whatever somebody's module, or a device, raises
        return Speed(way, name, repetitions, reason=one_line(error))
    finally:
        gc.collect()


def _prepared(
    module: nn.Module, input_shape: tuple[int, ...], way: Way
) -> tuple[Callable[[], None], Callable[[], list[Tensor]]]:
    """A pass, and what is held from one to the next: weights, images, and in training AdamW's moments."""
    device, dtype, layout = torch.device(way.device), DTYPES[way.dtype], LAYOUTS[way.layout]
    network = copy_on(module, "cpu").to(device=device, dtype=dtype)
    network = network.to(memory_format=layout)  # pyright: ignore[reportCallIssue], which the stub leaves out
    images = torch.randn(way.batch, *input_shape).to(device=device, dtype=dtype, memory_format=layout)
    held = [*network.parameters(), *network.buffers(), images]
    if not way.training:
        network.eval()

        def forward() -> None:
            with torch.inference_mode():
                network(images)

        return forward, lambda: held
    network.train()
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        results = [leaf for leaf in tree_leaves(network(images)) if isinstance(leaf, Tensor) and leaf.requires_grad]
        torch.stack([result.float().square().mean() for result in results]).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def kept() -> list[Tensor]:
        moments = [value for state in optimizer.state.values() for value in state.values()]
        return held + [value for value in moments if isinstance(value, Tensor)]

    return step, kept


def _timed(run: Callable[[], None], device: str, repetitions: int, warm_up: int) -> list[float]:
    times = []
    for _ in range(warm_up + repetitions):
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
    return times[warm_up:]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _peak(run: Callable[[], None], kept: list[Tensor], device: str) -> int:
    """Bytes at the peak of one more pass: what is `kept` through it, and the most that it takes on top of that."""
    gc.collect()
    size = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        _wait(device)
        return sum(size.values()) + torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to the terminal when it starts
    total = most = 0
    for change in allocations(run):
        total += change
        most = max(most, total)
    return sum(size.values()) + most
