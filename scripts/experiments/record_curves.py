"""Record the learning curves of configurations drawn over the whole extended space: a map of what costs what.

    python -m scripts.experiments.record_curves mnist [--count N] [--part I/N] [--results DIR]

The configurations are drawn without looking at any result: uniformly in the logarithm of the parameters between 500 and
6,000, with training work below a limit that keeps one core busy for about half a minute each. Each is trained with one
seed for a few epochs on the training part and judged on the validation part after every epoch; nothing is pruned. Each
is one `Trial` of the study `curves-DATASET`. A run that was cut off goes on where it stopped. These records are
the surrogate of `scripts/benchmarks/sampler.py`, and what a search warms up with.
"""

import argparse
import math
import random
import sys
from pathlib import Path

import torch

from scripts.benchmarks.harness import ROOT, ended, positive
from scripts.benchmarks.surrogate import extent
from search.data.source import Source
from search.exploration import Exploration
from search.space.configurations import Space
from search.training.default_recipe import default_recipe
from search.upstream import CEILINGS
from wavemix.config import LiteConfig

TARGETS = {"mnist": 0.99, "fashion-mnist": 0.9}
LEAST, MOST = 500, 6000  # parameters
WORK = 350_000  # of `extent`; the published MNIST network at half-size maps has 300,000
EPOCHS = 6


def drawn(space: Space, height: int, width: int, count: int) -> list[LiteConfig]:
    """`count` distinct configurations, as even in log parameters as the space has them; always the same ones."""
    bins: list[list[LiteConfig]] = [[] for _ in range(16)]
    for config in space.configurations(seed=1, below=MOST, most=20_000):
        share = math.log(config.parameters() / LEAST) / math.log(MOST / LEAST)
        if 0 <= share < 1 and extent(config, height, width) < WORK:
            bins[int(share * len(bins))].append(config)
    chosen: list[LiteConfig] = []
    while len(chosen) < count and any(bins):
        chosen += [members.pop(0) for members in bins if members]
    random.Random(0).shuffle(chosen)  # a part that is cut off covers all sizes too
    return chosen[:count]


def share(text: str) -> tuple[int, int]:
    """The type of --part."""
    part, _, parts = text.partition("/")
    if not positive(part) <= positive(parts):
        raise argparse.ArgumentTypeError(f"such as 1/2 and 2/2, not {text!r}")
    return int(part), int(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=TARGETS)
    parser.add_argument("--count", type=positive, default=160)
    parser.add_argument("--part", type=share, default="1/1", help="of several processes side by side: 1/2 and 2/2")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    target = TARGETS[options.data]
    course = Exploration(f"curves-{options.data}", Source(options.data), target, options.data_dir, options.results)
    split = course.training
    height, width = split.images.shape[2:]
    space = Space("extended", tuple(split.images.shape[1:]), len(split.classes), CEILINGS[options.data, target] + MOST)
    recipe = default_recipe(options.data, height, EPOCHS)
    done = {trial.config for trial in course.done}
    part, parts = options.part
    for number, config in enumerate(drawn(space, height, width, options.count)):
        if config in done or number % parts != part - 1:
            continue
        trial = course.run(config, recipe, [0], number=number)
        print(
            f"{number}: {config.parameters():,} {config.name} {trial.accuracies[0]:.2%}, {trial.device_seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(ended(main))
