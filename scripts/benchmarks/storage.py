"""A study of 10,000 finished trials: seconds to open it as a search does, and of one trial without its training.

    python -m scripts.benchmarks.storage [--storage URL] [--trials 10000] [--output FILE]

The trials have the extended family's hyperparameters, six reported epochs each, a third of them pruned; each carries
its record. Without --storage, SQLite in a temporary directory. To make the study takes minutes, one transaction a
trial; a study of the same name in the storage is used again. Then a search opens it, as `wavemix search` does, and
takes trials whose training ends at once: what is left is asking, reporting, pruning, telling and recording.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import optuna
import torch

from scripts.benchmarks.harness import print_table, record
from search.data.split import Split
from search.records.environment import environment, mask
from search.records.making import dataset_of, trial_of
from search.records.models import Trial
from search.records.results import Results
from search.study import rebuild
from search.study.search import Search
from search.study.setting import Setting
from search.tasks import classification
from search.training.outcome import Epoch, Trained
from search.training.recipe import Recipe
from wavemix.config import LiteConfig

EPOCHS, TARGET, CEILING = 6, 0.98, 7156


def images() -> Split:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Split("toy", "Toy", "train", pixels, torch.arange(300) % 10, tuple("0123456789"), "folder")


def setting(count: int) -> Setting:
    """What is searched: a study named after the number of its trials."""
    options = {"name": f"benchmark-{count}", "ceiling": CEILING, "validation_count": 100, "members": 1}
    return Setting(images(), TARGET, Recipe(epochs=EPOCHS), **options)


def curve(config: LiteConfig, chance: random.Random) -> list[Epoch]:
    """A plausible learning curve."""
    end = 1 - 0.02 * (CEILING / config.parameters()) ** 0.8 * chance.lognormvariate(0.2, 0.2)
    accuracies = [1 - min(0.9, (1 - end) * 2 ** (1 - epoch / EPOCHS)) for epoch in range(1, EPOCHS + 1)]
    return [Epoch(epoch=e, train_loss=1.0, accuracy=a, seconds=float(e)) for e, a in enumerate(accuracies, 1)]


def finished(of: Setting, count: int) -> Iterator[Trial]:
    """Records of so many trials, every third of them pruned after two epochs."""
    chance, configs, here = random.Random(0), of.space.configurations(1, CEILING), environment()
    for number in range(count):
        config, pruned = configs[number % len(configs)], number % 3 == 0
        points = curve(config, chance)[: 2 if pruned else EPOCHS]
        ended = Trained(seed=0, curve=points, accuracy=points[-1].accuracy, stopped=None, seconds=float(len(points)))
        yield trial_of(
            config,
            of.tuning.base,
            [ended],
            study=of.name,
            number=number,
            dataset=dataset_of(of.train, of.validation, of.seed),
            target=TARGET,
            family="extended",
            seeds=of.seeds,
            state="pruned" if pruned else "complete",
            environment=here,
        )


def train(config, recipe, data, seeds, *, on_epoch, **options) -> list[Trained]:
    """Stands in for the training, and takes no time."""
    points, stopped = curve(config, random.Random(config.name)), None
    for epoch, point in enumerate(points, 1):
        if on_epoch(epoch, [point]):
            points, stopped = points[:epoch], "pruned"
            break
    return [Trained(seed=seeds[0], curve=points, accuracy=points[-1].accuracy, stopped=stopped, seconds=1.0)]


def measure(url: str, count: int, repetitions: int, folder: Path) -> dict[str, float]:
    of, results = setting(count), Results(folder)
    with Search.open(of, results, storage=url) as search:
        have = len(search.study.get_trials(deepcopy=False))
        for number, made in enumerate(finished(of, count)):
            if number >= have:
                search.study.add_trial(rebuild.trial_of(made, number, of, search.worker))
    start = time.perf_counter()
    with Search.open(setting(count), results, storage=url) as search:
        opened, turns = time.perf_counter() - start, []
        for _ in range(repetitions):
            start = time.perf_counter()
            search.run(trials=1)
            turns.append(time.perf_counter() - start)
    return {"open": opened, "first": turns[0], "turn": statistics.median(turns)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", help="an Optuna storage URL; default: SQLite in a temporary directory")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=10, help="trials; medians count")
    parser.add_argument("--output", type=Path, help="append a record here")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, patch.object(classification, "train", train):
        url = options.storage or f"sqlite:///{folder}/study.db"
        found = measure(url, options.trials, options.repetitions, Path(folder))
    kind = url.split(":")[0].split("+")[0]
    print_table(
        f"{options.trials:,} finished trials, {mask(url) if options.storage else kind}: seconds",
        ["", *found],
        [["frontier", *(f"{seconds:.3f}" for seconds in found.values())]],
    )
    if options.output:
        record(
            options.output,
            name=f"a search's trial without its training after {options.trials:,} finished trials, {kind}",
            unit="s",
            ours=found["turn"],
            better="lower",
            repetitions=options.repetitions,
            details={f"{part}_seconds": seconds for part, seconds in found.items()},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
