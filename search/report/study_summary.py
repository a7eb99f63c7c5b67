"""What a report says of one study: its question, its verdict, the facts, its networks. Plain text and data frames."""

from collections.abc import Iterable, Sequence

import pandas as pd

from search.errors import present
from search.records.models import Confirmation, Trial, counted, label
from search.report import tables
from search.report.efficiency import smallest
from search.report.plot_marks import published as rows_of
from search.report.typeset import work

Run = Trial | Confirmation
SHOWN = 20  # trials in a study's table; tables/trials.csv holds all
LEAST = {
    None: "The smallest network",
    "macs": "The network with the fewest MACs",
    "activation-bytes": "The network with the least memory for activations",
    "latency": "The fastest network",
}
COMMANDS = 5  # recorded commands that are shown
TRIAL_COLUMNS = (
    "Trial",
    "Configuration",
    "Parameters",
    "Minimised",
    "Validation",
    "Verdict",
    "Seeds",
    "Epochs",
    "Seconds",
)


def trials_of(runs: Iterable[Run]) -> list[Trial]:
    return [run for run in runs if isinstance(run, Trial)]


def confirmations_of(runs: Iterable[Run]) -> list[Confirmation]:
    return [run for run in runs if isinstance(run, Confirmation)]


def tested(runs: Iterable[Run]) -> Confirmation | None:
    """The test that a study stands for; None where nothing was tested."""
    found = [run for run in confirmations_of(runs) if run.mean is not None]
    return smallest(found, by="objective") if found else None


def question(runs: Sequence[Run]) -> str:
    """What the study asks."""
    first = runs[0]
    if first.target is None:
        return f"How accurate is the network in {label(first.dataset)}?"
    goal = f"{_target(first)} in {label(first.dataset)}"
    if not trials_of(runs):
        return f"Does the network reach {goal}?"
    families = {run.family for run in runs}
    family = f" of the {first.family} family" if len(families) == 1 else ""
    return f"{LEAST[first.minimised and first.minimised.name]}{family} that reaches {goal}."


def verdict(runs: Sequence[Run]) -> tuple[str, str]:
    """('yes' | 'no' | 'open', one sentence): what the runs of one study come to."""
    best = tested(runs)
    return _tested_verdict(runs, best) if best is not None else ("open", _untested_verdict(trials_of(runs)))


def _tested_verdict(runs: Sequence[Run], best: Confirmation) -> tuple[str, str]:
    low, high = map(best.score.shown, best.clipped or (0, 0))
    interval = f", 95 % interval {low} to {high}" if best.clipped else ""
    target = "" if best.target is None else f", target {_target(best)}"
    said = (
        f"{best.size}, {best.score.shown(present(best.mean))} on the test set "
        f"(mean of {counted(best.n)}{interval}){target}."
    )
    attempts = len(confirmations_of(runs))
    tried = f" The test set was used for {attempts} attempts." if attempts > 1 else ""
    rows = [row for row in rows_of(runs) if row.target == best.target]
    published = f" Upstream publishes {rows[0].parameters:,}." if rows and best.reached else ""
    states = {"confirmed": "yes", "reached": "open", "missed": "no", "tested": "open"}
    word = "Reached, not confirmed" if best.verdict == "reached" else best.verdict.capitalize()
    return states[best.verdict], f"{word}: {said}{published}{tried}"


def _untested_verdict(trials: Sequence[Trial]) -> str:
    reached = [run for run in trials if run.feasible]
    if reached:
        small = min(reached, key=lambda run: run.objective)
        reaches = small.score.shown(present(small.accuracy_validation))
        return f"Not tested yet: {small.size} reach {reaches} on validation images, target {_target(small)}."
    complete = [run for run in trials if run.state == "complete" and run.accuracy_validation is not None]
    if complete:
        near = max(complete, key=lambda run: present(run.accuracy_validation))
        has = near.score.shown(present(near.accuracy_validation))
        return (
            f"Not reached: the nearest trial has {has} on validation images with {near.size}, target {_target(near)}."
        )
    return "Nothing to judge: no trial was completed."


