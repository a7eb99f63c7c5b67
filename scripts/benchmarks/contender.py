"""A contender of a benchmark, in a process of its own: upstream's network or one of ours, trained or asked.

    python -P scripts/benchmarks/contender.py TASK

TASK is JSON, see `training.py`. First it prints its facts, then for every number on standard input the seconds of a
step. Our packages are imported by those who need them alone: upstream's wheel has the same name.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UPSTREAM, PLAIN, STACK, COMPILED = "upstream 0.2.4", "plain WaveMixLite", "Stack", "compiled"
MODES = "float32", "channels last", "compiled", "autocast"
NARROW = "bfloat16"  # a mode of a stack alone


def upstream_network(config: dict) -> nn.Module:
    """WaveMix-Lite made of upstream's own parts, with the names of `WaveMixLite`'s state dict."""
    from wavemix import Level1Waveblock, xf1

    c, f, mult = config["final_dim"], config["ff_channel"], config["mult"]

    class InterpolatingBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.reduction = nn.Conv2d(c, c // 4, 1)
            self.feedforward = nn.Sequential(
                nn.Conv2d(c, c * mult, 1), nn.GELU(), nn.Dropout(0.0), nn.Conv2d(c * mult, f, 1),
                nn.Upsample(scale_factor=2, mode=config.get("upsampling", "nearest")), nn.BatchNorm2d(c),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            low, (details,) = xf1(self.reduction(x))
            return self.feedforward(torch.cat([low, details.flatten(1, 2)], 1))

    def block() -> nn.Module:
        if config.get("upsampling") == "deconv":
            return Level1Waveblock(mult=mult, ff_channel=f, final_dim=c, dropout=0.0)
        return InterpolatingBlock()

    class Lite(nn.Module):
        def __init__(self):
            super().__init__()
            first, second = config.get("stride", (1, 1))
            self.conv = nn.Sequential(
                nn.Conv2d(config.get("in_channels", 3), c // 2, 3, first, 1), nn.Conv2d(c // 2, c, 3, second, 1)
            )
            self.layers = nn.ModuleList(block() for _ in range(config["depth"]))
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            for layer in self.layers:
                x = layer(x) + x
            return self.pool(x)

    return Lite()


def module(contender: str, config: dict, state: dict[str, Tensor], device: str) -> nn.Module:
    if contender == UPSTREAM:
        network = upstream_network(config)
    else:
        from wavemix.lite import WaveMixLite

        network = WaveMixLite(**config)
    network.load_state_dict(state)
    return network.to(device)


def inference(contender: str, config: dict, state: dict[str, Tensor], images: Tensor, device: str):
    """A call that classifies the batch."""
    if contender == STACK:
        from wavemix.config import LiteConfig
        from wavemix.stack import Stack, to_lanes

        stack, x = Stack(LiteConfig(**config), [0], device), to_lanes(images[None])
        flat = torch.cat([state[name].flatten() for name in stack.shapes])[None].to(device)
        given = {
            name.removesuffix(".running_mean"): tuple(
                state[name.replace("running_mean", part)][None].to(device) for part in ("running_mean", "running_var")
            )
            for name in state
            if name.endswith("running_mean")
        }
        return torch.no_grad()(lambda: stack(x, flat, given)[0][0])
    network = module(contender, config, state, device).eval()
    if contender == COMPILED:
        from wavemix.compiled import with_kernels

        network = with_kernels(network)
    return torch.no_grad()(lambda: network(images))


def training(
    contender: str, mode: str, config: dict, state: dict[str, Tensor], images: Tensor, labels: Tensor, device: str
):
    """(loss of a forward pass, optimizer step, tensors that are no activations) of one contender on one batch.

    A fourth is what trains in their place: on a GPU a `Stack` is trained by a `Step`, which captures a graph.
    """
    if contender == STACK:
        from search.training.optimizer import Optimizer
        from search.training.recipe import Recipe
        from search.training.step import Step
        from wavemix.config import LiteConfig
        from wavemix.stack import Stack, to_lanes

        precision = "bfloat16" if mode == NARROW else "float32"
        stack, x = Stack(LiteConfig(**config), [0], device, precision), to_lanes(images[None])
        with torch.no_grad():
            stack.flat.copy_(torch.cat([state[name].flatten() for name in stack.shapes])[None])
        adamw = Optimizer(stack, recipe := Recipe(optimizer="adamw"))

        def forward() -> Tensor:
            stack.flat.grad = None
            return F.cross_entropy(stack(x)[0][0], labels)

        def update() -> None:
            adamw.step(stack.flat.grad, *adamw.factors(1e-3))

        if device == "cpu":
            return forward, update, [stack.flat], None
        trainer = Step(stack, adamw, recipe, stack.flat.detach().clone())
        batch = SimpleNamespace(batch=lambda *_: x, labels=labels)  # what a step wants of `Images`
        every = torch.arange(len(labels), device=device)[None]
        return forward, update, [stack.flat], lambda: trainer(batch, every, (None, None, None), 1e-3, 0.01)
    network = module(contender, config, state, device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    if mode in ("channels last", "autocast"):
        network, images = (part.to(memory_format=torch.channels_last) for part in (network, images))
    run = torch.compile(network) if mode == "compiled" else network

    def forward() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=mode == "autocast"):
            return F.cross_entropy(run(images), labels)

    return forward, optimizer.step, [*network.parameters(), *network.buffers()], None


def saved_bytes(forward: Callable[[], Tensor], own: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages that autograd saves in `forward`, those of `own` left out."""
    known = {tensor.untyped_storage()._cdata for tensor in own}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            sizes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(sizes.values())


