"""Training throughput on a shared machine: beside another process, pinned to one CPU, two trainings at once.

    python -m scripts.benchmarks.threads [--output FILE]

A 1,000-parameter MNIST network and the 64/6 CIFAR network (transposed convolutions), one and two members, each in a
process of its own that is asked again and again for whole steps of training (batch, forward, backward, optimizer) and
says how many images a second that were. Repetitions of all cases alternate and medians count, so that each ratio is of
one run. The other process is one busy thread for every two CPUs.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scripts.benchmarks.harness import Samples, alternate, arguments, medians, print_table, record, spread
from wavemix.threads import allowed

NETWORKS = {
    "MNIST 1,186": dict(
        in_channels=1, final_dim=8, ff_channel=8, depth=14, mult=1, shared=5, bias="needed", upsampling="bilinear",
        initial_conv="separable", stride=(1, 1),
    ),
    "CIFAR 64/6": dict(final_dim=64, ff_channel=64, depth=6, mult=2, upsampling="deconv"),
}  # fmt: skip
BATCH = {"MNIST 1,186": 128, "CIFAR 64/6": 64}
# what is measured -> what it is measured against, and the least ratio
BARS = {
    "beside another process": ("quiet", 0.5),
    "beside it, to one thread": ("one thread beside it", 1.0),
    "on one CPU": ("one thread on one CPU", 0.9),
    "two trainings at once": ("quiet", 0.85),
}

# ------------------------------------------------------------------------------------------- in a process of its own


def serve(task: dict) -> None:
    """Answers every line, a number of seconds, with images a second of training for about so long."""
    import torch

    from search.data.split import Split
    from search.training.images import Images
    from search.training.optimizer import Optimizer
    from search.training.recipe import Recipe
    from search.training.step import Step
    from wavemix.config import LiteConfig
    from wavemix.kernels import LANES
    from wavemix.stack import Stack

    config, members = LiteConfig(**task["config"]), task["members"]
    generator = torch.Generator().manual_seed(0)
    size = 28 if config.in_channels == 1 else 32
    count = 1024
    pixels = torch.randint(0, 256, (count, config.in_channels, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    data = Split("random", "random", "train", pixels, labels, tuple("0123456789"), "folder")
    stack, recipe = Stack(config, list(range(members))), Recipe(optimizer="muon")
    if stack.in_kernels(task["batch"] // LANES, size, size):  # as `train` has it
        torch.set_num_threads(1)
    step = Step(stack, Optimizer(stack, recipe), recipe, stack.flat.detach().clone())
    images = Images(data, torch.device("cpu"))
    index = torch.randint(count, (members, task["batch"]), generator=generator)
    move = torch.tensor([1.0, 0, 0.3, 0, 1, 0.2]).expand(members, task["batch"], 6)

    def once() -> None:
        step(images, index, (move, None, None), 1e-4, 0.5)

    once()
    print("ready", flush=True)
    for line in sys.stdin:
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < float(line):
            once()
            done += 1
        print(members * task["batch"] * done / (time.perf_counter() - begin), flush=True)


# ------------------------------------------------------------------------------------------------ and the one beside


class Training:
    """A process that trains when it is asked to; `cpus` pins it, `threads` is OMP_NUM_THREADS."""

    def __init__(self, task: dict, threads: int | None = None, cpus: set[int] | None = None):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
        command = [sys.executable, "-m", "scripts.benchmarks.threads", "--serve", json.dumps(task)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=pin
        )

    def ready(self) -> None:
        self.process.stdout.readline()

    def ask(self, seconds: float) -> None:
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        return float(self.process.stdout.readline())

    def rate(self, seconds: float) -> float:
        self.ask(seconds)
        return self.answer()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """`count` processes of one busy thread each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(0.3)
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(name: str, members: int, options) -> Samples:
    """Images a second of every case, by repetition."""
    cpus = sorted(os.sched_getaffinity(0))
    task = {"config": NETWORKS[name], "members": members, "batch": BATCH[name]}
    whole, single = Training(task), Training(task, threads=1)
    pinned, single_pinned = Training(task, cpus={cpus[0]}), Training(task, threads=1, cpus={cpus[0]})
    halves = [Training(task, threads=options.threads), Training(task, threads=options.threads)]
    trainings = [whole, single, pinned, single_pinned, *halves]
    for training in trainings:
        training.ready()

    def beside(training: Training) -> float:
        with busy(max(1, len(cpus) // 2)):
            return training.rate(options.seconds)

    def together() -> float:
        for training in halves:
            training.ask(options.seconds)
        return sum(training.answer() for training in halves)

    cases = {
        "quiet": lambda: whole.rate(options.seconds),
        "one thread": lambda: single.rate(options.seconds),
        "beside another process": lambda: beside(whole),
        "one thread beside it": lambda: beside(single),
        "on one CPU": lambda: pinned.rate(options.seconds),
        "one thread on one CPU": lambda: single_pinned.rate(options.seconds),
        "two trainings at once": together,
    }
    try:
        return alternate(cases, options.repetitions)
    finally:
        for training in trainings:
            training.end()


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], repetitions=5, seconds=2.0)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    kept = True
    for name in options.networks:
        for members in options.members:
            samples = measure(name, members, options)
            rates = medians(samples)
            rows = []
            for what, (against, bar) in BARS.items():
                ours = rates["beside another process" if what == "beside it, to one thread" else what]
                ratio = ours / rates[against]
                kept &= ratio >= bar
                rows.append([what, f"{ours:,.0f}", against, f"{rates[against]:,.0f}", f"{ratio:.2f}", f">= {bar}"])
            record(
                options.output, "cpu", {"cpus": allowed(), "spread": spread(samples), "members": members},
                name=f"training {name} beside other processes, K={members}", unit="images/s",
                ours=rates.pop("quiet"), peers=rates, better="higher", repetitions=options.repetitions,
            )  # fmt: skip
            print_table(
                f"training {name}, K={members}, {allowed()} CPUs (quiet, on one thread: {rates['one thread']:,.0f})",
                ["case", "images/s", "against", "images/s", "ratio", "bar"],
                rows,
            )
    return 0 if kept else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(json.loads(sys.argv[2]))
    else:
        sys.exit(main())
