"""The frontier sampler beside Optuna's own samplers, on curves interpolated from recorded trainings.

    python -m scripts.benchmarks.sampler [--results DIR] [--output FILE] [--repetitions 20] [--data mnist fashion-mnist]

The task is the search's: the fewest parameters whose accuracy after six epochs reaches the target, beginning below a
published count that reaches it. The space is the recorded one: configurations of the extended family with 500
parameters or more, at or below the published count, and at most the recorded work. What a training gives comes from
`surrogate.py`; every repetition searches another landscape, the same one for all contenders. A measurement is the mean
of two seeds. Rules, the same for all:

- Compute is training work times epochs, in full trainings of the published network; sampler seconds are extra.
- Parameters are known before training, and that is free knowledge: a suggestion that does not build, lies outside the
  space or was trained before becomes the nearest configuration of the space that is new, and the contender's trial is
  rewritten to it, so that it learns from what was trained. "below" in a name: the nearest one below its incumbent (what
  a search does for free by refusing), so that no training is wasted. Plain TPE trains what it likes in the space.
- The incumbent is the smallest configuration measured at the search's threshold or above; of ours, the smallest of
  these that its model believes, given all measurements (`FrontierSampler.incumbent`). What is scored is its noise-free
  accuracy: an incumbent below the target passed by luck and counts as none, until the contender finds another.

Optuna's samplers minimise the parameters under the constraint that the accuracy reaches the threshold
(`Trial.set_constraint`); NSGA-II minimises parameters and error under it. Hyperband judges by the error after each
epoch. Ours proposes and prunes as `search.study.search` does; "random, our pruning" only prunes so, and is given the
nearest configuration below its incumbent, too.
"""

import argparse
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from scripts.benchmarks.harness import ROOT, ended, print_table, record
from scripts.benchmarks.surrogate import Problem, Surrogate, extent
from search.errors import UserError
from search.files import write_atomically
from search.records.jsonl import read
from search.records.models import Trial
from search.records.results import Results
from search.report.plot_axes import count_axis
from search.report.plot_style import Figure, style
from search.report.plots import rendered
from search.sampling.sampler import FrontierPruner, FrontierSampler
from search.space.candidates import Pool
from search.space.configurations import PUBLISHED, Space
from search.space.recipe_choices import Tuning
from search.space.work import training_work
from search.study.optuna_internals import rewrite
from search.tasks.score import ACCURACY
from search.training.recipe import Recipe
from wavemix.config import LiteConfig

