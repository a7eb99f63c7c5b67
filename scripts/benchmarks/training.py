"""Training throughput and memory: upstream's wavemix 0.2.4 beside our plain `WaveMixLite` and our `Stack`.

    python -m scripts.benchmarks.training [--upstream DIR] [--modes MODE ...] [--output FILE]

Networks: CIFAR Lite-64/6 with three up-sampling kinds and MNIST Lite-8/10. Upstream's wheel has no WaveMix-Lite: with
transposed convolutions the network is made of its Level1Waveblock, with the others of its DWTForward and
torch's layers (--upstream: see compare_upstream.py). On a CPU it and the plain module also run in other modes: with
channels last, compiled, and under autocast with channels last; one that fails is left out, with the reason. Our `Stack`
runs in float32 and, where the processor can, in bfloat16. Each contender runs in a process of its own (contender.py);
all start from the same weights and batch, and loss and gradient norm of the first step must agree before anything is
timed. A step is forward, backward and AdamW step. Memory is measured twice: bytes of the distinct storages that
autograd saves for the backward pass (the batch among them, parameters and buffers not), and how much the process's peak
resident memory (on a GPU, the allocator's peak) grows over the first steps, gradients and optimizer state included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from scripts.benchmarks.compare_upstream import Unavailable, obtain
from scripts.benchmarks.contender import MODES, NARROW, PLAIN, STACK, UPSTREAM
from scripts.benchmarks.harness import ROOT, alternate, arguments, devices, medians, print_table, record, spread

# configuration, image size
NETWORKS = {
    "CIFAR Lite-64/6 deconv": (dict(final_dim=64, depth=6, mult=2, ff_channel=64, upsampling="deconv"), 32),
    "CIFAR Lite-64/6 bilinear": (dict(final_dim=64, depth=6, mult=2, ff_channel=64, upsampling="bilinear"), 32),
    "CIFAR Lite-64/6 nearest": (dict(final_dim=64, depth=6, mult=2, ff_channel=64), 32),
    "MNIST Lite-8/10": (dict(in_channels=1, final_dim=8, depth=10, mult=2, ff_channel=8), 28),
    "small": (dict(in_channels=1, final_dim=8, depth=1, mult=1, ff_channel=8, upsampling="deconv"), 8),
}


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
            [sys.executable, "-P", str(Path(__file__).with_name("contender.py")), arguments],
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


def contenders(config, device: str, modes: list[str]) -> dict[str, dict]:
    """By what each is called, what a task says of it."""
    from wavemix.stack import bfloat16_lacks

    modes = modes if device == "cpu" else []
    found = {name: {"contender": name, "mode": "float32"} for name in (UPSTREAM, PLAIN, STACK)}
    found |= {f"{n}, {m}": {"contender": n, "mode": m} for n in (UPSTREAM, PLAIN) for m in modes if m != "float32"}
    if bfloat16_lacks(config, device) is None:
        found[f"{STACK}, {NARROW}"] = {"contender": STACK, "mode": NARROW}
    return found


def measure(name: str, options: argparse.Namespace, device: str, scratch: Path, package: Path) -> None:
    from wavemix.config import LiteConfig

    hyperparameters, size = NETWORKS[name]
    config = LiteConfig(**hyperparameters)
    given = write_given(config, size, options.batch, scratch / "given.safetensors")
    task = {"config": hyperparameters, "device": device, "threads": options.threads, "given": given}
    task["processor_time"] = options.processor_time
    with working({n: task | part for n, part in contenders(config, device, options.modes).items()}, package) as started:
        for name_of, worker in started.items():
            if "failed" in worker.facts:
                print(f"{name}: {name_of} does not run: {worker.facts['failed']}", flush=True)
        workers = {n: worker for n, worker in started.items() if "failed" not in worker.facts}
        for key in ("loss", "gradient"):
            values = {n: worker.facts[key] for n, worker in workers.items()}
            exact = values[UPSTREAM]
            for n, value in values.items():  # on a GPU a stack multiplies in bfloat16
                rounded = device != "cpu" or n.endswith((NARROW, "autocast"))
                if not abs(value - exact) <= (3e-2 if rounded else 1e-3) * exact:
                    raise SystemExit(f"error: not the same networks, their first {key} differs: {values}")
        samples = time_workers(workers, options)
    rates = {contender: options.batch / seconds for contender, seconds in medians(samples).items()}
    best = max(rate for n, rate in rates.items() if n.startswith(UPSTREAM))
    ours = f"{STACK}, {NARROW}" if f"{STACK}, {NARROW}" in workers else STACK
    saved, peak = ({n: w.facts[key] for n, w in workers.items()} for key in ("saved_bytes", "peak_bytes"))
    rows = [
        [
            contender,
            f"{rates[contender]:,.0f}",
            f"{rates[contender] / best:.2f}x",
            f"{saved[contender] / 2**20:,.1f}",
            f"{saved[contender] / saved[UPSTREAM]:.2f}x",
            f"{peak[contender] / 2**20:,.1f}",
            f"{peak[contender] / peak[UPSTREAM]:.2f}x" if peak[UPSTREAM] else "-",
        ]
        for contender in workers
    ]
    print_table(
        f"training step, {name} ({config.parameters():,} parameters), batch {options.batch}, {device} "
        f"({options.threads} threads); ratios to upstream's: of speed to the best mode, of memory to float32",
        ["", "images/s", "ratio", "saved MiB", "ratio", "peak growth MiB", "ratio"],
        rows,
    )
    details = {"config": config.model_dump(mode="json"), "batch": options.batch, "contender": ours}
    details |= {"processor_time": True} if options.processor_time else {}
    for what, unit, values, better, more in [
        ("throughput", "images/s", rates, "higher", {"spread_seconds": spread(samples)}),
        ("memory saved for backward", "bytes", saved, "lower", {}),
        ("growth of peak memory", "bytes", peak, "lower", {}),
    ]:
        timed = what == "throughput"
        record(
            options.output, device, {**details, **more}, name=f"training {what}, {name}", unit=unit,
            ours=values[ours], peers={n: value for n, value in values.items() if n != ours}, better=better,
            repetitions=options.repetitions if timed else 1,
        )  # fmt: skip


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=7, seconds=2.0)
    parser.add_argument("--upstream", type=Path, help="directory with the unpacked wheel; default: download it")
    parser.add_argument("--networks", choices=NETWORKS, nargs="+", default=[n for n in NETWORKS if n != "small"])
    parser.add_argument("--batch", type=int, default=64, help="a multiple of 16")
    parser.add_argument("--modes", choices=MODES, nargs="+", default=list(MODES), help="of modules, beside float32")
    parser.add_argument(
        "--processor-time", action="store_true", help="of all threads, not the clock's: where the machine is busy"
    )
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
    sys.exit(main())
