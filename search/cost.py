"""What a network costs: parameters, FLOPs by operator, activation memory, GPU memory, latency.

FLOPs follow fvcore: one forward pass of one image in evaluation mode, and **one multiply-accumulate is one FLOP**.
Biases are not counted. Additions, subtractions and scalar products (a Haar level has 12 and 4 of them for each 2x2
pixels of a channel), activations (GELU, SiLU, ReLU) and nearest up-sampling count one for each output element,
bilinear up-sampling four, BatchNorm two, means one for each input element; copies (slices, concatenations, stacks,
reshapes) none. Operators without a count are listed in `Cost.unsupported`, never dropped. `Cost.flops_torch` is torch's
own counter, which sees convolutions and matrix products only and counts two for each multiply-accumulate.

Activation memory is what autograd keeps for the backward pass of a training step: the distinct storages it saves
(the image batch among them), without parameters and buffers. It is the same on every device that runs the same
operators, unlike the peak of a GPU's allocator, which is measured on that GPU or not stated.
"""

import copy
import gc
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .environment import Model, device_name

Count = Annotated[int, Field(ge=0, lt=2**63)]
T = TypeVar("T")
BATCH = 16  # images of the activation measurement: enough for the per-batch statistics not to show


class Cost(Model):
    """What a network costs, measured by `cost`; the conventions stand at the top of this file."""

    parameters: Count
    input_shape: list[int]  # channels, height, width of one image
    flops: dict[str, Annotated[float, Field(ge=0, lt=2**63)]]  # by operator, one image
    unsupported: dict[str, int] = Field({})  # operators without a count, and how often they ran
    flops_torch: Count | None = None
    activation_bytes: Count  # saved for backward, whole batch
    activation_batch: int = Field(ge=1, lt=2**63)
    peak_gpu_bytes: Count | None = None  # of a training step; None: no GPU, never guessed
    peak_gpu_batch: int | None = None
    latency_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None  # one image, median
    device: str | None = None  # that peak memory and latency were measured on

    @property
    def flops_total(self) -> int:
        return round(sum(self.flops.values()))

    @property
    def activation_bytes_per_image(self) -> int:
        return round(self.activation_bytes / self.activation_batch)


class ModuleCost(Model):
    """One row of `modules`: a module's share, that of its children included."""

    name: str  # '' is the network itself
    type: str
    parameters: Count
    flops: Count
    activation_bytes: Count  # for one image


def parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters, each counted once however often it is used."""
    return sum(parameter.numel() for parameter in module.parameters())


def cost(
    module: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = BATCH,
    device: str | None = "cpu",
    timed: bool = False,
) -> Cost:
    """The cost of `module` for images of `input_shape` (channels, height, width).

    `batch` images are used for activation and GPU memory; on a CUDA `device` the peak memory of a training step is
    measured, with `timed` also the latency there. None is a GPU where there is one. The module is copied: neither
    weights nor statistics change. Raises whatever the module raises for such images.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    flops, unsupported = count_flops(module, input_shape)
    saved = activation_bytes(module, input_shape, batch)
    on_gpu = device.startswith("cuda")
    return Cost(
        parameters=parameters(module),
        input_shape=list(input_shape),
        flops=flops,
        unsupported=unsupported,
        flops_torch=count_flops_torch(module, input_shape),
        activation_bytes=saved,
        activation_batch=batch,
        peak_gpu_bytes=peak_gpu_bytes(module, input_shape, batch, device) if on_gpu else None,
        peak_gpu_batch=batch if on_gpu else None,
        latency_seconds=latency(module, input_shape, device=device) if timed else None,
        device=device_name(device) if on_gpu or timed else None,
    )


# ----------------------------------------------------------------------------------------------------- FLOPs


def _elements(value: Any) -> int:
    sizes = value.type().sizes() if value.isCompleteTensor() else None
    if sizes is None:
        raise ValueError("the shape of an operator's tensor is not known")
    return math.prod(sizes)


def _per_output(scale: float = 1) -> Callable[[list, list], float]:
    return lambda inputs, outputs: scale * _elements(outputs[0])


def _per_input(inputs: list, outputs: list) -> int:
    return _elements(inputs[0])


def _arithmetic(inputs: list, outputs: list) -> int:
    """Sums and products of tensors; the integers a trace computes sizes with are no work on the data."""
    if not outputs[0].isCompleteTensor() or not outputs[0].type().dtype().is_floating_point:
        return 0
    return _elements(outputs[0])


ARITHMETIC = "add add_ sub sub_ mul mul_ div div_ neg"
ACTIVATIONS = "relu relu_ gelu silu silu_ sigmoid tanh leaky_relu leaky_relu_ hardtanh hardtanh_"
HANDLES: dict[str, Callable[[list, list], float]] = {
    **{f"aten::{name}": _arithmetic for name in ARITHMETIC.split()},
    **{f"aten::{name}": _per_output() for name in ACTIVATIONS.split()},
    "aten::mean": _per_input,
    "aten::sum": _per_input,
    "aten::adaptive_avg_pool2d": _per_input,
    "aten::avg_pool2d": _per_input,
    "aten::max_pool2d": _per_input,
    "aten::upsample_nearest2d": _per_output(),
    "aten::upsample_bilinear2d": _per_output(4),
}
FREE = [f"aten::{name}" for name in "feature_dropout unflatten repeat alias pad clone numel lt le".split()]


def _on(module: nn.Module, device: str) -> nn.Module:
    """A copy of `module` whose tensors lie on `device`; those that lie there already are shared, not cloned."""
    memo: dict[int, Tensor] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        moved = tensor.detach().to(device)
        shared = nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
        memo[id(tensor)] = shared
    return copy.deepcopy(module, memo)


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[nn.Module]:
    """A copy on the CPU in evaluation mode, without gradients: it shares the weights, which nothing changes."""
    with torch.no_grad():
        yield _on(module, "cpu").eval()