# the published network's count, and about the accuracy it has after six epochs
TASKS = {"mnist": ("MNIST", 0.98, 3566), "fashion-mnist": ("Fashion-MNIST", 0.86, 3566)}
LEAST, WORK = 500, 350_000  # of the recorded configurations: parameters at least, extent at most
REFERENCE = LiteConfig(in_channels=1, final_dim=8, depth=10, upsampling="bilinear", stride=(2, 1))
UNIT = training_work(REFERENCE, 28, 28)
TABLE = 20_000  # configurations that a landscape's table is drawn from
# landscape: the sampler's constants were chosen on 0 to 23, and 1000 to 1019 were looked at before its last redesign
FIRST = 2000
OURS, PLAIN = "frontier", "TPE"
COLOURS = ("#000000", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#56B4E9", "#999999")


@dataclass
class Task:
    """One landscape with its space and rules."""

    problem: Problem
    target: float
    ceiling: int
    epochs: int
    space: Space = field(init=False)
    known: set[LiteConfig] = field(default_factory=set)  # trained

    def __post_init__(self):
        self.space = Space("extended", (1, 28, 28), 10, self.ceiling + 1)
        # what curves are recorded of
        self.space.hyperparameters |= {"upsampling": PUBLISHED["upsampling"], "shared": (0, 1)}
        self.threshold = self.target + ACCURACY.margin(self.target, 5000)
        drawn = self.space.configurations(12345, self.ceiling + 1, TABLE)
        self.table = [c for c in drawn if self.inside(c)]
        self.counts = np.array([c.parameters() for c in self.table])
        self.places = np.array([self.place(self.space.hyperparameters_of(c)) for c in self.table])

    def inside(self, config: LiteConfig | None) -> bool:
        return config is not None and LEAST <= config.parameters() <= self.ceiling and extent(config, 28, 28) <= WORK

    def place(self, chosen: dict) -> list[float]:
        """Hyperparameters as coordinates: numbers by rank between 0 and 1, half a unit between any two other
        choices."""
        row: list[float] = []
        for name, values in self.space.hyperparameters.items():
            index = values.index(chosen[name])
            if isinstance(values[0], int) and not isinstance(values[0], bool):
                row.append(index / (len(values) - 1))
            else:
                row += [0.5 * (index == other) for other in range(len(values))]
        return row

    def nearest(self, chosen: dict, below: int) -> LiteConfig:
        """What these hyperparameters build, or the nearest configuration of the table that is inside, new and below a
        count."""
        config = self.space.build(chosen)
        if self.inside(config) and config.parameters() < below and config not in self.known:
            return config
        distance = np.abs(self.places - self.place(chosen)).sum(1) + np.where(self.counts < below, 0, 1e6)
        return next(self.table[i] for i in np.argsort(distance, kind="stable") if self.table[i] not in self.known)

    def train(self, config: LiteConfig, rng: np.random.Generator, on_epoch: Callable[[int, float], bool]) -> None:
        """Call `on_epoch(epoch, accuracy)` after every epoch of a training, until it returns True."""
        for epoch, accuracy in enumerate(map(float, self.problem.curve(config, rng)), 1):
            if on_epoch(epoch, accuracy):
                return

    def charge(self, config: LiteConfig) -> float:
        """Compute of the epoch that has just ended."""
        return training_work(config, 28, 28) / UNIT / self.epochs

    def passes(self, config: LiteConfig) -> bool:
        """Whether a configuration that is shown as feasible truly is."""
        return bool(self.problem.truths([config])[0] >= self.target)

    def optimum(self) -> int:
        """Fewest parameters that reach the target among the table's configurations."""
        return int(min(self.counts[self.problem.truths(self.table) >= self.target], default=self.ceiling))


@dataclass
class Play:
    """What one contender did: (compute, parameters of a truly feasible incumbent or the published count)."""

    steps: list[tuple[float, int]]
    compute: float = 0.0
    seconds: float = 0.0  # in the sampler
    trained: int = 0
    lucky: bool = False  # the last incumbent is below the target
    shown: LiteConfig | None = None  # the last incumbent within the budget

    def at(self, compute: float) -> int:
        return next(count for spent, count in reversed(self.steps) if spent <= compute)

    def until(self, count: float) -> float:
        """Compute until the incumbent is at or below `count` and truly feasible; infinity where that never happens."""
        return next((spent for spent, value in self.steps if value <= count), math.inf)


@dataclass
class Contender:
    sampler: Callable[[Task, int], optuna.samplers.BaseSampler]
    below: bool = True
    pruner: Callable[[int], optuna.pruners.BasePruner] = lambda epochs: optuna.pruners.NopPruner()
    objectives: int = 1
    most: float = math.inf  # trainings of the published network, where the sampler itself is too slow for more


def frontier(task: Task, seed: int, kind: type[FrontierSampler] = FrontierSampler) -> FrontierSampler:
    pool = Pool(task.space, Tuning(Recipe()), seed, lambda: len(task.known), task.inside)
    return kind(
        task.space.hyperparameters, pool.below, task.threshold, task.ceiling,
        near=pool.near, epochs=task.epochs, seed=seed,
    )  # fmt: skip


class Drawn(FrontierSampler):
    """Proposes at random; what it prunes and which trial it believes in is the frontier sampler's."""

    def sample_relative(self, study, trial, search_space):
        return {}


def drawn(task: Task, seed: int) -> FrontierSampler:
    return frontier(task, seed, Drawn)


CONTENDERS = {
    OURS: Contender(frontier),
    PLAIN: Contender(lambda task, seed: TPESampler(seed=seed), below=False),
    "TPE below": Contender(lambda task, seed: TPESampler(seed=seed)),
    "TPE + Hyperband below": Contender(
        lambda task, seed: TPESampler(seed=seed),
        pruner=lambda epochs: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs),
    ),
    "GP below": Contender(lambda task, seed: GPSampler(seed=seed), most=15),
    "NSGA-II below": Contender(lambda task, seed: NSGAIISampler(population_size=20, seed=seed), objectives=2),
    "random below": Contender(lambda task, seed: RandomSampler(seed=seed)),
    "random, our pruning": Contender(drawn),
}


