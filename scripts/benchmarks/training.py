"""Training throughput and memory: upstream's wavemix 0.2.4 beside our plain `WaveMixLite` and our `Stack`.

    python -m scripts.benchmarks.training [--upstream DIR] [--output FILE]

Networks: CIFAR Lite-64/6 with both up-sampling kinds and MNIST Lite-8/10. Upstream's wheel has no WaveMix-Lite: with
transposed convolutions the network is made of its Level1Waveblock, with nearest up-sampling of its DWTForward and
torch's layers (--upstream: see compare_upstream.py). Each contender runs in a process of its own and all start from
the same weights and batch; loss and gradient norm of the first step must agree before anything is timed. A step is
forward, backward and AdamW step. Memory is measured twice: bytes of the distinct storages that autograd saves for the
backward pass (the batch among them, parameters and buffers not), and how much the process's peak resident memory (on
a GPU, the allocator's peak) grows over the first steps, gradients and optimizer state included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# configuration, image size
NETWORKS = {
    "CIFAR Lite-64/6 deconv": (dict(final_dim=64, depth=6, mult=2, ff_channel=64, upsampling="deconv"), 32),
    "CIFAR Lite-64/6 nearest": (dict(final_dim=64, depth=6, mult=2, ff_channel=64), 32),
    "MNIST Lite-8/10": (dict(in_channels=1, final_dim=8, depth=10, mult=2, ff_channel=8), 28),
    "small": (dict(in_channels=1, final_dim=8, depth=1, mult=1, ff_channel=8, upsampling="deconv"), 8),
}
ROOT = Path(__file__).resolve().parents[2]
UPSTREAM, PLAIN, STACK = "upstream 0.2.4", "plain WaveMixLite", "Stack"

# ------------------------------------------------------------------------------------------- in a process of its own


def upstream_network(config: dict) -> nn.Module:
    """WaveMix-Lite made of upstream's own parts, with the names of `WaveMixLite`'s state dict."""
    from wavemix import Level1Waveblock, xf1

    c, f, mult = config["final_dim"], config["ff_channel"], config["mult"]

    class NearestBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.reduction = nn.Conv2d(c, c // 4, 1)
            self.feedforward = nn.Sequential(
                nn.Conv2d(c, c * mult, 1), nn.GELU(), nn.Dropout(0.0), nn.Conv2d(c * mult, f, 1),
                nn.Upsample(scale_factor=2), nn.BatchNorm2d(c),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            low, (details,) = xf1(self.reduction(x))
            return self.feedforward(torch.cat([low, details.flatten(1, 2)], 1))

    def block() -> nn.Module:
        if config.get("upsampling") == "deconv":
            return Level1Waveblock(mult=mult, ff_channel=f, final_dim=c, dropout=0.0)
        return NearestBlock()

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
    return torch.no_grad()(lambda: network(images))


def training(contender: str, config: dict, state: dict[str, Tensor], images: Tensor, labels: Tensor, device: str):
    """(loss of a forward pass, optimizer step, tensors that are no activations) of one contender on one batch.

    A fourth is what trains in their place: on a GPU a `Stack` is trained by a `Step`, which captures a graph.
    """
    if contender == STACK:
        from search.training.optimizer import Optimizer
        from search.training.recipe import Recipe
        from search.training.step import Step
        from wavemix.config import LiteConfig
        from wavemix.stack import Stack, to_lanes

        stack, x = Stack(LiteConfig(**config), [0], device), to_lanes(images[None])
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

    def forward() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        return F.cross_entropy(network(images), labels)

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
        return timed(classify, wait)
    forward, update, own, captured = training(task["contender"], task["config"], given, images, labels, device)

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
    first = float(step())
    gradient = sum(float(t.grad.square().sum()) for t in own if t.grad is not None) ** 0.5
    step = captured or step
    for _ in range(5):  # a graph is captured in the fourth
        step()
    wait()
    growth = (torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")) - before
    facts = {"loss": first, "gradient": gradient, "peak_bytes": growth, "saved_bytes": saved_bytes(forward, own)}
    print(json.dumps(facts), flush=True)
    timed(step, wait)


def timed(step: Callable[[], object], wait: Callable[[], None]) -> None:
    """For every line N on stdin the seconds of a step, over N."""
    for line in sys.stdin:
        count = int(line)
        wait()
        start = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        print((time.perf_counter() - start) / count, flush=True)


# ---------------------------------------------------------------------------------------------------- side by side


class Worker:
    """A contender's process, which waits until it is asked for steps."""

    def __init__(self, contender: str, task: dict, package: Path):
        environment = {**os.environ, "PYTHONPATH": str(package if contender == UPSTREAM else ROOT)}
        if task["device"] == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""  # upstream goes to a GPU where it sees one
        arguments = json.dumps({**task, "contender": contender})
        self.contender = contender
        # -P: the checkout must not be on the path, or our package would be imported instead of upstream's
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), "--work", arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=package,
        )  # fmt: skip
        self.facts = json.loads(self._line())

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.contender} stopped, see above")
        return line

    def seconds(self, count: int) -> float:
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def working(tasks: dict[str, dict], package: Path) -> Iterator[dict[str, Worker]]:
    """A process for each named task, which says its contender; all end with the block."""
    workers: dict[str, Worker] = {}
    try:
        for name, task in tasks.items():
            workers[name] = Worker(task["contender"], task, package)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def time_workers(workers: dict[str, Worker], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of a step of each, alternating."""
    from scripts.benchmarks.harness import alternate

    counts = {n: max(1, round(options.seconds / min(w.seconds(1), w.seconds(1)))) for n, w in workers.items()}
    return alternate({n: lambda n=n: workers[n].seconds(counts[n]) for n in workers}, options.repetitions)


def write_given(config, size: int, batch: int, path: Path) -> str:
    """Weights of a `LiteConfig` and a random batch in a file, as `Worker` wants them; its path."""
    from safetensors.torch import save_file

    from wavemix.lite import WaveMixLite

    torch.manual_seed(0)
    state = {key: value.contiguous() for key, value in WaveMixLite(config).state_dict().items()}
    images = torch.randn(batch, config.in_channels, size, size)
    save_file({**state, "images": images, "labels": torch.randint(config.num_classes, (batch,))}, path)
    return str(path)


def measure(name: str, options: argparse.Namespace, device: str, scratch: Path, package: Path) -> None:
    from wavemix.config import LiteConfig

    knobs, size = NETWORKS[name]
    config = LiteConfig(**knobs)
    given = write_given(config, size, options.batch, scratch / "given.safetensors")
    task = {"config": knobs, "device": device, "threads": options.threads, "given": given}
    with working({n: task | {"contender": n} for n in (UPSTREAM, PLAIN, STACK)}, package) as workers:
        for key in ("loss", "gradient"):
            values = [worker.facts[key] for worker in workers.values()]
            # on a GPU a stack multiplies in bfloat16
            if not max(values) - min(values) <= (1e-3 if device == "cpu" else 3e-2) * max(values):
                raise SystemExit(f"error: not the same networks, their first {key} differs: {values}")
        samples = time_workers(workers, options)
    rates = {contender: options.batch / seconds for contender, seconds in medians(samples).items()}
    saved, peak = ({n: w.facts[key] for n, w in workers.items()} for key in ("saved_bytes", "peak_bytes"))
    rows = [
        [
            contender,
            f"{rates[contender]:,.0f}",
            f"{rates[contender] / rates[UPSTREAM]:.2f}x",
            f"{saved[contender] / 2**20:,.1f}",
            f"{saved[contender] / saved[UPSTREAM]:.2f}x",
            f"{peak[contender] / 2**20:,.1f}",
            f"{peak[contender] / peak[UPSTREAM]:.2f}x" if peak[UPSTREAM] else "-",
        ]
        for contender in workers
    ]
    print_table(
        f"training step, {name} ({config.parameters():,} parameters), batch {options.batch}, {device} "
        f"({options.threads} threads); ratios to upstream",
        ["", "images/s", "ratio", "saved MiB", "ratio", "peak growth MiB", "ratio"],
        rows,
    )
    details = {"config": config.model_dump(mode="json"), "batch": options.batch}
    for what, unit, values, better, more in [
        ("throughput", "images/s", rates, "higher", {"spread_seconds": spread(samples)}),
        ("memory saved for backward", "bytes", saved, "lower", {}),
        ("growth of peak memory", "bytes", peak, "lower", {}),
    ]:
        timed = what == "throughput"
        record(
            options.output, device, {**details, **more}, name=f"training {what}, {name}", unit=unit,
            ours=values[STACK], peers={n: values[n] for n in (UPSTREAM, PLAIN)}, better=better,
            repetitions=options.repetitions if timed else 1,
        )  # fmt: skip


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=7, seconds=2.0)
    parser.add_argument("--upstream", type=Path, help="directory with the unpacked wheel; default: download it")
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=[n for n in NETWORKS if n != "small"])
    parser.add_argument("--batch", type=int, default=64, help="a multiple of 16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.batch % 16:
        parser.error("--batch must be a multiple of 16")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        try:
            package = obtain(options.upstream, scratch)
        except Unavailable as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for device in devices(options):
            for network in options.networks:
                measure(network, options, device, scratch, package)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(json.loads(sys.argv[2]))
        sys.exit(0)
    # not in a contender's process: upstream's must not find our packages
    from scripts.benchmarks.compare_upstream import Unavailable, obtain
    from scripts.benchmarks.harness import arguments, devices, medians, print_table, record, spread

    sys.exit(main())
