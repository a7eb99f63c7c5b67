"""What each choice of a knob is worth at equal parameters, from recorded curves.

    python scripts/knob_effects.py mnist [--results DIR]

A line is fitted to log(1 - accuracy) over log(parameters) of the study `curves-DATASET`; what is left, averaged over
the networks with one choice, says how much larger or smaller their errors are than those of others of the same size
(-10 % means errors a tenth smaller). Differences of a few per cent are noise: the deviation of the mean is printed.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from side_by_side import ROOT, print_table

from search.journal import read
from search.records import Trial

KNOBS = (
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
    """The slope, each trial with its residual, and the residuals of every (knob, choice)."""
    size = np.log([trial.parameters for trial in trials])
    error = np.log([1 - trial.accuracy_validation for trial in trials])
    slope, level = np.polyfit(size, error, 1)
    residuals = error - level - slope * size
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial, residual in zip(trials, residuals):
        for knob in KNOBS:
            groups[knob, str(getattr(trial.config, knob))].append(residual)
    return slope, list(zip(trials, residuals)), groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=["mnist", "fashion-mnist"])
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    options = parser.parse_args()
    records = read(options.results / f"curves-{options.data}.jsonl")
    trials = [r for r in records if isinstance(r, Trial) and r.state == "complete"]
    slope, ranked, groups = effects(trials)
    print(f"{len(trials)} configurations; errors fall as parameters ** {slope:.2f}")
    rows = [
        [knob, choice, len(values), f"{np.expm1(np.mean(values)):+.0%}", f"{np.std(values) / len(values) ** 0.5:.0%}"]
        for (knob, choice), values in sorted(groups.items(), key=lambda item: (item[0][0], np.mean(item[1])))
        if len(values) > 2
    ]
    print_table("errors at equal parameters", ["knob", "choice", "networks", "error", "+-"], rows)
    best = sorted(ranked, key=lambda pair: pair[1])[:10]
    rows = [
        [t.config.name, f"{t.parameters:,}", f"{t.accuracy_validation:.2%}", f"{np.expm1(r):+.0%}"] for t, r in best
    ]
    print_table("lowest for their size", ["network", "parameters", "accuracy", "error"], rows)


if __name__ == "__main__":
    main()