def play(task: Task, contender: Contender, seed: int, budget: float) -> Play:
    """Let a contender search until its compute is `budget`."""
    epochs, sampler = task.epochs, contender.sampler(task, seed)
    ours = isinstance(sampler, FrontierSampler)
    directions = ["maximize"] if ours else ["minimize"] * contender.objectives
    pruner = FrontierPruner(sampler) if ours else contender.pruner(epochs)
    study = optuna.create_study(directions=directions, sampler=sampler, pruner=pruner)
    distributions = {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in task.space.hyperparameters.items()
    }
    rng, shown = np.random.default_rng((seed, 1)), None
    result, below = Play([(0.0, task.ceiling)]), task.ceiling + 1
    while result.compute < budget:
        start = time.perf_counter()
        trial = study.ask(distributions)
        result.seconds += time.perf_counter() - start
        config = task.nearest(trial.params, below if contender.below else task.ceiling + 1)
        rewrite(study, trial, task.space.hyperparameters_of(config))
        task.known.add(config)
        cost, last, stopped = config.parameters(), 0.0, False
        result.trained += 1
        trial.set_user_attr("parameters", cost)

        def on_epoch(epoch: int, accuracy: float, trial: optuna.Trial = trial, config: LiteConfig = config) -> bool:
            nonlocal last, stopped
            last = accuracy
            result.compute += task.charge(config)
            if contender.objectives == 1:
                start = time.perf_counter()
                trial.report(accuracy if ours else 1 - accuracy, epoch)
                stopped = epoch < epochs and trial.should_prune()
                result.seconds += time.perf_counter() - start
            return stopped

        task.train(config, rng, on_epoch)
        if not ours:
            trial.set_constraint("accuracy", task.threshold - last)
        if stopped:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        study.tell(trial, last if ours else [cost, 1 - last][: contender.objectives])
        if ours:
            start = time.perf_counter()
            best = sampler.incumbent(study)
            result.seconds += time.perf_counter() - start
            shown = task.space.build(best.params) if best else None
        elif last >= task.threshold and cost < below:
            shown = config
        if shown and shown.parameters() != below:
            below = shown.parameters()
            result.shown = shown if result.compute <= budget else result.shown
            result.lucky = not task.passes(shown)
            result.steps.append((result.compute, task.ceiling if result.lucky else below))
    return result


@cache
def surrogate(path: Path) -> Surrogate:
    trials = [r for r in read(path) if isinstance(r, Trial)]
    if len(trials) < 30:
        raise UserError(
            f"{path} holds {len(trials)} recorded trainings; scripts/experiments/record_curves.py makes more"
        )
    return Surrogate(trials)


def job(path: Path, target: float, ceiling: int, name: str, seed: int, budget: float) -> tuple[Play, int]:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    problem = surrogate(path).problem(seed)
    task = Task(problem, target, ceiling, problem.epochs)
    return play(task, CONTENDERS[name], seed, min(budget, CONTENDERS[name].most)), task.optimum() if name == OURS else 0


def median(values: list[float]) -> float:
    return statistics.median(values)


