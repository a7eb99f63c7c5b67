"""The frontier sampler beside Optuna's own in real trainings at equal processor time.

    python -m scripts.benchmarks.whole_search mnist|fashion-mnist [--minutes 60] [--repetitions 5] [--contenders ...]

The rules are those of `sampler.py`: the fewest parameters, below the published count, that reach a target on validation
images after a fixed number of epochs. But every measurement is a training of two seeds by the default recipe, on one
core, and what counts is time, trainings' and the sampler's own: processor seconds, so that a busy machine changes
nothing. Nothing starts warm. At the end each contender's incumbent is trained with five fresh seeds, outside the time:
an incumbent whose mean misses the target had passed by luck.

Contenders run side by side, one a core. Each one that ends is kept in a file of results/records/apart/plays, so that a
run that was cut off, or one with other contenders, goes on from there; after a change of the sampler, delete those it
concerns. When the plays of a seed are complete, they are recorded.
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import torch

from scripts.benchmarks.harness import BENCHMARKS, RECORDS, ended, print_table, record
from scripts.benchmarks.sampler import CONTENDERS, OURS, Play, Task, play
from search.data import datasets
from search.data.catalogue import VALIDATION
from search.data.split import split_validation
from search.files import write_atomically
from search.training.default_recipe import default_recipe
from search.training.outcome import Epoch
from search.training.train import train
from wavemix.config import LiteConfig

# label, target, published count, and epochs after which the target is within reach of networks below it
TASKS = {"mnist": ("MNIST", 0.985, 3566, 12), "fashion-mnist": ("Fashion-MNIST", 0.88, 7156, 12)}
MEMBERS = 2
JUDGES = range(100, 105)  # seeds that judge an incumbent


class Trainings(Task):
    """A task whose measurements are real, and whose compute is minutes of a core."""

    def __init__(self, data: str, data_dir: Path | None, seed: int):
        split, (_, target, ceiling, epochs) = datasets.load(data, "train", data_dir), TASKS[data]
        self.training, self.validation = split_validation(split, VALIDATION[data], 0)
        self.recipe = default_recipe(data, split.images.shape[-1], epochs)
        self.seeds = [1000 * (seed + 1) + member for member in range(MEMBERS)]
        super().__init__(None, target, ceiling, epochs)
        self.last = time.process_time()

    def train(self, config, rng, on_epoch) -> None:
        def told(epoch: int, latest: list[Epoch]) -> bool:
            return on_epoch(epoch, float(np.mean([one.accuracy for one in latest])))

        train(config, self.recipe, self.training, self.seeds, validation=self.validation, on_epoch=told)
        self.seeds = [seed + MEMBERS for seed in self.seeds]

    def charge(self, config: LiteConfig) -> float:
        """Minutes of this core since it was asked last: the epoch's, and what the sampler took."""
        now = time.process_time()
        spent, self.last = now - self.last, now
        return spent / 60

    def passes(self, config: LiteConfig) -> bool:
        return True  # unknown until the judges have trained it

    def judged(self, config: LiteConfig) -> list[float]:
        results = train(config, self.recipe, self.training, list(JUDGES), validation=self.validation)
        return [result.accuracy for result in results]


def job(path: Path, data: str, name: str, seed: int, minutes: float, data_dir: Path | None) -> dict:
    """One contender's play with the judges' accuracies of its last incumbent within the time; kept at `path`."""
    if path.exists():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    task = Trainings(data, data_dir, seed)
    result: Play = play(task, CONTENDERS[name], seed, minutes)
    kept = asdict(result) | {"shown": None, "judged": []}
    if result.shown:
        kept |= {"shown": result.shown.model_dump(mode="json"), "judged": task.judged(result.shown)}
    write_atomically(path, json.dumps(kept).encode())
    return job(path, data, name, seed, minutes, data_dir)  # as it was kept


def at(kept: dict, minutes: float) -> int:
    return Play(kept["steps"]).at(minutes)


def report(options, seed: int, plays: dict[str, dict]) -> None:
    label, target, ceiling, epochs = TASKS[options.data]
    marks = sorted({options.minutes * share for share in (0.25, 0.5, 1)})
    rows = [
        [
            name,
            *(f"{at(kept, mark):,}" for mark in marks),
            f"{statistics.mean(kept['judged']):.2%}" if kept["judged"] else "none",
            kept["trained"],
            f"{kept['seconds']:.0f}",
        ]
        for name, kept in plays.items()
    ]
    print_table(
        f"{label}, {100 * target:g} % after {epochs} epochs, below {ceiling:,} parameters: real trainings, seed {seed}",
        ["", *(f"at {mark:g} min" for mark in marks), "judged", "trained", "sampler s"],
        rows,
    )
    found = {name: at(kept, options.minutes) for name, kept in plays.items()}
    record(
        options.output,
        name=f"search for {options.minutes:g} min with real trainings, {label} {100 * target:g} % in {epochs} epochs",
        unit="parameters",
        ours=found.pop(OURS),
        peers=found,
        better="lower",
        repetitions=1,
        details={"seed": seed, "published": ceiling, "plays": plays},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=TASKS)
    parser.add_argument("--output", type=Path, default=BENCHMARKS)
    parser.add_argument("--plays", type=Path, default=RECORDS / "apart" / "plays", help="where what is done is kept")
    rivals = ["TPE + Hyperband below", "random, our pruning"]
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[OURS, *rivals])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    options.plays.mkdir(parents=True, exist_ok=True)
    datasets.load(options.data, "train", options.data_dir)  # fetched once, and a missing one is said here
    words = {name: re.sub(r"\W+", "-", name) for name in options.contenders}
    with ProcessPoolExecutor(options.processes) as pool:
        futures = {
            (seed, name): pool.submit(
                job,
                options.plays / f"{options.data}-{options.minutes:g}min-{words[name]}-{seed}.json",
                options.data,
                name,
                seed,
                options.minutes,
                options.data_dir,
            )
            for seed in range(options.repetitions)
            for name in options.contenders
        }
        for seed in range(options.repetitions):
            plays = {name: futures[seed, name].result() for name in options.contenders}
            if OURS in plays and len(plays) > 1:
                report(options, seed, plays)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(ended(main))