def facts(runs: Sequence[Run]) -> dict[str, str]:
    """What the runs were made with, each difference between them shown; what no record holds is left out."""

    def all_of(values: Iterable[str | None]) -> str:
        return "; ".join(dict.fromkeys(value for value in values if value))

    trials = trials_of(runs)
    states = {state: sum(r.state == state for r in trials) for state in ("complete", "pruned", "refused", "failed")}
    seconds = sum(r.device_seconds for r in runs)
    times = [r.created for r in runs]
    found = {
        "Data": all_of(f"{label(r.dataset)}, {r.dataset.variant}" for r in runs),
        "Images": all_of(map(_images, runs)),
        "Digest (training)": all_of(r.dataset.digest for r in runs),
        "Digest (test)": all_of(r.dataset.test_digest for r in runs),
        "Trials": ", ".join([f"{len(trials):,} in all", *(f"{n:,} {state}" for state, n in states.items() if n)]),
        "Training time": f"{seconds:,.0f} s on the device, all runs"
        if seconds < 7200
        else f"{seconds / 3600:,.1f} h on the device, all runs",
        "Recorded": f"{min(times):%Y-%m-%d %H:%M} to {max(times):%Y-%m-%d %H:%M} UTC",
        "Machine": all_of(f"{r.environment.device}, {counted(r.environment.cores, 'core')}" for r in runs),
        "Software": all_of(
            f"Python {r.environment.python}, torch {r.environment.torch}, optuna {r.environment.optuna}" for r in runs
        ),
        "Commit": all_of(
            r.environment.git_commit and r.environment.git_commit + (" with changes" if r.environment.dirty else "")
            for r in runs
        ),
    }
    return {name: value for name, value in found.items() if value}


def _images(run: Run) -> str:
    data = run.dataset
    parts = [f"{data.train_count:,} for training"]
    if data.validation_count:
        parts.append(f"{data.validation_count:,} for validation (split seed {data.split_seed})")
    if data.test_count:
        parts.append(f"{data.test_count:,} for testing")
    return ", ".join(parts)


def confirmation_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Every test of the study, in the order in which they were made."""
    rows = [
        {
            "Configuration": r.config.name,
            "Family": r.family,
            "Parameters": r.parameters,
            "Accuracy": r.mean,
            "95 % low": r.clipped and r.clipped[0],
            "95 % high": r.clipped and r.clipped[1],
            "Min": r.min,
            "Max": r.max,
            "Seeds": r.n,
            "Verdict": r.verdict,
            "Confidence": r.target and r.judgement.confidence,
            "Adjusted confidence": r.target and r.judgement.adjusted,
            "Attempt": r.attempt,
            **work(r.cost),
            "Reason": r.reason,
        }
        for r in confirmations_of(runs)
    ]
    return pd.DataFrame(rows, dtype=object)


def trial_table(runs: Sequence[Run]) -> tuple[pd.DataFrame, str] | None:
    """The feasible trials from the smallest on, then those that came nearest; and a note on those left out."""
    trials = trials_of(runs)
    finished = [r for r in trials if r.state == "complete" and r.accuracy_validation is not None]
    if not finished:
        return None
    finished.sort(key=lambda r: (not r.feasible, r.objective if r.feasible else -present(r.accuracy_validation)))
    shown = finished[:SHOWN]
    frame = pd.concat([tables.study([r]) for r in shown], ignore_index=True)
    frame["Verdict"] = ["reaches the target" if r.feasible else "misses it" for r in shown]
    left = len(trials) - len(shown)
    note = f"{left:,} other trials, pruned and refused ones included, are in tables/trials.csv." if left else ""
    return frame.loc[:, [column for column in TRIAL_COLUMNS if column in frame]], note


def recorded_commands(runs: Sequence[Run]) -> tuple[list[str], int]:
    """The commands that made the records, the first few of them, and how many more there are."""
    commands = list(dict.fromkeys(run.environment.command for run in runs))
    return commands[:COMMANDS], max(0, len(commands) - COMMANDS)


def _target(run: Run) -> str:
    return run.score.goal(present(run.target))
