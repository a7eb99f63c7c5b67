"""What brief trainings tell of longer ones: random networks trained in several ways, and how well the orders agree.

    python -m scripts.experiments.scouts mnist 3566 --networks 36 [--whole 12]

Networks are drawn evenly over the logarithm of their parameters, from a sixth of the ceiling on, and each is trained as
a search scouts (4 epochs of 10,000 images), for 2 epochs of all images, and the first `--whole` of them for the default
recipe's epochs. One seed, judged on the validation images. What has been trained is read from
results/records/apart/scouts.jsonl and not repeated.
"""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from scripts.benchmarks.harness import RECORDS, ended, positive, print_table
from search.data import datasets
from search.data.catalogue import VALIDATION
from search.data.source import Source
from search.data.split import split_validation
from search.records.environment import environment
from search.space.configurations import Space
from search.space.work import multiply_accumulates
from search.training.default_recipe import default_recipe
from search.training.train import train
from wavemix.config import LiteConfig

WAYS = {"4 epochs of 10,000": (4, 10_000), "2 epochs of all": (2, None)}
WHOLE = "whole"


def drawn(space: Space, count: int) -> list[LiteConfig]:
    """Networks of all sizes, in turn."""
    rng = random.Random(3)
    sizes: dict[int, list[LiteConfig]] = {}
    for config in space.configurations(7, space.ceiling):
        size = math.floor(4 * math.log(config.parameters()))
        if size >= math.floor(4 * math.log(space.ceiling / 6)):
            sizes.setdefault(size, []).append(config)
    found: list[LiteConfig] = []
    while len(found) < count:
        found += [sizes[size].pop(rng.randrange(len(sizes[size]))) for size in sorted(sizes) if sizes[size]]
    return found[:count]


def compare(rows: list[dict], data: str) -> None:
    """Rank correlations, and of the log errors what the line through them leaves."""
    names = [*WAYS, WHOLE]
    errors = {(r["network"], r["way"]): math.log(1 - r["accuracy"]) for r in rows if r["data"] == data}
    table = []
    for place, brief in enumerate(names):
        for longer in names[place + 1 :]:
            both = [name for name, way in errors if way == longer and (name, brief) in errors]
            if len(both) < 4:
                continue
            x, y = (np.array([errors[name, way] for name in both]) for way in (brief, longer))
            slope, level = np.polyfit(x, y, 1)
            spread = (y - slope * x - level).std(ddof=2)
            row = [len(both), spearmanr(x, y).statistic, slope, spread, y.std(ddof=1)]
            table.append([brief, longer, *(f"{value:.2f}" if isinstance(value, float) else value for value in row)])
    columns = ["brief", "longer", "networks", "rank correlation", "slope", "left over", "spread"]
    print_table(f"{data}: log errors of networks trained briefly and longer", columns, table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=VALIDATION)
    parser.add_argument("ceiling", type=positive)
    parser.add_argument("--networks", type=positive, default=36)
    parser.add_argument("--whole", type=int, default=12)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--output", type=Path, default=RECORDS / "apart" / "scouts.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = datasets.load_classes(Source(options.data), "train", options.data_dir)
    training, validation = split_validation(split, VALIDATION[options.data], 0)
    space = Space("extended", training.shape, len(training.classes), options.ceiling)
    networks = drawn(space, options.networks)
    rows = [json.loads(line) for line in options.output.read_text().splitlines()] if options.output.exists() else []
    known = {(row["data"], row["network"], row["way"]) for row in rows}
    epochs = default_recipe(options.data, training.shape[2]).epochs
    plans = [(config, way, *plan) for config in networks for way, plan in WAYS.items()]
    plans += [(config, WHOLE, epochs, None) for config in networks[: options.whole]]
    for config, way, length, images in plans:
        if (options.data, config.name, way) in known:
            continue
        few = training if images is None else split_validation(training, len(training) - images, 1)[0]
        start = time.process_time()
        recipe = default_recipe(options.data, training.shape[2], length)
        (trained,) = train(config, recipe, few, [0], validation=validation)
        made = {"data": options.data, "network": config.name, "way": way, "accuracy": trained.accuracy}
        made |= {"parameters": config.parameters(), "macs": multiply_accumulates(config, *training.shape[1:])}
        made |= {"processor_seconds": round(time.process_time() - start, 2), "environment": environment().model_dump()}
        rows.append(made)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with options.output.open("a") as file:
            file.write(json.dumps(made) + "\n")
    compare(rows, options.data)


if __name__ == "__main__":
    sys.exit(ended(main))