def bounded(value: float, budget: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else f"> {budget:g}"


def figure(label: str, target: float, ceiling: int, plays: dict[str, list[Play]], budget: float, best: float) -> Figure:
    """Median and quartiles of the parameters over the compute, a line a contender.

    `best` is the smallest network of the landscape's table that reaches the target; the space holds more, and smaller
    ones.
    """
    with style():
        drawn = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = drawn.subplots()
        for colour, (name, runs) in zip(COLOURS, plays.items()):
            end = min(budget, CONTENDERS[name].most)
            grid = np.linspace(0, end, 400)
            values = np.array([[run.at(x) for x in grid] for run in runs])
            low, middle, high = np.percentile(values, (25, 50, 75), axis=0)
            axes.fill_between(grid, low, high, color=colour, alpha=0.1, lw=0, step="post")
            axes.step(grid, middle, where="post", color=colour, lw=2 if name == OURS else 1.2, label=name)
        what = "smallest of a table of configurations drawn at random (median)"
        axes.axhline(best, color="#000000", lw=0.8, ls=(0, (4, 3)), label=what)
        axes.set_yscale("log")
        count_axis(axes, "y")
        axes.set_xlim(0, budget)
        axes.set_xlabel("compute, full trainings of the published network")
        axes.set_ylabel("parameters of the incumbent, if truly feasible")
        axes.set_title(f"{label}, {100 * target:g} % after six epochs: medians and quartiles of {len(runs)} landscapes")
        drawn.legend(loc="outside lower center", ncols=3)
    return drawn


def report(options, data: str, plays: dict[str, list[Play]], optima: list[int], errors: dict) -> None:
    label, target, ceiling = TASKS[data]
    near = {name: [run.until(1.05 * best) for run, best in zip(runs, optima)] for name, runs in plays.items()}
    below = {name: [run.until(ceiling - 1) for run in runs] for name, runs in plays.items()}
    final = {name: [run.steps[-1][1] for run in runs] for name, runs in plays.items()}
    rows = []
    for name, runs in plays.items():
        budget = min(options.budget, CONTENDERS[name].most)
        rows.append(
            [
                name,
                bounded(median(below[name]), budget),
                bounded(median(near[name]), budget),
                *(f"{median([r.at(x) for r in runs]):,.0f}" for x in (2, 5, 10, 20, budget)),
                f"{sum(r.lucky for r in runs)}/{len(runs)}",
                f"{median([r.trained for r in runs]):.0f}",
                f"{1000 * sum(r.seconds for r in runs) / sum(r.trained for r in runs):.0f}",
            ]
        )
    print_table(
        f"{label}, {100 * target:g} % after six epochs, below {ceiling:,} parameters; optimum {median(optima):,.0f}; "
        f"medians of {options.repetitions}; compute in trainings of the published network",
        ["", "to below", "to 5 %", "at 2", "at 5", "at 10", "at 20", "at end", "lucky", "trained", "ms each"],
        rows,
    )
    print("surrogate: " + ", ".join(f"{key} {value:.3g}" for key, value in errors.items()))
    same = median(final[PLAIN])  # what plain TPE has at its end
    again = {name: [run.until(same) for run in runs] for name, runs in plays.items()}
    print(f"to plain TPE's last result, {same:,.0f}: {median(again[OURS]):.2f} of {options.budget:g}")
    folder = options.results / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figure(label, target, ceiling, plays, options.budget, median(optima))
    for suffix in ("png", "svg"):
        write_atomically(folder / f"sampler-{label}.{suffix}", rendered(drawn, f"sampler-{label}", suffix))
    if not options.output:
        return
    for what, values in (("below the published count", below), ("within 5 % of the optimum", near)):
        found = {name: min(median(v), options.budget, CONTENDERS[name].most) for name, v in values.items()}
        record(
            options.output,
            name=f"search to {what}, {label} {100 * target:g} % after six epochs",
            unit="trainings of the published network",
            ours=found.pop(OURS),
            peers=found,
            better="lower",
            repetitions=options.repetitions,
            details={
                "budget": options.budget,
                "reached": {name: sum(map(math.isfinite, v)) for name, v in values.items()},
                "parameters_at": {
                    name: {str(x): median([r.at(x) for r in runs]) for x in (2, 5, 10, 20)}
                    for name, runs in plays.items()
                },
                "parameters_at_end": {name: median(v) for name, v in final.items()},
                "lucky": {name: sum(r.lucky for r in runs) for name, runs in plays.items()},
                "sampler_seconds": {name: round(median([r.seconds for r in runs]), 2) for name, runs in plays.items()},
                "optimum": median(optima),
                "published": ceiling,
                "surrogate": errors,
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, default=ROOT / "results", help="holds curves-DATA.jsonl; plots go there"
    )
    parser.add_argument("--output", type=Path, help="append records here")
    parser.add_argument("--data", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--budget", type=float, default=40, help="compute, in trainings of the published network")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seeds = range(FIRST, FIRST + options.repetitions)
    names = [n for n in CONTENDERS if n in {OURS, PLAIN, *options.contenders}]
    fitted = {data: surrogate(Results(options.results).journal(f"curves-{data}")) for data in options.data}
    with ProcessPoolExecutor(options.processes) as pool:
        futures = {
            (data, name, seed): pool.submit(
                job, Results(options.results).journal(f"curves-{data}"), *TASKS[data][1:], name, seed, options.budget,
            )
            for data in options.data for name in names for seed in seeds
        }  # fmt: skip
        for data in options.data:
            results = {n: [futures[data, n, s].result() for s in seeds] for n in names}
            plays = {name: [run for run, _ in runs] for name, runs in results.items()}
            report(options, data, plays, [best for _, best in results[OURS]], fitted[data].errors)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(ended(main))