def resident(field: str) -> int:
    """VmRSS or VmHWM (its peak) of this process in bytes. getrusage's peak may be that of the parent process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"error: /proc/self/status has no {field}: peak memory is measured on Linux only")


def work(task: dict) -> None:
    """A contender's process: its facts as one line, then `timed`."""
    from safetensors.torch import load_file

    device = task["device"]
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    torch.set_num_threads(task["threads"])
    given = load_file(task["given"])
    images, labels = given.pop("images").to(device), given.pop("labels").to(device)
    if task.get("what") == "inference":
        classify = inference(task["contender"], task["config"], given, images, device)
        print(json.dumps({"logits": float(classify().abs().mean())}), flush=True)
        return timed(classify, wait, task)
    contender, mode, config = task["contender"], task.get("mode", "float32"), task["config"]
    forward, update, own, captured = training(contender, mode, config, given, images, labels, device)

    def step() -> float:
        loss = forward()
        loss.backward()
        update()
        return loss.detach()

    if device == "cuda":
        wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of the imports
        before = resident("VmRSS")
    try:
        first = float(step())
    except Exception as error:  # whatever a mode that upstream does not know raises
        if mode == "float32":
            raise
        print(json.dumps({"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}), flush=True)
        return
    gradient = sum(float(t.grad.square().sum()) for t in own if t.grad is not None) ** 0.5
    step = captured or step
    for _ in range(5):  # a graph is captured in the fourth
        step()
    wait()
    growth = (torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")) - before
    facts = {"loss": first, "gradient": gradient, "peak_bytes": growth, "saved_bytes": saved_bytes(forward, own)}
    print(json.dumps(facts), flush=True)
    timed(step, wait, task)


def timed(step: Callable[[], object], wait: Callable[[], None], task: dict) -> None:
    """For every line N on stdin the seconds of a step, over N."""
    clock = time.process_time if task.get("processor_time") else time.perf_counter
    for line in sys.stdin:
        count = int(line)
        wait()
        start = clock()
        for _ in range(count):
            step()
        wait()
        print((clock() - start) / count, flush=True)


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
