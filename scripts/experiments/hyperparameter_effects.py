"""What each choice of a hyperparameter is worth at equal parameters, from recorded curves.

    python -m scripts.experiments.hyperparameter_effects mnist [--results DIR]

Both tables are of the study `curves-DATASET`; -10 % means errors a tenth smaller, and differences of the order of the
standard error that is printed are noise.

The first takes one hyperparameter at a time. A line is fitted to log(1 - accuracy) over log(parameters), and what is
left is averaged over the networks with one choice. The second takes all hyperparameters at once: log(1 - accuracy) is
regressed on them (least squares), which says what a change of one does to errors while the others stay. What it does
to the count is exact, a mean over the networks; together they say what a doubling of parameters buys that are spent in
this way.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.benchmarks.harness import ROOT, ended, print_table
from search.records.jsonl import read
from search.records.models import Trial
from search.records.results import Results
from wavemix.config import LiteConfig

HYPERPARAMETERS = (
    "depth",
    "final_dim",
    "mult",
    "level",
    "shared",
    "upsampling",
    "stride",
    "initial_conv",
    "pad",
    "bias",
    "activation",
)


def effects(trials: list[Trial]) -> tuple[float, list[tuple[Trial, float]], dict[tuple[str, str], list[float]]]:
    """The slope, each trial with its residual, and the residuals of every (hyperparameter, choice)."""
    size = np.log([trial.parameters for trial in trials])
    error = np.log([1 - trial.accuracy_validation for trial in trials])
    slope, level = np.polyfit(size, error, 1)
    residuals = error - level - slope * size
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial, residual in zip(trials, residuals):
        for name in HYPERPARAMETERS:
            groups[name, str(getattr(trial.config, name))].append(residual)
    return slope, list(zip(trials, residuals)), groups


class Change(NamedTuple):
    """`of` a network: how many times it has been made; `made`: what makes it, None where it can't be."""

    of: Callable[[LiteConfig], float]
    made: Callable[[LiteConfig], dict | None]


def choice(name: str, value, instead) -> Change:
    return Change(
        lambda c: float(getattr(c, name) == value), lambda c: {name: value} if getattr(c, name) == instead else None
    )


def twice(*names: str, of: Callable[[LiteConfig], float], where: Callable[[LiteConfig], bool] = lambda c: True):
    return Change(of, lambda c: {name: 2 * getattr(c, name) for name in names} if where(c) else None)


CHANGES = {
    "depth twice": twice("depth", of=lambda c: np.log2(c.depth) * (not c.shared), where=lambda c: not c.shared),
    "depth twice, one block shared": twice(
        "depth", of=lambda c: np.log2(c.depth) * (c.shared == 1), where=lambda c: c.shared == 1
    ),
    "final_dim, ff_channel twice": twice("final_dim", "ff_channel", of=lambda c: np.log2(c.final_dim)),
    "mult twice": twice("mult", of=lambda c: np.log2(c.mult)),
    "ff_channel twice": twice("ff_channel", of=lambda c: np.log2(c.ff_channel / c.final_dim)),
    "level 2 for 1": choice("level", 2, 1),
    "level 3 for 1": choice("level", 3, 1),
    "nearest for bilinear": choice("upsampling", "nearest", "bilinear"),
    "deconv for bilinear": choice("upsampling", "deconv", "bilinear"),
    "stride (1, 1) for (2, 1)": choice("stride", (1, 1), (2, 1)),
    "stride (1, 2) for (2, 1)": choice("stride", (1, 2), (2, 1)),
    "stride (2, 2) for (2, 1)": choice("stride", (2, 2), (2, 1)),
    "separable for strided stem": choice("initial_conv", "separable", "strided"),
    "single for strided stem": choice("initial_conv", "single", "strided"),
    "only needed biases": choice("bias", "needed", "all"),
    "silu for gelu": choice("activation", "silu", "gelu"),
}  # a shared block for blocks of their own is the difference of the first two, times the logarithm of the depth


def changes(trials: list[Trial]) -> list[tuple[str, float, float, float]]:
    """Of each change, the others staying: log of errors, its standard error, and log2 of parameters."""
    x = np.array([[1.0, *(change.of(trial.config) for change in CHANGES.values())] for trial in trials])
    error = np.log([1 - trial.accuracy_validation for trial in trials])
    effect, residual, *_ = np.linalg.lstsq(x, error, rcond=None)
    deviation = np.sqrt(np.diag(np.linalg.inv(x.T @ x)) * residual[0] / (len(x) - x.shape[1]))
    cost = []
    for change in CHANGES.values():
        pairs = [(t.config, change.made(t.config)) for t in trials]
        ratios = [c.model_copy(update=made).parameters() / c.parameters() for c, made in pairs if made is not None]
        cost.append(np.mean(np.log2(ratios)))
    return list(zip(CHANGES, effect[1:], deviation[1:], cost))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=["mnist", "fashion-mnist"])
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    options = parser.parse_args()
    records = read(Results(options.results).journal(f"curves-{options.data}"))
    trials = [r for r in records if isinstance(r, Trial) and r.state == "complete"]
    slope, ranked, groups = effects(trials)
    print(f"{len(trials)} configurations; errors fall as parameters ** {slope:.2f}")
    rows = [
        [name, choice, len(values), f"{np.expm1(np.mean(values)):+.0%}", f"{np.std(values) / len(values) ** 0.5:.0%}"]
        for (name, choice), values in sorted(groups.items(), key=lambda item: (item[0][0], np.mean(item[1])))
        if len(values) > 2
    ]
    print_table("errors at equal parameters", ["hyperparameter", "choice", "networks", "error", "+-"], rows)
    rows = []
    for name, effect, deviation, cost in changes(trials):
        bought = ""
        if cost > 0.2:  # below, there is no telling what a doubling would buy
            per, low, high = (np.expm1((effect + by * deviation) / cost) for by in (0, -2, 2))
            bought = f"{per:+.0%} ({low:+.0%} to {high:+.0%})"
        shares = f"{np.expm1(effect):+.0%}", f"{np.exp(effect) * deviation:.0%}", f"{np.exp2(cost) - 1:+.0%}"
        rows.append([name, *shares, bought])
    titles = ["change", "error", "+-", "parameters", "error for twice the parameters (2 standard errors)"]
    print_table("all hyperparameters at once", titles, rows)
    best = sorted(ranked, key=lambda pair: pair[1])[:10]
    rows = [
        [t.config.name, f"{t.parameters:,}", f"{t.accuracy_validation:.2%}", f"{np.expm1(r):+.0%}"] for t, r in best
    ]
    print_table("lowest for their size", ["network", "parameters", "accuracy", "error"], rows)


if __name__ == "__main__":
    sys.exit(ended(main))
