"""What a network costs: parameters, operations by operator, activation memory, GPU memory, latency.

What counts how much stands at the top of `flops.py`. `Cost.flops_torch` and `Cost.macs_fvcore` are what torch's and
fvcore's own counters find in the same forward pass; they see convolutions and matrix products only, and torch's counts
two for each multiply-accumulate.

Activation memory is what autograd keeps for the backward pass of a training step: the distinct storages it saves
(the image batch among them), without parameters and buffers. It is the same on every device that runs the same
operators, unlike the peak of a GPU's allocator, which is measured on that GPU or not stated.
"""

import copy
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from search.audit.flops import (
    Counting,
    counted,
    counted_by_fvcore,
    counted_by_torch,
    held,
    names_of_running,
    separate_operators,
)
from search.records.costs import Cost, merged
from search.records.environment import device_name
from wavemix.torch_internals import storage_key

T = TypeVar("T")
BATCH = 16  # images of the activation measurement: enough for the per-batch statistics not to show


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Conditions:
    """Under which memory is measured."""

    batch: int = BATCH  # images
    device: str | None = None  # 'cpu', 'cuda' or 'cuda:N'; None: a GPU where there is one
    dtype: str | None = None  # of `DTYPES`, for weights and images; None: the network's own

    def cast(self, network: nn.Module) -> nn.Module:
        """`network`, or a copy of it in the other type."""
        return copy_on(network, "cpu").to(DTYPES[self.dtype]) if self.dtype else network


CONDITIONS = Conditions()


def parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters, each counted once however often it is used."""
    return sum(parameter.numel() for parameter in module.parameters())


def cost(
    module: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = BATCH,
    device: str | None = "cpu",
    timed: bool = False,
    compared: bool = False,
) -> Cost:
    """The cost of `module` for images of `input_shape` (channels, height, width).

    `batch` images are used for activation and GPU memory; on a CUDA `device` the peak memory of a training step is
    measured, with `timed` also the latency there. None is a GPU where there is one. `compared` asks fvcore, too. The
    module is copied: neither weights nor statistics change. What can't be measured is None, the reason stands in
    `unmeasured`. Raises whatever the module raises for such images.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    unmeasured: dict[str, str] = {}

    def measured(what: str, measure: Callable[..., T], *rest: Any, **options: Any) -> T | None:
        try:
            return measure(module, input_shape, *rest, **options)
        except Exception as error:  # whatever somebody's module raises
            unmeasured[what] = one_line(error)
            return None

    flops, unsupported = measured("FLOPs", count_flops) or (None, {})
    found = Cost(
        parameters=parameters(module),
        input_shape=list(input_shape),
        flops=flops,
        unsupported=unsupported,
        flops_torch=measured("MACs by torch", count_flops_torch),
        macs_fvcore=measured("MACs by fvcore", count_macs_fvcore) if compared else None,
        activation_bytes=measured("activation memory", activation_bytes, batch),
        activation_batch=batch,
        peak_gpu_bytes=measured("GPU memory", peak_gpu_bytes, batch, device) if on_gpu else None,
        peak_gpu_batch=batch if on_gpu else None,
        latency_seconds=measured("latency", latency, device=device) if timed else None,
        device=device_name(device) if on_gpu or timed else None,
        unmeasured=unmeasured,
    )
    if unmeasured:
        run(module, input_shape)
    return found


