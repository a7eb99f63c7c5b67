"""Tables and blocks that commands print: of studies, trials and reproductions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Group

from search.cli.listing import Block, Listing
from search.cli.panel import named
from search.errors import present
from search.records.costs import CostName, Minimised, cost_shown, size_shown
from search.records.jsonl import Record
from search.records.models import Confirmation, Reproduction, Trial, at_each_target, numbered
from search.report.efficiency import deciding
from search.study.handle import StudyHandle
from search.study.setting import Setting
from search.study.targets import listed, reached
from search.tasks.score import SCORES


def facts(study: StudyHandle) -> dict[str, Any]:
    """How a study goes, as JSON can hold it."""
    trials = study.trials()
    cost, targets = study.identity.get("minimise", "parameters"), listed(study.identity["target"])
    counts: dict[str, int] = {}
    for trial in trials:
        dropped = trial.state == TrialState.FAIL and "record" not in trial.user_attrs  # untried
        state = "dropped" if dropped else trial.state.name.lower()
        counts[state] = counts.get(state, 0) + 1
    smallest = {target: _smallest(trials, cost, targets, target) for target in targets}
    front = [{"target": target, **(best or {})} for target, best in smallest.items()]
    return {
        "study": study.name,
        "data": study.source,
        "target": study.identity["target"],
        "family": study.identity["family"],
        "minimise": cost,
        "limits": study.identity.get("limits", {}),
        "stopped": study.stopped,
        "trials": len(trials),
        "states": counts,
        "workers": _by_worker(trials),
        "smallest_feasible": smallest[targets[-1]],
    } | ({"front": front} if len(targets) > 1 else {})


def _smallest(trials: list[FrozenTrial], cost: CostName, targets: list[float], target: float) -> dict[str, Any] | None:
    """The cheapest trial that is feasible for one of the study's targets; None where there is none."""
    feasible = [t for t in trials if t.state == TrialState.COMPLETE and target in reached(t, targets)]
    best = min(feasible, key=lambda t: t.user_attrs[cost], default=None)
    if best is None:
        return None
    sizes = {name: best.user_attrs[name] for name in dict.fromkeys(("parameters", cost))}
    return {**sizes, "accuracy": best.value, "trial": best.number}


def standing(study: StudyHandle) -> Group:
    """The same for a person, and what each worker does: what `wavemix status` shows."""
    found = facts(study)
    stopped, targets = found["stopped"], listed(found["target"])
    score, cost = SCORES[study.reading.task], found["minimise"]
    shown = {
        "data": found["data"],
        "target": ", ".join(f"{target:g}" for target in targets),
        "family": found["family"],
        "state": f"stopped at {stopped[:16]}" if stopped else "open",
        "trials": ", ".join(f"{count} {state}" for state, count in found["states"].items()) or "none",
    }
    for target, best in zip(targets, found.get("front") or [found["smallest_feasible"] or {}]):
        name = "smallest feasible" + f" at {target:g}" * (len(targets) > 1)
        shown[name] = "none yet"
        if "trial" in best:
            minimised = None if cost == "parameters" else Minimised(name=cost, value=best[cost])
            size = size_shown(best["parameters"], minimised)
            shown[name] = f"{size}, {score.shown(best['accuracy'])}, trial {best['trial']}"
    return Group(Block(study.name, shown), _workers(found["workers"]))


