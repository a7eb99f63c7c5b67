"""A study of 10,000 finished trials: seconds to open it, and of one suggestion with its reports and its end.

    python -m scripts.benchmarks.storage [--storage URL] [--trials 10000] [--output FILE]

The trials have the extended family's knobs, six reported epochs each, a third of them pruned. Without --storage, SQLite
in a temporary directory. The study is made by Optuna itself, one transaction a trial, which takes minutes; a study of
the same name in the storage is used again. What is measured is one worker's turn as `wavemix search` takes it: ask,
report and test for pruning after each epoch, tell; the training between them is left out.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from scripts.benchmarks.harness import print_table, record
from search.records.environment import mask
from search.sampling.sampler import FrontierPruner, FrontierSampler
from search.space.candidates import Pool
from search.space.configurations import Space
from search.space.recipe_choices import Tuning
from search.training.recipe import Recipe

EPOCHS, TARGET, CEILING = 6, 0.98, 7156


def trials(space: Space, count: int) -> list[FrozenTrial]:
    """Finished trials of random configurations with plausible curves."""
    rng, configs = random.Random(0), space.configurations(1, CEILING)
    distributions = {name: CategoricalDistribution(values) for name, values in space.knobs.items()}
    made = []
    for number in range(count):
        config, pruned = configs[number % len(configs)], number % 3 == 0
        end = 1 - 0.02 * (CEILING / config.parameters()) ** 0.8 * rng.lognormvariate(0.2, 0.2)
        curve = {e: 1 - min(0.9, (1 - end) * 2 ** (1 - e / EPOCHS)) for e in range(1, 3 if pruned else EPOCHS + 1)}
        made.append(
            create_trial(
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                value=None if pruned else curve[EPOCHS],
                params=space.knobs_of(config),
                distributions=distributions,
                user_attrs={"parameters": config.parameters()},
                intermediate_values=curve,
            )
        )
    return made


def frontier(space: Space, finished: Callable[[], int]) -> FrontierSampler:
    """As a search has it."""
    pool = Pool(space, Tuning(Recipe()), 0, finished)
    return FrontierSampler(space.knobs, pool.below, TARGET, CEILING, near=pool.near, epochs=EPOCHS)


def turn(study: optuna.Study, space: Space) -> dict[str, float]:
    """Seconds of the parts of one worker's turn."""
    times = [time.perf_counter()]
    study.sampler.unseen(study)
    trial = study.ask({name: CategoricalDistribution(values) for name, values in space.knobs.items()})
    times.append(time.perf_counter())
    trial.set_user_attr("parameters", space.build(trial.params).parameters())
    study.sampler.incumbent(study)
    for epoch in range(1, EPOCHS + 1):
        trial.report(0.9 + 0.01 * epoch, epoch)
        trial.should_prune()
    times.append(time.perf_counter())
    study.tell(trial, 0.96)
    times.append(time.perf_counter())
    return dict(zip(("suggest", "report", "tell"), (end - start for start, end in zip(times, times[1:]))))


def measure(url: str, count: int, repetitions: int) -> dict[str, float]:
    space = Space("extended", (1, 28, 28), 10, CEILING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = f"benchmark-{count}"
    study = optuna.create_study(storage=url, study_name=name, direction="maximize", load_if_exists=True)
    have = len(study.get_trials(deepcopy=False))
    study.add_trials(trials(space, count)[have:])
    ended = [count]
    sampler = frontier(space, lambda: ended[0])
    start = time.perf_counter()
    study = optuna.load_study(storage=url, study_name=name, sampler=sampler, pruner=FrontierPruner(sampler))
    study.get_trials(deepcopy=False)
    opened = time.perf_counter() - start
    turns = []
    for _ in range(repetitions):
        turns.append(turn(study, space))
        ended[0] += 1
    found = {part: statistics.median(t[part] for t in turns) for part in turns[0]}
    return {"open": opened, "first": sum(turns[0].values()), **found, "turn": sum(found.values())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", help="an Optuna storage URL; default: SQLite in a temporary directory")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=10, help="turns; medians count")
    parser.add_argument("--output", type=Path, help="append a record here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.storage or f"sqlite:///{folder}/study.db"
        found = measure(url, options.trials, options.repetitions)
    kind = url.split(":")[0].split("+")[0]
    print_table(
        f"{options.trials:,} finished trials, {mask(url) if options.storage else kind}: seconds",
        ["", *found],
        [["frontier", *(f"{seconds:.3f}" for seconds in found.values())]],
    )
    if options.output:
        record(
            options.output,
            name=f"one trial's turn after {options.trials:,} finished trials, {kind}",
            unit="s",
            ours=found["turn"],
            better="lower",
            repetitions=options.repetitions,
            details={f"{part}_seconds": seconds for part, seconds in found.items()},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
