"""The frontier sampler beside Optuna's own in real trainings at equal wall time.

    python -m scripts.benchmarks.whole_search [--minutes 12] [--repetitions 2] [--contenders frontier TPE ...]

The task and the rules are `benchmark_sampler.py`'s: the fewest parameters that reach 98 % on MNIST's validation images
after six epochs, below the published count. But every measurement is a training of two seeds by the default recipe, on
one core, and what counts is time, trainings' and the sampler's own: seconds of that core, which are the clock's where
nothing else runs on it. Nothing starts warm. At the end each contender's incumbent is trained with five fresh seeds,
outside the time: an incumbent whose mean misses the target had passed by luck.

Contenders run side by side, one a core. Each one that ends is kept under `results/studies`, so that a run that was cut
off, or one with other contenders, goes on from there; after a change of the code, delete those it concerns
(`play-*.json`). When the plays of a seed are complete, they are recorded.
"""

import argparse
import json
import os
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

from scripts.benchmarks.harness import BENCHMARKS, ended, print_table, record
from scripts.benchmarks.sampler import CONTENDERS, OURS, PLAIN, TASKS, Play, Task, play
from search.data import datasets
from search.data.catalogue import VALIDATION
from search.data.split import split_validation
from search.files import write_atomically
from search.training.default_recipe import default_recipe
from search.training.outcome import Epoch
from search.training.train import train
from wavemix.config import LiteConfig

DATA, EPOCHS, MEMBERS = "mnist", 6, 2
JUDGES = range(100, 105)  # seeds that judge an incumbent


class Trainings(Task):
    """A task whose measurements are real, and whose compute is minutes of a core."""

    def __init__(self, data_dir: Path | None, seed: int):
        split = datasets.load(DATA, "train", data_dir)
        self.training, self.validation = split_validation(split, VALIDATION[DATA], 0)
        self.recipe = default_recipe(DATA, split.images.shape[-1], EPOCHS)
        self.seeds = [1000 * (seed + 1) + member for member in range(MEMBERS)]
        super().__init__(None, *TASKS[DATA][1:], EPOCHS)
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


def job(path: Path, name: str, seed: int, minutes: float, data_dir: Path | None) -> dict:
    """One contender's play with the judges' accuracies of its last incumbent within the time; kept at `path`."""
    if path.exists():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    task = Trainings(data_dir, seed)
    result: Play = play(task, CONTENDERS[name], seed, minutes)
    kept = asdict(result) | {"shown": None, "judged": []}
    if result.shown:
        kept |= {"shown": result.shown.model_dump(mode="json"), "judged": task.judged(result.shown)}
    write_atomically(path, json.dumps(kept).encode())
    return job(path, name, seed, minutes, data_dir)  # as it was kept


def at(kept: dict, minutes: float) -> int:
    return Play(kept["steps"]).at(minutes)


def report(options, seed: int, plays: dict[str, dict]) -> None:
    label, target, ceiling = TASKS[DATA]
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
        f"{label}, {100 * target:g} % after six epochs, below {ceiling:,} parameters: real trainings, seed {seed}",
        ["", *(f"at {mark:g} min" for mark in marks), "judged", "trained", "sampler s"],
        rows,
    )
    found = {name: at(kept, options.minutes) for name, kept in plays.items()}
    record(
        options.output,
        name=f"search for {options.minutes:g} min with real trainings, {label} {100 * target:g} % after six epochs",
        unit="parameters",
        ours=found.pop(OURS),
        peers=found,
        better="lower",
        repetitions=1,
        details={"seed": seed, "published": ceiling, "plays": plays},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BENCHMARKS)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[OURS, PLAIN, "TPE + Hyperband below"])
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    folder = options.output.parent / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    datasets.load(DATA, "train", options.data_dir)  # fetched once, and a missing one is said here
    with ProcessPoolExecutor(options.processes) as pool:
        futures = {
            (seed, name): pool.submit(
                job, folder / f"play-{DATA}-{options.minutes:g}min-{name.replace(' ', '')}-{seed}.json",
                name, seed, options.minutes, options.data_dir,
            )
            for seed in range(options.repetitions) for name in options.contenders
        }  # fmt: skip
        for seed in range(options.repetitions):
            plays = {name: futures[seed, name].result() for name in options.contenders}
            if OURS in plays and len(plays) > 1:
                report(options, seed, plays)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(ended(main))
