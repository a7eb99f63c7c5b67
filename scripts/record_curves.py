"""Record the learning curves of configurations drawn over the whole extended space: a map of what costs what.

    python scripts/record_curves.py mnist [--count N] [--part I/N] [--results DIR]

The configurations are drawn without looking at any result: uniformly in the logarithm of the parameters between 500 and
6,000, with training work below a limit that keeps one core busy for about half a minute each. Each is trained with one
seed for a few epochs on the training part and judged on the validation part after every epoch; nothing is pruned. Each
is one `Trial` of the study `curves-DATASET`. A run that was cut off goes on where it stopped. These records are
the surrogate of `scripts/benchmark_sampler.py`, and what a search warms up with.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch

from search import datasets
from search.attempt import dataset_of, trial_of
from search.datasets import split_validation
from search.protocol import CEILINGS, VALIDATION
from search.recipe import default_recipe
from search.records import Trial, append, read, repair
from search.space import Space, training_work
from search.training import train
from wavemix.config import LiteConfig

TARGETS = {"mnist": 0.99, "fashion-mnist": 0.9}
LEAST, MOST = 500, 6000  # parameters
WORK = 350_000  # of `training_work`; the published MNIST network at half-size maps has 300,000
EPOCHS = 6


def drawn(space: Space, height: int, width: int, count: int) -> list[LiteConfig]:
    """`count` distinct configurations, as even in log parameters as the space has them; always the same ones."""
    bins: list[list[LiteConfig]] = [[] for _ in range(16)]
    for config in space.configurations(seed=1, below=MOST, most=20_000):
        share = math.log(config.parameters() / LEAST) / math.log(MOST / LEAST)
        if 0 <= share < 1 and training_work(config, height, width) < WORK:
            bins[int(share * len(bins))].append(config)
    chosen: list[LiteConfig] = []
    while len(chosen) < count and any(bins):
        chosen += [members.pop(0) for members in bins if members]
    random.Random(0).shuffle(chosen)  # a part that is cut off covers all sizes too
    return chosen[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=TARGETS)
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--part", default="1/1", help="of several processes side by side: 1/2 and 2/2")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name, target = f"curves-{options.data}", TARGETS[options.data]
    split = datasets.load(options.data, "train", options.data_dir)
    training, validation = split_validation(split, VALIDATION[options.data], 0)
    height, width = split.images.shape[2:]
    space = Space("extended", tuple(split.images.shape[1:]), len(split.classes), CEILINGS[options.data, target] + MOST)
    recipe = default_recipe(options.data, height, EPOCHS)
    path = options.results / f"{name}.jsonl"
    repair(path)
    done = {r.config for r in read(path) if isinstance(r, Trial)} if path.exists() else set()
    part, parts = (int(number) for number in options.part.split("/"))
    for number, config in enumerate(drawn(space, height, width, options.count)):
        if config in done or number % parts != part - 1:
            continue
        start = time.monotonic()
        [result] = train(config, recipe, training, [0], validation=validation)
        append(
            path,
            trial_of(
                config,
                recipe,
                [result],
                study=name,
                number=number,
                dataset=dataset_of(training, validation, 0),
                target=target,
                family=config.family,
                seeds=[0],
                state="complete" if result.stopped is None else "failed",
                reason=result.stopped,
                wall_seconds=time.monotonic() - start,
            ),
        )
        print(
            f"{number}: {config.parameters():,} {config.name} {result.accuracy:.2%}, {result.seconds:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