def _by_worker(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """What each worker does: its running trials, how many it has ended, and the seconds since its last sign of life."""
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if "worker" in trial.user_attrs:
            groups.setdefault(trial.user_attrs["worker"], []).append(trial)
    rows = []
    for worker, group in groups.items():
        signs = [t.user_attrs["beat"] for t in group if "beat" in t.user_attrs]
        seconds = (datetime.now(UTC) - datetime.fromisoformat(max(signs))).total_seconds() if signs else None
        running = [t.number for t in group if t.state == TrialState.RUNNING]
        finished = sum(t.state.is_finished() for t in group)
        rows.append({"worker": worker, "running": running, "finished": finished, "seconds_ago": seconds})
    return rows


def _workers(rows: Sequence[Mapping[str, Any]]) -> Listing:
    table = Listing("worker", "running trial", "finished trials", "last sign of life")
    for row in rows:
        ago = "-" if row["seconds_ago"] is None else f"{max(0, row['seconds_ago']):.0f} s ago"
        table.add_row(row["worker"], ", ".join(map(str, row["running"])) or "-", str(row["finished"]), ago)
    return table


def summary(setting: Setting, trials: Iterable[FrozenTrial]) -> Listing:
    """The ten smallest trials of a study that reach a target and the ten misses that came nearest to it."""
    score, cost = setting.task.score, setting.costs.minimise
    goals = ", ".join(map(score.goal, setting.targets))
    table = Listing(title=f"{setting.data.label}, target {goals}, {setting.family} family")
    costs = dict.fromkeys((cost, "parameters"))
    for column in ("trial", "configuration", *costs, "validation", "verdict"):
        title = "latency, ms" if column == "latency" else column
        table.add_column(title, justify="left" if column in ("configuration", "verdict") else "right")
    done = [t for t in trials if t.value is not None and "feasible" in t.user_attrs]
    done.sort(key=lambda t: t.user_attrs[cost])
    passed = [t for t in done if reached(t, setting.targets)]
    misses = sorted((t for t in done if not reached(t, setting.targets)), key=lambda t: -present(t.value))
    for trial in sorted(passed[:10] + misses[:10], key=lambda t: t.user_attrs[cost]):
        config, choices = setting.trained(trial.params)[0], setting.tuning.text(trial.params)
        sizes = [cost_shown(kind, trial.user_attrs[kind]).partition(" ")[0] for kind in costs]
        outcome = _outcome(reached(trial, setting.targets), setting)
        table.add_row(str(trial.number), named(config, choices), *sizes, score.shown(trial.value), outcome)
    return table


def _outcome(those: list[float], setting: Setting) -> str:
    if not those:
        return "misses it" if len(setting.targets) == 1 else "misses them"
    if len(setting.targets) == 1:
        return "reaches the target"
    return f"reaches {', '.join(map(setting.task.score.goal, those))}"


def overview(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What the records hold, one row a study, data set and target; counts are the fewest parameters."""
    groups: dict[tuple, list[Trial | Confirmation]] = {}
    for record in at_each_target(numbered(records)):
        if isinstance(record, (Trial, Confirmation)):
            groups.setdefault((record.study, record.dataset.label, record.target), []).append(record)
    rows = []
    for (name, label, target), group in groups.items():
        trials = [r for r in group if isinstance(r, Trial)]
        row = {"study": name, "data": label, "target": target, "trials": len(trials)}
        row["pruned"] = sum(r.state == "pruned" for r in trials)
        row["smallest_feasible"] = min((r.parameters for r in trials if r.feasible), default=None)
        tested = deciding(r for r in group if isinstance(r, Confirmation))
        for verdict in ("reached", "confirmed"):
            row[verdict] = min((r.parameters for r in tested if r.verdict == verdict), default=None)
        rows.append(row)
    return rows


def studies(rows: Sequence[Mapping[str, Any]]) -> Listing:
    """The rows of `overview` as a table."""
    table = Listing("study", "data")
    for column in ("target", "trials", "pruned", "smallest feasible", "reached", "confirmed"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["study"],
            row["data"],
            "-" if row["target"] is None else f"{row['target']:g}",
            str(row["trials"]),
            str(row["pruned"]),
            *("-" if row[name] is None else f"{row[name]:,}" for name in ("smallest_feasible", "reached", "confirmed")),
        )
    return table


def comparison(record: Reproduction) -> list[str]:
    """Recorded and new accuracies side by side, seed by seed, and the verdict."""
    score, lines = record.score, [f"{'seed':>9}   recorded        now"]
    for seed, old, new in zip(record.seeds, record.recorded, record.accuracies):
        lines.append(f"{seed:>9}  {score.shown(old):>9}  {score.shown(new):>9}")
    if record.mean is None:
        return [*lines, f"not reproduced: {record.reason}"]
    old = sum(record.recorded) / len(record.recorded)
    lines.append(f"{'mean':>9}  {score.shown(old):>9}  {score.shown(record.mean):>9}")
    again = "reached again" if record.reached else f"missed by {score.difference(record.target - record.mean)}"
    return [
        *lines,
        f"{'reproduced' if record.reached else 'not reproduced'}: target {score.goal(record.target)} {again}",
    ]