def _analysis(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[Any, dict[str, int]]:
    """fvcore's analysis with the handles above, and the operators it cannot count."""
    # imported here: it is slow, and most commands never count FLOPs
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, _images(module, input_shape, 1))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle(**HANDLES, **dict.fromkeys(FREE))
    analysis.total()
    unsupported = Counter(analysis.unsupported_ops())
    functions = [name for name in unsupported if name.startswith("prim::PythonOp.")]
    if functions:  # autograd functions (pytorch_wavelets' transforms): the operators inside them are in the trace
        inside: Counter[str] = Counter()
        analysis.set_op_handle(**{name: _function(analysis, inside) for name in functions})
        analysis.total()
        unsupported = Counter(analysis.unsupported_ops()) + inside
    return analysis, dict(sorted(unsupported.items()))


def _function(analysis: Any, unsupported: Counter[str]) -> Callable[[list, list], Counter[str]]:
    """A handle that counts the operators of an autograd function's forward pass, noting those without a count."""

    def count(inputs: list, outputs: list) -> Counter[str]:
        flops: Counter[str] = Counter()
        for node in outputs[0].node().g("Subgraph").nodes():
            if node.kind() in analysis._op_handles:
                found = analysis._op_handles[node.kind()](list(node.inputs()), list(node.outputs()))
                flops += found if isinstance(found, Counter) else Counter({node.kind().split("::")[1]: found})
            elif not analysis._should_ignore_node(node):
                unsupported[node.kind()] += 1
        return flops

    return count


def _images(module: nn.Module, input_shape: tuple[int, ...], batch: int) -> Tensor:
    like = next(module.parameters(), torch.zeros(()))
    return torch.randn(batch, *input_shape, device=like.device, dtype=like.dtype)


def count_flops(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[str, float], dict[str, int]]:
    """(FLOPs by operator, operators without a count and how often they ran) of one image's forward pass."""
    with _evaluation(module) as network:
        analysis, unsupported = _analysis(network, input_shape)
        return {name: float(value) for name, value in sorted(analysis.by_operator().items())}, unsupported


def count_flops_torch(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Torch's count of one image's convolutions and matrix products, two FLOPs for each multiply-accumulate."""
    from torch.utils.flop_counter import FlopCounterMode

    def run(network: nn.Module) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(_images(network, input_shape, 1))
        return counter.get_total_flops()

    return _by_shapes(module, run)


def _by_shapes(module: nn.Module, run: Callable[[nn.Module], T]) -> T:
    """`run` on a copy that holds shapes and no numbers; on a real one where the module needs numbers."""
    try:
        return run(_on(module, "meta"))
    except Exception:  # whatever somebody's module raises when it looks at a number that is not there
        return run(copy.deepcopy(module))


# ---------------------------------------------------------------------------------------------------- memory


def activation_bytes(module: nn.Module, input_shape: tuple[int, ...], batch: int = BATCH) -> int:
    """Bytes that autograd saves for the backward pass of a training step on `batch` images."""
    return sum(_saved(module, input_shape, batch)[0].values())


def _saved(module: nn.Module, input_shape: tuple[int, ...], batch: int) -> tuple[dict[int, int], dict[int, str]]:
    """Saved storages: identity -> bytes, and identity -> name of the innermost module that ran then."""

    def run(network: nn.Module) -> tuple[dict[int, int], dict[int, str]]:
        own = {t.untyped_storage()._cdata for t in [*network.parameters(), *network.buffers()]}
        size: dict[int, int] = {}
        owner: dict[int, str] = {}
        running = [""]

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own and storage._cdata not in size:
                size[storage._cdata], owner[storage._cdata] = storage.nbytes(), running[-1]
            return tensor  # as it is: what is saved stays alive, so that no storage takes another one's place

        def leave(*_: Any) -> None:
            running.pop()

        for name, child in network.named_modules():
            child.register_forward_pre_hook(lambda *_, name=name: running.append(name))
            child.register_forward_hook(leave)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network.train()(_images(network, input_shape, batch))
        del output
        return size, owner

    return _by_shapes(module, run)


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
    network = copy.deepcopy(module).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters())
    images = _images(network, input_shape, batch)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(images).float().square().mean().backward()
        optimizer.step()
        torch.cuda.synchronize(device)

    step()
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device) - before


# --------------------------------------------------------------------------------------------- by module, time


def modules(module: nn.Module, input_shape: tuple[int, ...], batch: int = BATCH) -> list[ModuleCost]:
    """Parameters, FLOPs and activation bytes of one image for every module, from the network down to its layers.

    A module used several times (a shared block) stands once, with what all its uses cost together.
    """
    with _evaluation(module) as network:
        flops = _analysis(network, input_shape)[0].by_module()
    size, owner = _saved(module, input_shape, batch)
    rows = []
    for name, child in module.named_modules():
        inside = [one for one, place in owner.items() if not name or (place + ".").startswith(name + ".")]
        rows.append(
            ModuleCost(
                name=name,
                type=type(child).__name__,
                parameters=parameters(child),
                flops=round(flops[name]),
                activation_bytes=round(sum(size[one] for one in inside) / batch),
            )
        )
    return rows


def latency(
    module: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    repetitions: int = 21,
    device: str = "cpu",
) -> float:
    """Median seconds of a forward pass on `batch` images in evaluation mode, after two that are not counted."""
    network = copy.deepcopy(module).to(device).eval()
    images = _images(network, input_shape, batch)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = []
    with torch.inference_mode():
        for _ in range(repetitions + 2):
            start = time.perf_counter()
            network(images)
            wait()
            times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
