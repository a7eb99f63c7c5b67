"""What does training on an image take, by what follows from the network? Fits the constants of `search.space.work`.

    python -m scripts.experiments.work

Twenty-seven networks of all kinds train for an epoch on random images of 28x28 pixels, one thread, one member, batches
of 64; the processor time of each is printed, and the least-squares fit of (time / time as fitted - 1) by
multiply-accumulates, operations and a constant. Nothing is recorded: how well the networks do has no part in it.
"""

import sys
import time

import numpy as np
import torch

from scripts.benchmarks.harness import ended, print_table
from search.data.split import Split
from search.space.work import IMAGE, START, multiply_accumulates, operations, training_work
from search.training.recipe import Recipe
from search.training.train import train
from wavemix.config import LiteConfig

IMAGES, BATCH = 6400, 64
BODIES = [
    {"depth": 2, "mult": 1, "upsampling": "bilinear"},
    {"depth": 8, "mult": 1, "upsampling": "depthwise"},
    {"depth": 4, "final_dim": 16, "upsampling": "bilinear", "initial_conv": "separable"},
    {"depth": 2, "mult": 1, "upsampling": "deconv", "ff_channel": 4},
    {"depth": 2, "mult": 1, "level": 2, "upsampling": "bilinear"},
    {"depth": 2, "mult": 1, "level": 3, "upsampling": "depthwise"},
    {"depth": 6, "level": 2, "upsampling": "bilinear"},
    {
        "depth": 6,
        "mult": 1,
        "cycle": 3,
        "upsampling": "depthwise",
        "initial_conv": "separable",
        "stem_activation": True,
    },
    {"depth": 3, "final_dim": 12, "level": 2, "upsampling": "deconv"},
]


def networks() -> list[LiteConfig]:
    own = {"in_channels": 1, "final_dim": 8, "bias": "needed", "pad": 2}
    return [LiteConfig(**{**own, **body, "stride": stride}) for stride in ((2, 2), (2, 1), (1, 1)) for body in BODIES]


def microseconds(config: LiteConfig, data: Split) -> float:
    """Processor time of training on an image: of the second of two epochs."""
    ends: list[float] = []
    recipe = Recipe(epochs=2, batch_size=BATCH, optimizer="muon", lr=0.03)
    train(config, recipe, data, [0], on_epoch=lambda epoch, _: ends.append(time.process_time()))
    return (ends[1] - ends[0]) / IMAGES * 1e6


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (IMAGES,), generator=generator)
    data = Split("random", "random", "train", images, labels, tuple("0123456789"), "folder")
    times, parts, rows = [], [], []
    for config in networks():
        times.append(microseconds(config, data))
        parts.append([multiply_accumulates(config, 28, 28), operations(config), 1])
        work = training_work(config, 28, 28)
        rows.append([config.name, f"{times[-1]:.0f}", f"{parts[-1][0]:,}", f"{1e6 * times[-1] / work:.0f}"])
    header = ["network", "microseconds an image", "multiply-accumulates", "microseconds a million of work"]
    print_table("training on an image", header, rows)
    found, relative = np.array(times), np.array(parts, float) / np.array(times)[:, None]
    fit, *_ = np.linalg.lstsq(relative, np.ones(len(found)), rcond=None)
    off = np.std(np.log(np.array(parts) @ fit / found))
    image, start = fit[2] / fit[0], fit[1] / fit[0]
    print(f"\nan image apart from its network: {image:,.0f} multiply-accumulates (in use: {IMAGE:,})")
    print(f"an operation's start: {start:,.0f} ({START:,}); the fit is off by {off:.0%}")


if __name__ == "__main__":
    sys.exit(ended(main))