def run(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """One forward pass of one image in evaluation mode, the module itself; raises whatever it raises."""
    training = {child: child.training for child in module.modules()}
    try:
        with torch.no_grad():
            module.eval()(images_for(module, input_shape, 1))
    finally:
        for child, was in training.items():
            child.training = was


def one_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    text = str(error).strip()
    return f"{type(error).__name__}: {' '.join(text.splitlines()[0].split())}" if text else type(error).__name__


# ----------------------------------------------------------------------------------------------------- FLOPs


def count_flops(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[str, float], dict[str, int]]:
    """(operations by operator, operators without a count and how often they ran) of one image's forward pass."""
    counting = counting_of(module, input_shape)
    return merged(counting.operations.values()), dict(sorted(counting.uncounted.items()))


def counting_of(module: nn.Module, input_shape: tuple[int, ...], batch: int = 1) -> Counting:
    """The count of a forward pass of `batch` images."""

    def count(network: nn.Module, gradients: bool = False) -> Counting:
        return counted(network, images_for(network, input_shape, batch), gradients)

    try:
        return by_shapes(module, count)
    except Exception:  # a forward pass that computes gradients, perhaps
        return count(copy_on(module, "cpu"), gradients=True)


def count_flops_torch(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Torch's count of one image's convolutions and matrix products, two FLOPs for each multiply-accumulate."""
    return by_shapes(module, lambda network: counted_by_torch(network, images_for(network, input_shape, 1)))


def count_macs_fvcore(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """fvcore's own count of one image's convolutions and matrix products, in multiply-accumulates."""
    network = copy_on(module, "cpu")
    return counted_by_fvcore(network, images_for(network, input_shape, 1))


def copy_on(module: nn.Module, device: str) -> nn.Module:
    """A copy of `module` whose tensors lie on `device`."""
    memo: dict[int, Tensor] = {}
    for tensor in held(module):
        moved = tensor.detach().to(device, copy=True)
        memo[id(tensor)] = nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
    with torch.no_grad():  # scripted modules copy their tensors themselves
        return copy.deepcopy(module, memo)


def images_for(module: nn.Module, input_shape: tuple[int, ...], batch: int) -> Tensor:
    """As many random ones, where the module's first weights lie and in their type (32-bit where none are real)."""
    device = next(module.parameters(), torch.zeros(())).device
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return torch.randn(batch, *input_shape, device=device, dtype=dtype)


def by_shapes(module: nn.Module, run: Callable[[nn.Module], T]) -> T:
    """`run` on a copy that holds shapes and no numbers; on a real one where the module needs numbers."""
    try:
        return run(copy_on(module, "meta"))
    except Exception:  # whatever somebody's module raises when it looks at a number that is not there
        return run(copy_on(module, "cpu"))


# ---------------------------------------------------------------------------------------------------- memory


def activation_bytes(module: nn.Module, input_shape: tuple[int, ...], batch: int = BATCH) -> int:
    """Bytes that autograd saves for the backward pass of a training step on `batch` images."""
    return sum(saved(module, input_shape, batch)[0].values())


def saved(module: nn.Module, input_shape: tuple[int, ...], batch: int) -> tuple[dict[int, int], dict[int, str]]:
    """Saved storages: identity -> bytes, and identity -> name of the innermost module that ran then."""

    def run(network: nn.Module) -> tuple[dict[int, int], dict[int, str]]:
        own = {storage_key(tensor) for tensor in held(network)}
        size: dict[int, int] = {}
        owner: dict[int, str] = {}
        running = names_of_running(network)

        def pack(tensor: Tensor) -> Tensor:
            key = storage_key(tensor)
            if key not in own and key not in size:
                size[key], owner[key] = tensor.untyped_storage().nbytes(), running[-1]
            return tensor  # as it is: what is saved stays alive, so that no storage takes another one's place

        with separate_operators(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network.train()(images_for(network, input_shape, batch))
        del output
        return size, owner

    return by_shapes(module, run)


def peak_gpu_bytes(module: nn.Module, input_shape: tuple[int, ...], batch: int, device: str) -> int | None:
    """Peak of CUDA memory allocated in one training step (forward, backward, AdamW), or None without a GPU.

    A first step is not measured: it creates the optimizer's state and chooses convolution algorithms. Nor is what a
    process keeps from its first step on whatever the network, cuBLAS's workspaces (32 MiB on an H200).
    """
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    _peak_of_step(module, input_shape, batch, device)  # leaves the workspaces, so that the next finds them there
    return _peak_of_step(module, input_shape, batch, device)


def _peak_of_step(module: nn.Module, input_shape: tuple[int, ...], batch: int, device: str) -> int:
    """Peak of the memory that a second step allocates on top of what is there already, in bytes."""
    gc.collect()  # what lies in reference cycles is not to be freed while this measures
    before = torch.cuda.memory_allocated(device)
    network = copy_on(module, device).train()
    optimizer = torch.optim.AdamW(network.parameters())
    images = images_for(network, input_shape, batch)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(images).float().square().mean().backward()
        optimizer.step()
        torch.cuda.synchronize(device)

    step()
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device) - before


# ------------------------------------------------------------------------------------------------------ time


def latency(
    module: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    repetitions: int = 21,
    device: str = "cpu",
) -> float:
    """Median seconds of a forward pass on `batch` images in evaluation mode, after two that are not counted."""
    network = copy_on(module, device).eval()
    images = images_for(network, input_shape, batch)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = []
    with torch.inference_mode():
        for _ in range(repetitions + 2):
            start = time.perf_counter()
            network(images)
            wait()
            times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
