"""Training steps of upstream's network classes as this package has them: float32, channels last, bfloat16 autocast.

    python -m scripts.benchmarks.drop_ins [--repetitions 5]

What counts is processor time of the process: other programs on the machine do not count. Repetitions alternate, and
medians count. Upstream's wheel itself raises an error under bfloat16 autocast (scripts.benchmarks.training).
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from scripts.benchmarks.compiled import timed
from scripts.benchmarks.harness import BENCHMARKS, alternate, ended, medians, positive, print_table, record, spread
from wavemix import SemSegment, WaveMixSR, classification, sisr

BODY = {"depth": 4, "final_dim": 64, "ff_channel": 64}
# how it is built, images of a step, their height and width; WaveMixSR takes luma and colour apart
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "classification.WaveMix, level 2": (partial(classification.WaveMix, **BODY, level=2), 32, 32),
    "SemSegment.WaveMix, level 2": (partial(SemSegment.WaveMix, **BODY, level=2), 2, 128),
    "sisr.WaveMix": (partial(sisr.WaveMix, **BODY), 4, 32),
    "WaveMixSR": (partial(WaveMixSR, **BODY), 4, 32),
}
FLOAT32 = "float32"
WAYS = {
    FLOAT32: (torch.contiguous_format, False),
    "channels last": (torch.channels_last, False),
    "bfloat16": (torch.contiguous_format, True),
    "bfloat16, channels last": (torch.channels_last, True),
}


def step(network: nn.Module, images: torch.Tensor, narrow: bool) -> None:
    """Forward and backward."""
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        output = network(images)
    output.float().square().mean().backward()


def measure(name: str, options: argparse.Namespace) -> list[str]:
    """Record one class; a line of the table that is printed."""
    build, count, size = NETWORKS[name]
    steps = {}
    for way, (layout, narrow) in WAYS.items():
        torch.manual_seed(0)
        network = build().train().to(memory_format=layout)
        images = torch.randn(count, 3, size, size).to(memory_format=layout)
        steps[way] = partial(step, network, images, narrow)
        steps[way]()
    contenders = {way: partial(timed, one, options.seconds, []) for way, one in steps.items()}
    samples = alternate(contenders, options.repetitions)
    speeds = {way: count / seconds for way, seconds in medians(samples).items()}
    ours = speeds["bfloat16, channels last"]
    record(
        options.output, name=f"training step, drop-in {name}", unit="images/s", ours=ours,
        peers={way: speed for way, speed in speeds.items() if way != "bfloat16, channels last"}, better="higher",
        repetitions=options.repetitions, details={
            "batch": count, "size": size, "network": BODY, "clock": "processor time", "threads": options.threads,
            "spread_seconds": spread(samples),
        },
    )  # fmt: skip
    return [name, *(f"{speed:,.1f}" for speed in speeds.values()), f"{ours / speeds[FLOAT32]:.2f}x"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=BENCHMARKS, help="append records here")
    parser.add_argument("--repetitions", type=positive, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least so long each repetition")
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(name, options) for name in NETWORKS]
    print_table("training steps, images a second of processor time", ["", *WAYS, "to float32"], rows)


if __name__ == "__main__":
    sys.exit(ended(main))
